"""Bounded silence: a wait that takes long says what it waits for, where a person is there to read it.

The first word comes after ``FIRST`` seconds, the next ones every ``AGAIN`` seconds, each in one line on the standard
error stream. A person is taken to be there when Python or IPython runs interactively or the stream is a terminal;
the environment variable ``ENGINERY_SAY_WAITS`` decides otherwise (1: always, 0: never).
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from functools import partial
from time import monotonic
from typing import TYPE_CHECKING, Final

from enginery.client.active import NONINTERACTIVE, in_ipython

if TYPE_CHECKING:
    from enginery.client.link import Link

FIRST: Final = 5.0
AGAIN: Final = 30.0
VARIABLE: Final = "ENGINERY_SAY_WAITS"


class Silence:
    """One wait. ``tell`` says in words what is awaited; it may ask the controller."""

    def __init__(
        self, tell: Callable[[], str], say: Callable[[str], object] | None = None, *, waited: float = 0.0
    ) -> None:
        """``say`` shows a line; by default it is written to the standard error stream. ``waited``: seconds so far."""
        self._tell = tell
        self._say = say or _write
        self._began = monotonic() - waited
        self._next = self._began + FIRST

    def left(self) -> float:
        """Seconds until something is to be said."""
        return max(0.0, self._next - monotonic())

    def check(self) -> None:
        """Say what is awaited, if it is time to. Raises what ``tell`` raises."""
        now = monotonic()
        if now < self._next:
            return
        self._next = now + AGAIN
        if has_listener():
            self._say(f"enginery: waiting for {now - self._began:.0f} s for {self._tell()}")

    def wait(self, wait_for: Callable[[float | None], bool], timeout: float | None) -> bool:
        """Wait by ``wait_for(seconds)``, which returns whether the wait is over. False if ``timeout`` was over before."""
        while True:
            if timeout is None:
                if wait_for(self.left()):
                    return True
            else:
                left = timeout - (monotonic() - self._began)
                if left <= self.left():
                    return wait_for(max(0.0, left))
                if wait_for(self.left()):
                    return True
            self.check()


def wait_for(link: Link, predicate: Callable[[], bool], timeout: float | None, tell: Callable[[], str]) -> bool:
    """Wait as ``link.wait_for`` does, and not in silence for long. ``tell`` says in words what is awaited."""
    # The rule is that it does not take long. Then all that this costs is an earlier deadline. Bench: round trip.
    if timeout is not None and timeout <= FIRST:
        return link.wait_for(predicate, timeout)
    if link.wait_for(predicate, FIRST):
        return True
    silence = Silence(tell, waited=FIRST)
    silence.check()
    return silence.wait(partial(link.wait_for, predicate), timeout)


def has_listener() -> bool:
    """Whether a person reads what is written."""
    wanted = os.environ.get(VARIABLE)
    if wanted is not None:
        return wanted not in {"", "0"}
    if os.environ.get(NONINTERACTIVE):
        return False
    return hasattr(sys, "ps1") or in_ipython() or _is_terminal()


def _is_terminal() -> bool:
    try:
        return sys.stderr is not None and sys.stderr.isatty()
    except (AttributeError, ValueError):  # a stand-in, or a closed stream
        return False


def _write(line: str) -> None:
    if sys.stderr is not None:
        sys.stderr.write(line + "\n")
        sys.stderr.flush()
