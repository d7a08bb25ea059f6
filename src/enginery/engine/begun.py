"""What an engine has begun, kept in memory that outlives it so that a watcher can read it.

An engine writes the id of each task as it begins it. When the process dies, whoever shares the memory reads which
task of each kind was the last, so that tasks it had only queued can run elsewhere without counting as an attempt.

Rules of the room:

1. One writer (the engine), any number of readers, and readers look only after the writer is gone: no locks.
2. A write must stay below 150 ns, since it stands in the engine's hot loop: a ctypes field over shared memory costs
   the same as an item of a cast memoryview (about 100 ns) and, unlike a property over one, no Python call (200 ns).
"""

from __future__ import annotations

import ctypes
import mmap
import os
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from pathlib import Path

#: Nothing begun yet.
NONE: Final = -1
#: ``code`` before the engine has said how it is about to leave.
UNSAID: Final = -(1 << 31)
#: Each cell has a cache line of its own: engines must not slow one another down.
STRIDE: Final = 64


class BegunCell(ctypes.Structure):
    """Ids of the last balanced and the last direct task an engine began; -1 for none.

    ``limit`` is when the time of the task that runs is over, by the monotonic clock; 0 if it has no limit. ``overdue``
    is the task that did not heed its limit, for which the engine leaves; -1 for none.
    ``code`` is the exit code the engine is about to leave with, for watchers that are not its parent and so
    cannot ask the system. A cell made by calling the class lies in private memory, which is what tests need;
    ``shared_cells`` and ``file_cell`` make those that other processes can read.
    """

    _fields_ = (
        ("balanced", ctypes.c_int64),
        ("direct", ctypes.c_int64),
        ("code", ctypes.c_int64),
        ("overdue", ctypes.c_int64),
        ("limit", ctypes.c_double),
    )

    balanced: int
    direct: int
    code: int
    overdue: int
    limit: float

    def __init__(self, balanced: int = NONE, direct: int = NONE) -> None:
        super().__init__(balanced, direct, UNSAID, NONE)

    def __repr__(self) -> str:
        return f"<BegunCell balanced={self.balanced} direct={self.direct}>"

    def clear(self) -> None:
        """Forget everything: the cell is about to serve another engine."""
        self.balanced = self.direct = self.overdue = NONE
        self.code = UNSAID
        self.limit = 0.0


def shared_cells(count: int) -> list[BegunCell]:
    """Make ``count`` cells that processes forked from now on share with this one.

    The memory is anonymous: nothing to clean up, it goes with the last process that has it.
    """
    memory = mmap.mmap(-1, max(count, 1) * STRIDE)
    cells = [BegunCell.from_buffer(memory, index * STRIDE) for index in range(count)]
    for cell in cells:
        cell.clear()
    return cells


def file_cell(path: Path, *, create: bool = False) -> BegunCell:
    """Map the cell in the file at ``path``, for processes that do not share memory by descent.

    With ``create`` the file is written anew. Raises OSError if the file cannot be opened.
    """
    handle = os.open(path, os.O_RDWR | (os.O_CREAT if create else 0), 0o600)
    try:
        if create:
            os.ftruncate(handle, STRIDE)
        memory = mmap.mmap(handle, STRIDE)
    finally:
        os.close(handle)
    cell = BegunCell.from_buffer(memory)
    if create:
        cell.clear()
    return cell
