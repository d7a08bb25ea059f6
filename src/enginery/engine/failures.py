"""Tasks that failed lately, with their frames: for pdb and for tracebacks that show local variables.

Rules of the room:

1. Frames hold on to the data of the task. So few are kept, for a few minutes; those of a MemoryError not at all.
2. The debugger looks at frames that have ended. So it needs the engine only while it carries out a command: each command
   is a request of its own, which can be interrupted as every task, and between two of them the engine works on.
3. Everything here happens in the main thread, letting go included: destructors of user code may run then.
"""

from __future__ import annotations

from time import monotonic
from typing import TYPE_CHECKING, Any, Final

from enginery.descriptions import user_traceback
from enginery.errors import UnmetDependency

if TYPE_CHECKING:
    from collections.abc import Mapping

    from enginery.engine.debugger import Debugger

#: How many failures are kept, and for how many seconds.
MOST: Final = 3
KEPT_FOR: Final = 600.0


class Failure:
    """One task that failed, and the debugger that looks at it, if any."""

    __slots__ = ("debugger", "error", "expires", "task")

    def __init__(self, task: int, error: BaseException) -> None:
        self.task = task
        self.error = error
        self.expires = monotonic() + KEPT_FOR
        self.debugger: Debugger | None = None


class Failures:
    """The newest failures of an engine."""

    def __init__(self) -> None:
        self._kept: list[Failure] = []

    def keep(self, task: int, error: BaseException) -> None:
        """Keep the frames of a task that failed, unless there are none of the user's."""
        if isinstance(error, MemoryError | UnmetDependency) or user_traceback(error.__traceback__) is None:
            return
        self._kept.append(Failure(task, error))
        del self._kept[:-MOST]

    def seconds_left(self) -> float | None:
        """When to call ``expire``; None if nothing is kept."""
        return max(0.0, self._kept[0].expires - monotonic()) if self._kept else None

    def expire(self) -> None:
        """Let go of what is too old."""
        now = monotonic()
        self._kept = [failure for failure in self._kept if failure.expires > now]

    def obey(self, given: Mapping[str, Any]) -> dict[str, Any]:
        """Carry out one command about the failure of a task.

        ``{"task": id, "do": …}``: ``locals`` returns the traceback with variables as ``text``; ``open`` starts the
        debugger, ``line`` has it obey one ``line``, ``close`` ends it. What it has to say is printed. Its replies tell
        whether it is still ``open``, and its ``prompt``.

        Raises LookupError if the frames are not here any more.
        """
        # 15 ms, which no engine pays before it is asked.
        from enginery.engine.debugger import PROMPT, Debugger, with_locals

        failure = self._find(given["task"])
        if given["do"] == "locals":
            return {"text": with_locals(failure.error)}
        if given["do"] == "open":
            failure.debugger = Debugger(failure.error)
            failure.debugger.show_place()
        elif given["do"] == "close" or failure.debugger is None or not failure.debugger.obey(given["line"]):
            failure.debugger = None
        # While somebody looks at it, it stays.
        failure.expires = max(failure.expires, monotonic() + KEPT_FOR)
        return {"open": failure.debugger is not None, "prompt": PROMPT}

    def _find(self, task: int) -> Failure:
        for failure in self._kept:
            if failure.task == task:
                return failure
        msg = (
            f"The frames of this task are not here any more: an engine keeps those of its last {MOST} failures, for "
            f"{KEPT_FOR / 60:.0f} minutes, and none of a MemoryError. Run the task again and look at once."
        )
        raise LookupError(msg)
