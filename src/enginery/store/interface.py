"""What every store offers: the interface for stores of one's own. No I/O.

A store of one's own is a class with these methods, named by its dotted name: ``IPController.db_class = "package.module.
Class"``. It is made with the settings of its section of the configuration as keyword arguments, in the controller, and
used by one thread, which is not the controller's loop: it may take its time. What it raises is logged, and costs the
records it was given, or is told to the client who asked.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from enginery.store.queries import Query
    from enginery.store.sheets import Sheet


class TaskStore(Protocol):
    """Keeps the records of tasks (see ``enginery.store.records``), by message id."""

    def update_records(self, records: Mapping[str, Mapping[str, Any]]) -> None:
        """Add records by message id; of those there are already, set these keys. All of them, or none.

        Buffers are bytes or views of bytes, valid until this returns.
        """

    def find_records(self, query: Query, keys: Sequence[str]) -> list[dict[str, Any]]:
        """These keys of all records that match, in any order."""

    def drop_records(self, query: Query) -> int:
        """Forget the records that match; how many there were."""

    def keep_function(self, digest: bytes, body: bytes) -> None:
        """Keep the body of a function, for tasks that are submitted again."""

    def get_function(self, digest: bytes) -> bytes | None:
        """The body of a function."""

    def limits(self) -> str:
        """How much is kept, and which settings say so, in words for people who look for what is gone; or nothing."""

    def close(self) -> None:
        """The controller leaves: everything has to be safe now."""


class SheetStore(TaskStore, Protocol):
    """What a store may offer besides: to keep ended tasks by the sheet. Of no use to stores without files of their own."""

    def add_sheets(self, sheets: Iterable[Sheet]) -> None:
        """Add records of tasks of which nothing was added before. All of them, or none."""
