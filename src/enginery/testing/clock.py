"""Time that stands still until it is told to move, and a list of what falls due.

    clock = Clock()
    clock.call_after(3600, bell.ring)
    clock.advance(3600)  # the bell rings now

What falls due at the same moment is done in the order in which it was asked for, so equal programs run alike.
"""

from __future__ import annotations

import heapq
from itertools import count
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable


class Appointment:
    """Something a clock will do."""

    __slots__ = ("action", "cancelled", "when")

    def __init__(self, when: float, action: Callable[[], object]) -> None:
        self.when = when
        self.action = action
        self.cancelled = False

    def cancel(self) -> None:
        """Have it not done. Repeating it is allowed, and so is being late."""
        self.cancelled = True

    def __repr__(self) -> str:
        return f"<Appointment at {self.when:g}{' cancelled' if self.cancelled else ''}>"


class Clock:
    """A clock that moves when told. Not thread-safe.

    Calling it tells the time, so it can be handed on wherever a function such as ``time.monotonic`` is wanted.
    """

    def __init__(self, now: float = 0.0) -> None:
        self.now = now
        self._appointments: list[tuple[float, int, Appointment]] = []
        self._numbers = count()

    def __call__(self) -> float:
        """Tell the time."""
        return self.now

    def call_at(self, when: float, action: Callable[[], object]) -> Appointment:
        """Call ``action()`` when it is ``when``; at the next move if that has passed."""
        appointment = Appointment(max(when, self.now), action)
        heapq.heappush(self._appointments, (appointment.when, next(self._numbers), appointment))
        return appointment

    def call_after(self, delay: float, action: Callable[[], object]) -> Appointment:
        """Call ``action()`` in ``delay`` seconds."""
        return self.call_at(self.now + delay, action)

    def next_due(self) -> float | None:
        """When the next thing falls due, None if nothing will."""
        while self._appointments and self._appointments[0][2].cancelled:
            heapq.heappop(self._appointments)
        return self._appointments[0][0] if self._appointments else None

    def step(self) -> bool:
        """Move to the next thing that falls due and do it. False if there is none."""
        due = self.next_due()
        if due is None:
            return False
        _, _, appointment = heapq.heappop(self._appointments)
        self.now = due
        appointment.action()
        return True

    def advance(self, seconds: float) -> int:
        """Move by ``seconds`` and do everything that falls due on the way. Returns how many things that were."""
        if seconds < 0:
            msg = f"A clock cannot be moved by {seconds:g} s: time only goes forward."
            raise ValueError(msg)
        until, done = self.now + seconds, 0
        while (due := self.next_due()) is not None and due <= until:
            done += self.step()
        self.now = until
        return done

    def __repr__(self) -> str:
        return f"<Clock {self.now:g} due={len(self._appointments)}>"
