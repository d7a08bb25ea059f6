"""Tasks that wait for other tasks: counted down as those end, constant work for each edge. No I/O."""

from __future__ import annotations

from enum import IntEnum
from typing import TYPE_CHECKING

from enginery.core.tasks import name_of

if TYPE_CHECKING:
    from collections.abc import Iterable

    from enginery.core.ledger import Ending
    from enginery.wire.messages import Dependency, Task


class Verdict(IntEnum):
    """What is known of a dependency."""

    OPEN = 0
    MET = 1
    IMPOSSIBLE = 2


# Members of an enum cost as much to look up as the rest of the line they stand in. Bench: graph of tasks.
_OPEN, _MET, _IMPOSSIBLE = Verdict


class Wait:
    """One dependency of one task, counted down."""

    __slots__ = ("culprit", "dependency", "follow", "pending", "places", "spoilt", "task", "verdict")

    def __init__(self, task: Task, dependency: Dependency, *, follow: bool) -> None:
        self.task = task
        self.dependency = dependency
        self.follow = follow
        self.pending = len(set(dependency.ids))
        self.spoilt = 0  #: tasks that ended the wrong way
        self.culprit = -1  #: the last of them
        self.places: set[int] | None = None  #: if it is one to follow: engines on which those that count have run
        self.verdict = _OPEN if self.pending else _MET

    def settle(self, number: int, ending: Ending) -> Verdict:
        """One of the tasks has ended. Returns the verdict; once it is not OPEN it stays."""
        if self.verdict is not _OPEN:
            return self.verdict
        self.pending -= 1
        dependency = self.dependency
        if dependency.success if ending.ok else dependency.failure:
            if self.follow:
                self._note(ending.engine)
            if not dependency.all or (not self.pending and not self.spoilt):
                self.verdict = _MET
        else:
            self.spoilt += 1
            self.culprit = number
            if dependency.all or not self.pending:
                self.verdict = _IMPOSSIBLE
        return self.verdict

    def why_impossible(self) -> str:
        """Why it can never be met, once that is the verdict."""
        dependency = self.dependency
        if not dependency.all:
            return f"It depends on any of {self.spoilt} tasks, and none of them ended as required."
        wrong = "failed" if dependency.success else "did not fail"
        return f"It depends on task {name_of(self.culprit, self.task.id)}, which {wrong}."

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

    def __contains__(self, task: int) -> bool:
        return task in self._waits

    def add(self, wait: Wait, tasks: Iterable[int]) -> None:
        """Let a wait be told when these tasks end."""
        waits = self._waits
        for task in tasks:
            if task in waits:
                waits[task].append(wait)
            else:
                waits[task] = [wait]

    def ended(self, task: int) -> list[Wait]:
        """Waits on a task that has ended; they are forgotten here."""
        return self._waits.pop(task, [])

    def awaited_by(self, task: int) -> list[int]:
        """Ids of unfinished tasks that a task waits for. Linear: for questions only."""
        return [other for other, waits in self._waits.items() if any(wait.task.id == task for wait in waits)]
