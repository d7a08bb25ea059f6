"""How tasks end: results go to clients first, the books are kept after; some are tried again, or taken back. No I/O."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from enginery.core import faults
from enginery.core import logbook as entries
from enginery.core.actions import To
from enginery.core.ledger import Ending
from enginery.wire.messages import CLIENT_SHIFT, LACKS, Abort, Result, Status

if TYPE_CHECKING:
    from enginery.core.engines import ClientRecord, EngineRecord
    from enginery.core.scheduler import Scheduler
    from enginery.core.tasks import Rare
    from enginery.wire.messages import Task

#: Tasks that are looked for one by one at every engine.
FEW: Final = 10


class Outcomes:
    """Sees to results for a scheduler, and keeps its books."""

    __slots__ = ("_scheduler", "_unsettled")

    def __init__(self, scheduler: Scheduler) -> None:
        self._scheduler = scheduler
        self._unsettled: list[tuple[EngineRecord, list[Task | None], list[Result], list[int]]] = []

    def results_arrived(self, engine: EngineRecord, results: list[Result], frames: list[object], now: float) -> None:
        """Results from an engine, in the order the tasks ended. Results for tasks it does not hold are dropped."""
        # Hot: bulk operations for plain successes of one client, task by task for all else. Bench: no-op tasks.
        scheduler = self._scheduler
        engine.progressed = now
        if not results:
            return
        engine.stuck = engine.asked_back = False
        engine.completed += len(results)
        take = engine.balanced.pop
        ids = [result.id for result in results]
        tasks = [take(number, None) for number in ids]
        client = ids[0] >> CLIENT_SHIFT
        if (
            not frames
            and None not in tasks
            and not any([result.status for result in results])  # noqa: C419 - a list is twice as fast
            and client == ids[-1] >> CLIENT_SHIFT
            and (not scheduler.mixed or min(ids) >> CLIENT_SHIFT == max(ids) >> CLIENT_SHIFT)
        ):
            # The client gets its results first; the books are kept while they travel.
            if client in scheduler.clients:
                scheduler.outbox.results(client, engine.info.id)[0].extend(results)
            if scheduler.logbook is not None:
                scheduler.logbook.note(entries.Ended(engine.info.id, results))
            self._unsettled.append((engine, tasks, results, ids))
            return
        self.settle()
        at = 0
        for task, result in zip(tasks, results, strict=True):
            mine = frames[at : at + result.frames]
            at += result.frames
            self._take_result(engine, task, result, mine)
        scheduler.dealer.refresh(engine)

    def settle(self) -> None:
        """Keep the books on results that were handed on; to be called once the actions of a turn are performed."""
        scheduler = self._scheduler
        while self._unsettled:
            unsettled, self._unsettled = self._unsettled, []
            for engine, tasks, results, ids in unsettled:
                self._learn(engine, tasks, results)
                if scheduler.journal is not None:
                    scheduler.journal.succeeded(engine.info, tasks, results, scheduler.book.frames)  # type: ignore[arg-type]  # all there
                self._succeed(engine, ids)
                scheduler.dealer.refresh(engine)
        scheduler.dealer.settle()
        if scheduler.fleet.retiring:
            scheduler.fleet.dismiss()

    def _learn(self, engine: EngineRecord, tasks: list[Task | None], results: list[Result]) -> None:
        """Take run times in, function by function."""
        scheduler = self._scheduler
        functions = {task.function for task in tasks if task is not None}
        if len(functions) == 1:
            spent = sum([result.finished - result.started for result in results])
            scheduler.dealer.ended(engine, functions.pop(), len(results), spent)
            return
        for task, result in zip(tasks, results, strict=True):
            if task is not None:
                scheduler.dealer.ended(engine, task.function, 1, result.finished - result.started)

    def _succeed(self, engine: EngineRecord, ids: list[int]) -> None:
        """Balanced tasks of one client have ended well, without frames."""
        scheduler = self._scheduler
        client, book = ids[0] >> CLIENT_SHIFT, scheduler.book
        forget = book.tasks.__delitem__
        for number in ids:
            forget(number)
        if book.rare or book.frames:
            for number in ids:
                rare = book.rare.pop(number, None)
                if rare is not None and rare.attempts:
                    scheduler.stories.keep(number, rare, Result(number, Status.OK, b""), engine.info.id)
                if rare is not None and rare.values:
                    scheduler.places.used(rare.values)
                book.frames.pop(number, None)
        record = scheduler.clients.get(client)
        if record is not None:
            record.ledger.note_successes(ids, engine.info.id, record.highest)
        scheduler.counts["ended"] += len(ids)
        if scheduler.admission:
            ending = Ending(ok=True, engine=engine.info.id)
            for number in ids:
                scheduler.admission.wake(number, ending)

    def _take_result(self, engine: EngineRecord, task: Task | None, result: Result, frames: list[object]) -> None:
        """One result of any kind. ``task`` has left the engine's balanced tasks if it stood there."""
        scheduler = self._scheduler
        number = engine.info.id
        direct = task is None
        if task is None:
            task = engine.direct.pop(result.id, None)
            if task is None:
                scheduler.counts["stale"] += 1
                return
            engine.paused.discard(task.id)
            scheduler.places.direct_ended(engine, task, result)
        else:
            ran = result.finished - result.started if result.started else None
            scheduler.dealer.ended(engine, task.function, 1, ran)
        if result.status and not direct and self._may_retry(task, result, number):
            return
        self.finish(task, result, frames, number)

    def _may_retry(self, task: Task, result: Result, engine: int) -> bool:
        """Whether a failed balanced task goes back to the queue instead of ending."""
        scheduler = self._scheduler
        fault = result.fault
        unmet = fault is not None and fault.kind == "UnmetDependency"
        rare = scheduler.book.rare.get(task.id)
        if result.status == Status.ABORTED or (rare is None and not unmet):
            return False
        rare = scheduler.book.rare_of(task.id)
        lacks = fault is not None and fault.kind == LACKS
        if fault is not None and lacks:
            fault.kind = "remote"
            rare.unsuited |= {engine}
            unmet = scheduler.places.is_elsewhere(task, rare)
        if rare.stopping or not (unmet or rare.retries_left > 0):
            return False
        if lacks:
            pass
        elif fault is not None and unmet:
            rare.unsuited |= {engine}
            if not scheduler.dealer.suited(rare):
                result.status = Status.UNRUNNABLE
                result.fault = faults.impossible(rare, f"No engine meets its requirement: {fault.evalue.rstrip('.')}.")
                return False
        else:
            rare.excluded.add(engine)
            rare.retries_left -= 1
            scheduler.counts["retried"] += 1
        what = f"{fault.ename}: {fault.evalue}" if fault is not None else "failed"
        rare.note_attempt(f"engine {engine} ({what[:200]})")
        self.note_attempt(task.id, rare)
        scheduler.place(task, front=True)
        return True

    def finish(self, task: Task, result: Result, frames: list[object], engine: int) -> None:
        """A result goes to the task's client, and the ending to those that wait for it."""
        scheduler = self._scheduler
        rare = scheduler.book.rare.get(task.id)
        if (rare is not None and rare.attempts) or (result.status and result.status != Status.ABORTED):
            scheduler.stories.keep(task.id, rare, result, engine)
        if scheduler.journal is not None and task.id >> CLIENT_SHIFT:
            holder = scheduler.engines.get(engine)
            info = holder.info if holder is not None else scheduler.fleet.departing
            scheduler.journal.finished(info, task, result, scheduler.book.frames.get(task.id, ()), frames)
        scheduler.book.remove(task.id)
        if scheduler.logbook is not None:
            scheduler.logbook.note(entries.Ended(engine, [result]), frames)
        ending = Ending(ok=not result.status, engine=engine)
        scheduler.counts["ended"] += 1
        scheduler.counts["failed"] += not ending.ok
        client = scheduler.clients.get(task.id >> CLIENT_SHIFT)
        if client is not None:
            client.ledger.note(task.id, ending, client.highest)
            batch, out = scheduler.outbox.results(client.number, engine)
            batch.append(result)
            out += frames
        elif not task.id >> CLIENT_SHIFT:
            scheduler.places.fetched(task.id, result, frames)
        if rare is not None and rare.values:
            scheduler.places.used(rare.values)
        scheduler.places.look_again()
        if scheduler.admission:
            scheduler.admission.wake(task.id, ending)

    def put_back(self, task: Task, rare: Rare | None) -> None:
        """An engine had a task and did not begin it: it stands in front again, unless its client has taken it back."""
        scheduler = self._scheduler
        if rare is not None and rare.stopping:
            scheduler.end(task, faults.aborted(task.id, "The task was aborted before it began."))
        else:
            scheduler.place(task, front=True)

    def note_attempt(self, task: int, rare: Rare, *, held: bool = False) -> None:
        """Write down what is left to a task; ``held``: its engine has it still."""
        scheduler = self._scheduler
        if scheduler.logbook is not None:
            scheduler.logbook.note(entries.tried(task, rare, held=held))

    def abort_requested(self, client: ClientRecord, ids: list[int], *, interrupt: bool = False) -> None:
        """A client takes tasks of its own back. Those no engine has end at once; for the others engines are told."""
        scheduler = self._scheduler
        self.settle()
        at_engines: dict[int, list[int]] = {}
        holders = self._holders(ids)
        for number in ids:
            task = scheduler.book.tasks.get(number)
            if task is None or number >> CLIENT_SHIFT != client.number:
                continue
            engine = holders.get(number)
            if engine is None:
                fault = faults.aborted(number, "The task was aborted before it began.")
                scheduler.end(task, fault, queued=number not in scheduler.book.waiting)
            else:
                rare = scheduler.book.rare_of(number)
                rare.retries_left = 0
                rare.stopping = True
                self.note_attempt(number, rare, held=True)
                at_engines.setdefault(engine.info.id, []).append(number)
        for holder, numbers in at_engines.items():
            scheduler.outbox.send(To.ENGINE, holder, Abort(numbers, interrupt))

    def _holders(self, ids: list[int]) -> dict[int, EngineRecord]:
        """Which engines hold some tasks: by looking for each task, or through what engines hold, whichever is less."""
        scheduler = self._scheduler
        if len(ids) < FEW:
            found = [(number, scheduler.locate(number)[1]) for number in ids]
            return {number: engine for number, engine in found if engine is not None}
        wanted = set(ids)
        return {
            number: engine
            for engine in scheduler.engines.values()
            for held in (engine.balanced, engine.direct)
            for number in wanted.intersection(held)
        }
