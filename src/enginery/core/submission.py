"""Tasks come in from clients: each id once, put into the book, and on their way to lanes or engines. No I/O."""

from __future__ import annotations

from typing import TYPE_CHECKING

from enginery.core import faults
from enginery.core import logbook as entries
from enginery.wire.messages import Action, Status, Task

if TYPE_CHECKING:
    from enginery.core.engines import ClientRecord
    from enginery.core.scheduler import Scheduler
    from enginery.wire.messages import Request


class Submission:
    """Takes tasks in for a scheduler."""

    __slots__ = ("_scheduler",)

    def __init__(self, scheduler: Scheduler) -> None:
        self._scheduler = scheduler

    def tasks_submitted(self, client: ClientRecord, tasks: list[Task], frames: list[object], now: float) -> None:
        """A client submits balanced tasks, in ascending order of ids. Ids outside its range or used are stale."""
        # Hot: bulk operations only. Bench: no-op tasks.
        scheduler = self._scheduler
        base, lane = client.number, scheduler.dealer.general
        if frames:
            self._keep_frames(tasks, frames)
        if len(tasks) == 1 and tasks[0].options is None and client.claim(tasks[0].id, 1):
            task = tasks[0]
            scheduler.counts["submitted"] += 1
            scheduler.book.tasks[task.id] = task
            if scheduler.logbook is not None:
                scheduler.logbook.note(entries.Accepted(tasks), frames)
            if not scheduler.dealer.offer(task, now, scheduler.outbox):
                lane.push(task)
            return
        ids = [task.id for task in tasks]
        consecutive = bool(ids) and ids[-1] - ids[0] == len(ids) - 1 and ids == list(range(ids[0], ids[-1] + 1))
        if not consecutive or not client.claim(ids[0], len(ids)):
            tasks = self._claim_each(client, tasks)
        scheduler.counts["submitted"] += len(tasks)
        scheduler.book.tasks.update([(task.id, task) for task in tasks])
        if scheduler.logbook is not None and tasks:
            kept = scheduler.book.frames
            owned = [frame for task in tasks if task.frames for frame in kept[task.id]] if frames else []
            scheduler.logbook.note(entries.Accepted(tasks), owned)
        special = [at for at, task in enumerate(tasks) if task.options is not None]
        begin = 0
        for at in special:  # order within a client is kept: what came before this task is queued before it
            lane.extend(base, tasks[begin:at])
            begin = at + 1
            scheduler.admission.admit(tasks[at], now)
        lane.extend(base, tasks[begin:] if special else tasks)

    def _claim_each(self, client: ClientRecord, tasks: list[Task]) -> list[Task]:
        """Those whose ids are fresh; the others were sent twice, or are not the client's."""
        scheduler = self._scheduler
        fresh = [task for task in tasks if client.claim(task.id, 1)]
        scheduler.counts["stale"] += len(tasks) - len(fresh)
        for number in {task.id for task in tasks} - {task.id for task in fresh}:
            if number not in scheduler.book.tasks:
                scheduler.book.frames.pop(number, None)
        return fresh

    def _keep_frames(self, tasks: list[Task], frames: list[object]) -> None:
        at = 0
        for task in tasks:
            if task.frames:
                self._scheduler.book.frames[task.id] = frames[at : at + task.frames]
                at += task.frames

    def requests_submitted(
        self, client: ClientRecord, requests: list[Request], frames: list[object], now: float = 0.0
    ) -> None:
        """A client addresses tasks to engines. Each engine gets its copy, with consecutive ids."""
        scheduler = self._scheduler
        at = 0
        for request in requests:
            task, count = request.task, len(request.targets)
            mine = frames[at : at + task.frames]
            at += task.frames
            if not client.claim(task.id, count):
                scheduler.counts["stale"] += count
                continue
            scheduler.counts["submitted"] += count
            if scheduler.logbook is not None:
                copies = [_copy(task, task.id + index) for index in range(count)]
                scheduler.logbook.note(entries.Accepted(copies, request.targets), mine * count)
            for index, target in enumerate(request.targets):
                self._address(task if not index else _copy(task, task.id + index), mine, target, now)

    def _address(self, task: Task, frames: list[object], target: int, now: float) -> None:
        scheduler = self._scheduler
        scheduler.book.tasks[task.id] = task
        if scheduler.journal is not None:
            scheduler.journal.direct.add(task.id)
        if frames and (scheduler.journal is not None or scheduler.logbook is not None):
            scheduler.book.frames[task.id] = frames  # another controller may have to send them again
        if task.options is not None and task.options.values:
            scheduler.places.use(scheduler.book.rare_of(task.id), task.options.values)
        if task.action == Action.FETCH:
            scheduler.places.fetch(task, target)
            return
        engine = scheduler.engines.get(target)
        if engine is None:
            scheduler.end(
                task, faults.result_of(task.id, Status.LOST, faults.no_such_engine(target, sorted(scheduler.engines)))
            )
            return
        if task.function and task.function not in engine.functions:
            scheduler.dealer.bodies.introduce(engine, task.function, scheduler.outbox)
        batch, out = scheduler.outbox.assignment(target, direct=True)
        batch.tasks.append(task)
        out += frames
        if not engine.load:
            engine.progressed = now
        engine.direct[task.id] = task
        if task.action == Action.PUSH:
            scheduler.places.will_have(engine, task)
        scheduler.dealer.refresh(engine)


def _copy(task: Task, number: int) -> Task:
    return Task(number, task.action, task.function, task.payload, task.frames, task.options, task.shared)
