"""Tasks that have ended and what they said, by reference, until somebody takes them for the record. No I/O.

Nothing is made per task for plain successes: the lists of tasks and results that are there anyway are kept. What only
some tasks have (frames, output, an address) stands beside them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from msgspec import Struct

from enginery.wire.messages import Output

if TYPE_CHECKING:
    from collections.abc import Sequence

    from enginery.wire.messages import EngineInfo, Result, Task

#: Characters and bytes of output kept for the record of one task; what comes later is counted only.
SAID: Final = 1 << 18


#: For tasks that have nothing aside; nobody adds anything.
_NOTHING: Final[dict[int, Any]] = {}


class Aside:
    """What only some tasks have for the record."""

    __slots__ = ("direct", "frames", "result_frames", "said")

    def __init__(self) -> None:
        self.direct = False  #: it was addressed to an engine
        self.frames: Sequence[object] = ()  #: raw frames of the task
        self.result_frames: Sequence[object] = ()
        self.said: Sequence[Output] = ()  #: its output, oldest first


class Ended(Struct, gc=False):
    """Tasks that ended on one engine, and their results.

    A struct, whose types are not looked at, because one is made in each turn; a named tuple takes three times as long.
    """

    engine: Any  #: its EngineInfo, or None
    tasks: Any  #: a sequence of Task
    results: Any  #: the Result of each
    asides: dict[int, Any]  #: an Aside for those that need one
    when: float  #: in monotonic seconds


class Journal:
    """What is to be recorded. Belongs to the scheduler; its shell takes what has accumulated."""

    __slots__ = ("_lengths", "count", "direct", "ended", "now", "said")

    def __init__(self) -> None:
        self.ended: list[Ended] = []
        self.count = 0  #: tasks in there
        self.now = 0.0  #: the time of the turn, in monotonic seconds
        self.direct: set[int] = set()  #: unfinished tasks addressed to an engine
        self.said: dict[int, list[Output]] = {}  #: output of unfinished tasks
        self._lengths: dict[int, int] = {}

    def take(self) -> list[Ended]:
        """Everything that has ended since the last call."""
        ended, self.ended, self.count = self.ended, [], 0
        return ended

    def hear(self, output: Output) -> bool:
        """A task has said something. Of very much output only the beginning is kept, and how much is missing.

        Returns whether this is kept.
        """
        length = self._lengths.get(output.task, 0)
        size = len(output.text) + len(output.data)
        self._lengths[output.task] = length + size
        if length + size > SAID:
            return False
        self.said.setdefault(output.task, []).append(output)
        return True

    def succeeded(
        self, engine: EngineInfo, tasks: list[Task], results: list[Result], frames: dict[int, list[object]]
    ) -> None:
        """Balanced tasks have ended well. ``frames`` are those of all unfinished tasks that have any."""
        # Hot: once per batch of tasks. Bench: no-op tasks.
        asides = _NOTHING
        if frames or self._lengths:
            asides = {}
            for task in tasks:
                mine = frames.get(task.id)
                if mine is not None or task.id in self._lengths:
                    aside = asides[task.id] = self._aside(task.id)
                    aside.frames = mine or ()
        self.count += len(results)
        self.ended.append(Ended(engine, tasks, results, asides, self.now))

    def finished(
        self,
        engine: EngineInfo | None,
        task: Task,
        result: Result,
        frames: Sequence[object],
        result_frames: Sequence[object],
    ) -> None:
        """A task has ended, in whatever way."""
        aside = self._aside(task.id)
        aside.frames, aside.result_frames = frames, result_frames
        self.count += 1
        self.ended.append(Ended(engine, (task,), (result,), {task.id: aside}, self.now))

    def _aside(self, task: int) -> Aside:
        aside = Aside()
        if task in self.direct:
            self.direct.remove(task)
            aside.direct = True
        length = self._lengths.pop(task, 0)
        if length:
            aside.said = self.said.pop(task, [])
            missing = length - sum(len(output.text) + len(output.data) for output in aside.said)
            if missing:
                note = f"\n[enginery: {missing} characters of output are not in the record]\n"
                aside.said = [*aside.said, Output(task, "stderr", note)]
        return aside
