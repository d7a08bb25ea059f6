"""When to dial again after a connection was lost, and until when: the same for clients and engines. No I/O."""

from __future__ import annotations

from typing import Final

#: First and longest pause between attempts, in seconds: a restarted controller shall not wait long for its peers.
FIRST_PAUSE: Final = 0.05
LONGEST_PAUSE: Final = 0.5
#: How long the answer to a hello may take, in seconds, until another connection is tried.
ANSWER: Final = 5.0
_NEVER: Final = float("inf")


class Away:
    """One side's time without a connection. Times are monotonic seconds. Belongs to whoever holds the line's lock."""

    def __init__(self) -> None:
        self.why = ""  #: how the connection was lost; empty while there is one that works
        self._since = 0.0
        self._until = 0.0
        self._pause = FIRST_PAUSE
        self._next_dial = _NEVER
        self._answer_by = _NEVER

    def __bool__(self) -> bool:
        return bool(self.why)

    def lost(self, why: str, now: float, patience: float) -> bool:
        """The connection is lost. Whether there is time left to try for another one."""
        if not self.why:
            self.why, self._since, self._until = why, now, now + patience
            self._pause, self._next_dial = FIRST_PAUSE, now
        else:
            self._next_dial = now + self._pause
        self._answer_by = _NEVER
        return now < self._until

    def may_dial(self, now: float) -> bool:
        """Whether to try now. If so, the next attempt is put off."""
        if now < self._next_dial:
            return False
        self._next_dial = now + self._pause
        self._pause = min(2 * self._pause, LONGEST_PAUSE)
        return True

    def dialled(self, now: float) -> None:
        """There is a connection; the answer to the hello is awaited."""
        self._next_dial, self._answer_by = _NEVER, now + ANSWER

    def is_unanswered(self, now: float) -> bool:
        """Whether the hello has not been answered in time."""
        return now >= self._answer_by

    def is_over(self, now: float) -> bool:
        """Whether it has been tried for long enough."""
        return bool(self.why) and now >= self._until

    def back(self) -> None:
        """The hello was answered."""
        self.why = ""
        self._next_dial = self._answer_by = _NEVER

    def next_deadline(self) -> float:
        """When there is something to do; infinity for never."""
        return min(self._next_dial, self._answer_by, self._until) if self.why else _NEVER

    def describe(self, now: float) -> str:
        """The loss in words."""
        return (
            f"The connection to the controller was lost {now - self._since:.0f} s ago ({self.why}). "
            f"It is waited for {max(0.0, self._until - now):.0f} s more."
        )
