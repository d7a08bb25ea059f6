"""Who has come to a zmq port and not said anything yet: cut off when it takes too long, or when there are too many.

libzmq accepts whoever knocks, and keeps connections open that never become one of its protocol. Its monitor tells of
each connection by its descriptor, a message tells the descriptor it came by, and what is in neither list any more has
been closed. So a connection can be told from another one that got the same number later.
"""

from __future__ import annotations

import contextlib
import os
import socket as sockets
import sys
from typing import TYPE_CHECKING, Final

import zmq

if TYPE_CHECKING:
    from collections.abc import Iterable

#: What is heard of the monitor.
EVENTS: Final = int(zmq.EVENT_ACCEPTED) | int(zmq.EVENT_DISCONNECTED)
_NUMBERS: Final = 6  #: bytes of an event: what happened (two), and to which descriptor (four)


class Doorway:
    """The open connections of one port. Belongs to the thread that made the port."""

    def __init__(self, monitor: zmq.Socket[bytes]) -> None:
        """``monitor`` tells of ``EVENTS``."""
        self._monitor = monitor
        self._waiting: dict[int, float] = {}  #: since when, by descriptor; the oldest first
        self._known: dict[int, bytes] = {}  #: who has spoken, by descriptor

    def __repr__(self) -> str:
        return f"<Doorway waiting={len(self._waiting)} known={len(self._known)}>"

    def fileno(self) -> int:
        """The descriptor that tells of changes; ``hear`` until there is nothing more."""
        return self._monitor.FD

    def hear(self, now: float) -> None:
        """Take in what has happened."""
        while self._monitor.poll(0):
            event = self._monitor.recv_multipart()[0]
            if len(event) < _NUMBERS:
                continue
            what, fd = int.from_bytes(event[:2], sys.byteorder), int.from_bytes(event[2:_NUMBERS], sys.byteorder)
            self._waiting.pop(fd, None)
            self._known.pop(fd, None)
            if what == zmq.EVENT_ACCEPTED:
                self._waiting[fd] = now

    def spoke(self, fd: int, identity: bytes, now: float) -> None:
        """The first message of a peer has come by this descriptor."""
        self.hear(now)
        if self._waiting.pop(fd, None) is not None:
            self._known[fd] = identity

    def whose(self, identity: bytes) -> int:
        """The descriptor of a peer that has spoken, or -1. Linear: for first messages only."""
        return next((fd for fd, each in self._known.items() if each == identity), -1)

    def overdue(self, now: float, patience: float, most: int) -> list[int]:
        """Those who have not said anything for ``patience`` seconds, and the oldest of more than ``most``."""
        self.hear(now)
        excess = len(self._waiting) - most
        return [fd for at, (fd, since) in enumerate(self._waiting.items()) if at < excess or now - since > patience]

    def cut(self, fds: Iterable[int]) -> None:
        """End connections that are waiting."""
        for fd in fds:
            if self._waiting.pop(fd, None) is not None:
                _shut(fd)

    def cut_known(self, fd: int, identity: bytes, now: float) -> None:
        """End the connection of a peer that has spoken, unless it has ended."""
        self.hear(now)
        if self._known.get(fd) == identity:
            del self._known[fd]
            _shut(fd)

    def close(self) -> None:
        """Stop listening to the monitor."""
        self._monitor.close(0)


def _shut(fd: int) -> None:
    """Make a connection end. Its descriptor stays libzmq's, which finds the end and closes it."""
    # Whatever goes wrong, it has ended by itself.
    with contextlib.suppress(OSError), sockets.socket(fileno=os.dup(fd)) as connection:
        connection.shutdown(sockets.SHUT_RDWR)
