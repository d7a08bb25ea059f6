"""Wake a thread that waits for file descriptors, from another thread or a signal handler."""

from __future__ import annotations

import contextlib
import os


class Wakeup:
    """A descriptor that becomes readable by ``set`` and silent by ``clear``. Both may be called from any thread."""

    __slots__ = ("_reader", "_writer", "is_set")

    def __init__(self) -> None:
        if hasattr(os, "eventfd"):
            self._reader = self._writer = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        else:
            self._reader, self._writer = os.pipe()
            os.set_blocking(self._reader, False)
            os.set_blocking(self._writer, False)
        self.is_set = False

    def fileno(self) -> int:
        """The descriptor to wait for."""
        return self._reader

    def set(self) -> None:
        """Make it readable. Cheap when it already is."""
        if not self.is_set:
            self.is_set = True
            with contextlib.suppress(BlockingIOError, OSError):  # full, or closed meanwhile: nobody waits
                os.write(self._writer, b"\1\0\0\0\0\0\0\0")

    def clear(self) -> None:
        """Make it silent. To be called before looking at what was announced, so that no announcement is missed."""
        if self.is_set:
            self.is_set = False
            with contextlib.suppress(BlockingIOError):
                os.read(self._reader, 8)

    def close(self) -> None:
        """Close the descriptors."""
        os.close(self._reader)
        if self._writer != self._reader:
            os.close(self._writer)
