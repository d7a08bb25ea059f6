"""Every task the scheduler has accepted and not ended, with what only some of them carry. No I/O."""

from __future__ import annotations

from typing import TYPE_CHECKING

from enginery.core.tasks import Rare

if TYPE_CHECKING:
    from enginery.wire.messages import Task


class Book:
    """Tasks by id, and side tables for the few that have frames, options or a history."""

    __slots__ = ("frames", "rare", "tasks", "waiting")

    def __init__(self) -> None:
        self.tasks: dict[int, Task] = {}
        self.waiting: dict[int, Task] = {}  #: those in state WAITING
        self.frames: dict[int, list[object]] = {}  #: raw frames, opaque
        self.rare: dict[int, Rare] = {}

    def rare_of(self, task: int) -> Rare:
        """The side record of a task, made if need be."""
        rare = self.rare.get(task)
        if rare is None:
            rare = self.rare[task] = Rare()
        return rare

    def remove(self, task: int) -> None:
        """A task has ended."""
        del self.tasks[task]
        self.waiting.pop(task, None)
        self.frames.pop(task, None)
        self.rare.pop(task, None)
