"""Tasks that have ended and what they said, by reference, until somebody takes them for the record. No I/O.

Nothing is made per task for plain successes: the lists of tasks and results that are there anyway are kept. What only
some tasks have (frames, output, an address) stands beside them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from enginery.wire.messages import Output

if TYPE_CHECKING:
    from collections.abc import Sequence

    from enginery.wire.messages import EngineInfo, Result, Task

#: Characters and bytes of output kept for the record of one task; what comes later is counted only.
SAID: Final = 1 << 18


class Aside:
    """What only some tasks have for the record."""

    __slots__ = ("direct", "frames", "result_frames", "said")

    def __init__(self) -> None:
        self.direct = False  #: it was addressed to an engine
        self.frames: Sequence[object] = ()  #: raw frames of the task
        self.result_frames: Sequence[object] = ()
        self.said: Sequence[Output] = ()  #: its output, oldest first


class Ended(NamedTuple):
    """Tasks that ended on one engine (None: on none), and their results."""

    engine: EngineInfo | None
    tasks: Sequence[Task]
    results: Sequence[Result]
    asides: dict[int, Aside]


class Journal:
    """What is to be recorded. Belongs to the scheduler; its shell takes what has accumulated."""

    __slots__ = ("_lengths", "direct", "ended", "said")

    def __init__(self) -> None:
        self.ended: list[Ended] = []
        self.direct: set[int] = set()  #: unfinished tasks addressed to an engine
        self.said: dict[int, list[Output]] = {}  #: output of unfinished tasks
        self._lengths: dict[int, int] = {}

    def take(self) -> list[Ended]:
        """Everything that has ended since the last call."""
        ended, self.ended = self.ended, []
        return ended

    def hear(self, output: Output) -> None:
        """A task has said something. Of very much output only the beginning is kept, and how much is missing."""
        length = self._lengths.get(output.task, 0)
        size = len(output.text) + len(output.data)
        self._lengths[output.task] = length + size
        if length + size <= SAID:
            self.said.setdefault(output.task, []).append(output)

    def succeeded(
        self, engine: EngineInfo, tasks: list[Task], results: list[Result], frames: dict[int, list[object]]
    ) -> None:
        """Balanced tasks have ended well. ``frames`` are those of all unfinished tasks that have any."""
        asides: dict[int, Aside] = {}
        if frames or self._lengths:
            for task in tasks:
                mine = frames.get(task.id)
                if mine is not None or task.id in self._lengths:
                    aside = asides[task.id] = self._aside(task.id)
                    aside.frames = mine or ()
        self.ended.append(Ended(engine, tasks, results, asides))

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
        self.ended.append(Ended(engine, (task,), (result,), {task.id: aside}))

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
