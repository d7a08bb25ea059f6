"""Which descriptors are ready, and who sees to them: epoll where there is one, else the standard library's selectors.

``selectors`` makes an object for each event, which costs the controller 1.5 µs in each turn.
"""

from __future__ import annotations

import contextlib
import select
import selectors
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable

#: What is asked of a descriptor and what it is found to be; the same numbers in epoll.
READ: Final = 1
WRITE: Final = 4


class Readiness:
    """Descriptors, each with whoever reacts to it. For one thread."""

    def __init__(self) -> None:
        #: Who is called with the events, by descriptor.
        self.reactions: dict[int, Callable[[int], None]] = {}
        self._selector: _Selector | select.epoll = select.epoll() if hasattr(select, "epoll") else _Selector()
        #: ``poll(seconds)``: the descriptors that are ready, with their events. Also ready is what has hung up.
        self.poll: Callable[[float], list[tuple[int, int]]] = self._selector.poll

    def watch(self, fd: int, react: Callable[[int], None]) -> None:
        """Have ``react(events)`` called by who polls when there is something to read."""
        self._selector.register(fd, READ)
        self.reactions[fd] = react

    def modify(self, fd: int, events: int) -> None:
        """Look for these events from now on."""
        self._selector.modify(fd, events)

    def forget(self, fd: int) -> None:
        """Look no more. The descriptor may be one that was never watched, and must still be open."""
        if self.reactions.pop(fd, None) is not None:
            with contextlib.suppress(OSError):
                self._selector.unregister(fd)


class _Selector:
    """The standard library's selector in the shape of an epoll."""

    def __init__(self) -> None:
        self._selector = selectors.DefaultSelector()

    def register(self, fd: int, events: int) -> None:
        self._selector.register(fd, _to_selectors(events))

    def modify(self, fd: int, events: int) -> None:
        self._selector.modify(fd, _to_selectors(events))

    def unregister(self, fd: int) -> None:
        self._selector.unregister(fd)

    def poll(self, seconds: float) -> list[tuple[int, int]]:
        return [
            (key.fd, (READ if events & selectors.EVENT_READ else 0) | (WRITE if events & selectors.EVENT_WRITE else 0))
            for key, events in self._selector.select(seconds)
        ]


def _to_selectors(events: int) -> int:
    return (selectors.EVENT_READ if events & READ else 0) | (selectors.EVENT_WRITE if events & WRITE else 0)
