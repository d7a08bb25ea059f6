"""The time limit of the task that runs: first it is interrupted, then this process leaves and is started anew.

The main thread sets the alarm before a task that has a limit; the link's thread looks when the time is over. While user
code holds the interpreter that thread does not get to look. So the limit also stands in the memory that the engine
shares with its nanny, which has the engine killed when it is long over.
"""

from __future__ import annotations

import os
from time import monotonic
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable

    from enginery.core.membership import Membership
    from enginery.engine.begun import BegunCell

NEVER: Final = float("inf")
#: Seconds that a task may take to heed the interrupt at its time limit; then the engine leaves.
GRACE: Final = 1.0
#: Seconds that the engine gets for that, until its nanny acts.
SLACK: Final = 0.5


class Alarm(NamedTuple):
    """When the time of a task is over."""

    due: float
    task: int


_NONE: Final = Alarm(NEVER, -1)


class TimeLimit:
    """The limit of one task at a time. ``start`` and ``end`` belong to the main thread, everything else to the link's."""

    def __init__(self, member: Membership, begun: BegunCell, interrupt: Callable[[int], None]) -> None:
        """``interrupt`` interrupts the task with an id, if it still runs."""
        self.overdue = -1  #: the task that was interrupted for its limit
        self._member = member
        self._begun = begun
        self._interrupt = interrupt
        self._alarm = _NONE  # replaced, never changed: the other thread sees one or the next
        self._done: Alarm = _NONE
        self._rung: Alarm | None = None
        self._leave_at = NEVER

    def start(self, task: int, seconds: float) -> float:
        """A task begins that may run for so many seconds. Returns when they are over."""
        due = monotonic() + seconds
        self.overdue = -1
        self._alarm = Alarm(due, task)
        self._begun.limit = due
        return due

    def end(self) -> None:
        """The task has ended."""
        self._begun.limit = 0.0

    def next_deadline(self) -> float:
        """When ``tick`` is due."""
        alarm = self._alarm
        if alarm is self._done:
            return NEVER
        return self._leave_at if alarm is self._rung else alarm.due

    def tick(self, now: float, flush: Callable[[], None]) -> None:
        """The time may be over. ``flush`` sends what is unsent, since this process may be about to end."""
        alarm = self._alarm
        if now < self.next_deadline():
            return
        if self._member.running != alarm.task:
            self._done = alarm
        elif self._rung is not alarm:
            self._rung, self._leave_at = alarm, now + GRACE
            self.overdue = alarm.task
            self._interrupt(alarm.task)
        else:
            flush()
            # Between the next two lines no other thread gets its turn: the task has ended, or it never will.
            if self._member.running == alarm.task:
                self._leave(alarm.task)
            self._done = alarm

    def _leave(self, task: int) -> None:
        self._begun.overdue = task
        os._exit(1)
