"""A thread that looks at a job of a batch system from time to time, until the job is over or nobody cares any more."""

from __future__ import annotations

import threading
import weakref
from typing import TYPE_CHECKING, Final, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable

#: By how much the pause grows from one look to the next.
GROWTH: Final = 1.3


class Watched(Protocol):
    """Whose job is looked at."""

    def look(self) -> bool:
        """Look at the job; whether it is over."""


class Watch:
    """Looks again and again, because batch systems tell nobody when a job starts or ends.

    Each look starts a command that asks a server which many users share, so the pause grows from ``first`` to
    ``longest`` seconds: what begins or fails at once is noticed at once, and a job that runs for days costs the server
    next to nothing. Thread-safe.
    """

    def __init__(self, watched: Watched, first: float, longest: float) -> None:
        self._first = first
        self._longest = max(first, longest)
        self._wake = threading.Event()
        # Who is forgotten by everybody else is not kept by this thread.
        self._watched = weakref.ref(watched, lambda _gone: self._wake.set())
        self._thread = threading.Thread(target=self._run, name="enginery-batch-watch", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def hurry(self) -> None:
        """Look now, and often for a while: something has been asked of the job."""
        self._wake.set()

    def _run(self) -> None:
        pause = self._first
        while not _is_over(self._watched):
            if self._wake.wait(pause):
                self._wake.clear()
                pause = self._first
            else:
                pause = min(pause * GROWTH, self._longest)


def _is_over(reference: Callable[[], Watched | None]) -> bool:
    # A function of its own, so that the strong reference is gone while the thread waits.
    watched = reference()
    return watched is None or watched.look()
