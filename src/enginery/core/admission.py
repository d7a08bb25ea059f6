"""Whether and when a task with options may run: targets, dependencies, their timeouts. No I/O."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Final

from enginery.core import faults
from enginery.core.dependencies import Graph, Verdict, Wait
from enginery.core.ledger import Ending
from enginery.wire.messages import CLIENT_SHIFT

if TYPE_CHECKING:
    from enginery.core.scheduler import Scheduler
    from enginery.core.tasks import Rare
    from enginery.wire.messages import Dependency, Task


_OPEN: Final = Verdict.OPEN


class Admission:
    """Tasks that have to wait, and what they wait for. True while any does."""

    __slots__ = ("_graph", "_scheduler", "_settling")

    def __init__(self, scheduler: Scheduler) -> None:
        self._scheduler = scheduler
        self._graph = Graph()
        self._settling: deque[tuple[int, Ending]] = deque()

    def __bool__(self) -> bool:
        return bool(self._graph)

    def admit(self, task: Task, now: float) -> None:
        """Take in a submitted task with options: it becomes ready, waits, or ends at once."""
        options = task.options
        assert options is not None
        scheduler, book = self._scheduler, self._scheduler.book
        needs = options.names or options.values
        if not (options.retries or options.targets is not None or options.after or options.follow or needs):
            scheduler.place(task)
            return
        rare = self._begin(task)
        if options.after is not None and not self._await(task, options.after):
            return
        if options.follow is not None and not self._await(task, options.follow, follow=True):
            return
        if needs:
            scheduler.places.admit(task, now)
        if not rare.unmet:
            scheduler.place(task)
            return
        book.waiting[task.id] = task
        if options.timeout is not None and options.timeout < float("inf"):  # nor if it is not a number
            scheduler.wake_at(now + options.timeout, task.id)

    def recall(self, task: Task, now: float) -> None:
        """Note the restrictions of a task that an engine had been given before the controller was restarted."""
        del now
        options = task.options
        assert options is not None
        if not (options.retries or options.targets is not None or options.after or options.follow):
            return
        rare = self._begin(task)
        if options.follow is not None and options.follow.ids:
            places = {self._ending(number).engine for number in options.follow.ids} - {-1}
            rare.place = frozenset(places) or None

    def _ending(self, number: int) -> Ending:
        client = self._scheduler.clients.get(number >> CLIENT_SHIFT)
        return client.ledger.read(number, client.highest) if client is not None else Ending(ok=True, engine=-1)

    def _begin(self, task: Task) -> Rare:
        """The side record of a task. One that is there already tells of earlier attempts."""
        options, book = task.options, self._scheduler.book
        assert options is not None
        is_new = task.id not in book.rare
        rare = book.rare_of(task.id)
        if is_new:
            rare.retries_left = options.retries
        if options.targets is not None:
            rare.targets = frozenset(options.targets)
        return rare

    def wake(self, ended: int, ending: Ending) -> None:
        """A task has ended: settle those that wait for it, and those that wait for the ones that fail by it."""
        if ended not in self._graph:
            return
        self._settling.append((ended, ending))
        if len(self._settling) > 1:
            return  # the call further out goes on with it; recursion would follow chains of any length
        waiting = self._scheduler.book.waiting
        while self._settling:
            number, how = self._settling[0]
            for wait in self._graph.ended(number):
                if wait.verdict is _OPEN and wait.task.id in waiting:
                    self._settle(wait, number, how)
            self._settling.popleft()

    def awaited_by(self, task: int) -> list[int]:
        """Ids of the unfinished tasks that a waiting task depends on. Linear: for questions only."""
        return self._graph.awaited_by(task)

    def _await(self, task: Task, dependency: Dependency, *, follow: bool = False) -> bool:
        """Note a dependency. False if it has ended the task."""
        # Hot: once per task of a graph. Bench: graph of tasks.
        if not dependency.ids:
            return True
        scheduler = self._scheduler
        known, me = scheduler.book.tasks, task.id
        wait = Wait(task, dependency, follow=follow)
        pending: list[int] = []
        unknown: list[int] = []
        for number in dict.fromkeys(dependency.ids):
            if number >= me and number >> CLIENT_SHIFT == me >> CLIENT_SHIFT:
                unknown.append(number)  # a task may only depend on earlier ones, so there are no circles
            elif number in known:
                pending.append(number)
            else:
                client = scheduler.clients.get(number >> CLIENT_SHIFT)
                if client is not None and client.has_used(number):
                    wait.settle(number, client.ledger.read(number, client.highest))
                else:
                    unknown.append(number)
        if unknown:
            scheduler.fail(task, faults.invalid(unknown))
            return False
        if wait.verdict is not _OPEN:
            return self._decide(wait)
        scheduler.book.rare_of(me).unmet += 1
        self._graph.add(wait, pending)
        return True

    def _settle(self, wait: Wait, number: int, ending: Ending) -> None:
        if wait.settle(number, ending) is _OPEN or not self._decide(wait):
            return
        self.met(wait.task.id)

    def met(self, task: int) -> None:
        """One of the conditions that a task waits for is met. Tasks that have ended meanwhile do not matter."""
        scheduler = self._scheduler
        waiting = scheduler.book.waiting.get(task)
        if waiting is None:
            return
        rare = scheduler.book.rare_of(task)
        rare.unmet -= 1
        if not rare.unmet:
            del scheduler.book.waiting[task]
            scheduler.place(waiting)

    def _decide(self, wait: Wait) -> bool:
        """A dependency is met or impossible. False if that has ended the task."""
        scheduler, task = self._scheduler, wait.task
        rare = scheduler.book.rare_of(task.id)
        if wait.verdict is Verdict.IMPOSSIBLE:
            scheduler.fail(task, faults.impossible(rare, wait.why_impossible()))
            return False
        if wait.follow and wait.places is not None:
            rare.place = frozenset(wait.places)
            if not rare.place:
                scheduler.fail(task, faults.impossible(rare, "The tasks it follows ran on different engines."))
                return False
        return True
