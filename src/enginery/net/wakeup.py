"""Wake a thread that waits for file descriptors, from another thread or a signal handler.

``is_set`` is true from just before the write until just after the read, so that a second ``set`` costs nothing and no
``set`` is lost: in ``clear`` the flag falls last, in ``set`` nothing can happen between the flag and the write.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable


class Wakeup:
    """A descriptor that becomes readable by ``set`` and silent by ``clear``. Closed when nobody refers to it any more.

    ``set`` may be called from any thread and by signal handlers, ``clear`` from one thread at a time.
    """

    __slots__ = ("_reader", "_writer", "is_set")

    def __init__(self) -> None:
        if hasattr(os, "eventfd"):
            self._reader = self._writer = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        else:
            self._reader, self._writer = os.pipe()
            os.set_blocking(self._reader, False)
            os.set_blocking(self._writer, False)
        self.is_set = False

    def __del__(self, close: Callable[[int], None] = os.close) -> None:
        # Not by a method: a `set` that comes after the end would write into a descriptor that is somebody else's.
        close(self._reader)
        if self._writer != self._reader:
            close(self._writer)

    def fileno(self) -> int:
        """The descriptor to wait for."""
        return self._reader

    def set(self) -> None:
        """Make it readable. Cheap when it already is."""
        if not self.is_set:
            # No call between these two, where Ctrl-C could come in or another thread get its turn.
            self.is_set = True
            os.write(self._writer, b"\1\0\0\0\0\0\0\0")

    def clear(self) -> None:
        """Make it silent. To be called when it is readable, and before looking at what was announced."""
        try:
            os.read(self._reader, 8)
        except BlockingIOError:
            pass  # cleared already
        self.is_set = False

    def mute(self) -> None:
        """Let ``set`` have no effect from now on: in a forked child, whose parent shares the descriptor."""
        self.is_set = True
