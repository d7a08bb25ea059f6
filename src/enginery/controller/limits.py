"""What one peer may take of the controller, before it has said who it is and afterwards.

A peer over a limit is cut off, and the log says why. The limits are there so that others notice nothing: none of them is
met by ordinary work.
"""

from __future__ import annotations

import functools
import os
from dataclasses import dataclass, field
from typing import Final

from enginery.core.readers import MOST_UNREAD
from enginery.net.stream import Bounds

#: Where the system does not tell how much memory there is.
GUESSED_MEMORY: Final = 8 << 30


@functools.cache
def half_of_memory() -> int:
    """Half of this host's memory, in bytes."""
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2
    except (AttributeError, ValueError, OSError):
        return GUESSED_MEMORY // 2


@dataclass(frozen=True, slots=True)
class Limits:
    """Limits of each of the two ports."""

    hello: float = 10.0  #: seconds from connecting to the first words, encryption included
    strangers: int = 1024  #: connections that have not said hello; the oldest of more are cut off
    connections: int = 20_000  #: connections over the Unix socket
    header: int = 1 << 30  #: bytes of one message's header
    frames: int = 1 << 20  #: frames of one message
    message: int = field(default_factory=half_of_memory)  #: bytes of one message's frames
    unread: int = MOST_UNREAD  #: bytes of results that a client leaves unread until nothing of its is begun
    queue: int = field(default_factory=half_of_memory)  #: bytes that wait for a peer to read them
    rejected: int = 100  #: messages of one peer that make no sense

    @property
    def bounds(self) -> Bounds:
        """What a stream has to know of it."""
        return Bounds(self.header, self.frames, self.message)
