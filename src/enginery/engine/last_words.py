"""What C code wrote last while a task ran, kept in memory that outlives the engine so that its host can log it.

An engine reads what C code writes, and sends it a moment later. If C code ends the process between the two ("double free
or corruption"), neither the pipe nor anybody else has the words that say why.

One writer (the engine, under the lock of its outputs) and one reader, who looks only after the writer is gone: no locks.
"""

from __future__ import annotations

import mmap
import struct
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Collection

#: Bytes that are kept: last words are few.
SIZE: Final = 4096
_HEAD: Final = struct.Struct("<qi")  # the task, and how many bytes of it there are
_NOBODY: Final = -1


class LastWords:
    """The end of what C code wrote. Processes that are forked from now on share it; it goes with the last that has it."""

    def __init__(self) -> None:
        self._memory = mmap.mmap(-1, _HEAD.size + SIZE)
        _HEAD.pack_into(self._memory, 0, _NOBODY, 0)

    def keep(self, task: int, text: bytes) -> None:
        """Keep what was read while ``task`` ran, after what was read of the same task before."""
        kept = (self.of({task}) + text)[-SIZE:]
        # If the process ends between two lines there are no words, rather than half of the new ones.
        _HEAD.pack_into(self._memory, 0, _NOBODY, 0)
        self._memory[_HEAD.size : _HEAD.size + len(kept)] = kept
        _HEAD.pack_into(self._memory, 0, task, len(kept))

    def of(self, tasks: Collection[int]) -> bytes:
        """What is kept, if it was written by one of ``tasks``."""
        task, size = _HEAD.unpack_from(self._memory)
        return self._memory[_HEAD.size : _HEAD.size + size] if task in tasks else b""
