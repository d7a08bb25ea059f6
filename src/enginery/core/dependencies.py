"""Tasks that wait for other tasks: counted down as those end, constant work for each edge. No I/O."""

from __future__ import annotations

from enum import IntEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from enginery.core.ledger import Ending
    from enginery.wire.messages import Dependency, Task


class Verdict(IntEnum):
    """What is known of a dependency."""

    OPEN = 0
    MET = 1
    IMPOSSIBLE = 2


class Wait:
    """One dependency of one task, counted down."""

    __slots__ = ("dependency", "follow", "pending", "places", "spoilt", "task", "verdict")

    def __init__(self, task: Task, dependency: Dependency, *, follow: bool) -> None:
        self.task = task
        self.dependency = dependency
        self.follow = follow
        self.pending = len(set(dependency.ids))
        self.spoilt = 0  #: tasks that ended the wrong way
        self.places: set[int] | None = None  #: engines on which those that count have run
        self.verdict = Verdict.MET if not self.pending else Verdict.OPEN

    def settle(self, ending: Ending) -> Verdict:
        """One of the tasks has ended. Returns the verdict; once it is not OPEN it stays."""
        if self.verdict is not Verdict.OPEN:
            return self.verdict
        self.pending -= 1
        dependency = self.dependency
        if dependency.success if ending.ok else dependency.failure:
            self._note(ending.engine)
            if not dependency.all or (not self.pending and not self.spoilt):
                self.verdict = Verdict.MET
        else:
            self.spoilt += 1
            if dependency.all or not self.pending:
                self.verdict = Verdict.IMPOSSIBLE
        return self.verdict

    def _note(self, engine: int) -> None:
        if engine < 0:
            return
        if self.places is None:
            self.places = {engine}
        elif self.dependency.all:
            self.places &= {engine}
        else:
            self.places.add(engine)


class Graph:
    """Who waits for whom, from the awaited to the waiting."""

    __slots__ = ("_waits",)

    def __init__(self) -> None:
        self._waits: dict[int, list[Wait]] = {}

    def __bool__(self) -> bool:
        return bool(self._waits)

    def add(self, wait: Wait, tasks: Iterable[int]) -> None:
        """Let a wait be told when these tasks end."""
        for task in tasks:
            self._waits.setdefault(task, []).append(wait)

    def ended(self, task: int) -> list[Wait]:
        """Waits on a task that has ended; they are forgotten here."""
        return self._waits.pop(task, [])

    def awaited_by(self, task: int) -> list[int]:
        """Ids of unfinished tasks that a task waits for. Linear: for questions only."""
        return [other for other, waits in self._waits.items() if any(wait.task.id == task for wait in waits)]
