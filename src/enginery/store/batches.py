"""Records still to be made: what is known of several tasks, by reference. No I/O.

Making a record costs more than running a small task, so it is made when somebody asks for it, or by the thread that
writes it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, Protocol

from enginery.store.records import record_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from enginery.store.records import Entry, Record
    from enginery.store.sheets import Sheet


class Batch(Protocol):
    """Records to be."""

    is_done: bool
    """Set once the store has them, or will never have them."""

    @property
    def count(self) -> int:
        """How many there are."""

    @property
    def size(self) -> int:
        """How many bytes they hold."""

    def records(self) -> Mapping[str, Mapping[str, Any]]:
        """The records, or changes of records, by message id."""


class EndedBatch(Batch, Protocol):
    """Records of tasks that ended, each of which is told of once."""

    def sheets(self, others: Sequence[EndedBatch]) -> list[Sheet]:
        """The same on sheets, together with ``others``."""


#: What a task costs in memory besides its buffers.
OVERHEAD: Final = 1000


class Entries:
    """Records of tasks, made from what travelled."""

    __slots__ = ("_entries", "count", "is_done", "size")

    def __init__(self, entries: Sequence[Entry]) -> None:
        self.is_done = False
        self._entries = entries
        self.count = len(entries)
        self.size = OVERHEAD * self.count + sum(_length(entry.buffers) for entry in entries)

    def records(self) -> dict[str, Record]:
        """See ``Batch``."""
        return {entry.msg_id: record_of(entry) for entry in self._entries}


def _length(buffers: Sequence[Any]) -> int:
    return sum(memoryview(buffer).nbytes for buffer in buffers)


class Changes:
    """Records, or parts of them, that are made already."""

    __slots__ = ("_changes", "count", "is_done", "size")

    def __init__(self, changes: Mapping[str, Record]) -> None:
        self.is_done = False
        self._changes = changes
        self.count = len(changes)
        self.size = OVERHEAD * self.count

    def records(self) -> Mapping[str, Record]:
        """See ``Batch``."""
        return self._changes
