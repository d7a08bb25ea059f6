"""The store in memory, bounded by records and bytes: DictDB, the default. No I/O."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from enginery.store.queries import selected
from enginery.store.records import KEYS, size_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from enginery.store.queries import Query

#: How many records are kept, how many bytes, and the part that goes at once where there are more.
RECORDS: Final = 1024
BYTES: Final = 64 << 20
FRACTION: Final = 0.1


class DictDB:
    """Records in memory. Past a limit the oldest finished ones go, a part of all at once. Not thread-safe."""

    def __init__(self, record_limit: int = RECORDS, size_limit: int = BYTES, cull_fraction: float = FRACTION) -> None:
        """``record_limit`` and ``size_limit`` (bytes) are for finished tasks; 0 is no limit."""
        self.record_limit = record_limit
        self.size_limit = size_limit
        self.cull_fraction = cull_fraction
        self.size = 0  #: bytes of all records
        self._records: dict[str, dict[str, Any]] = {}
        self._sizes: dict[str, int] = {}
        self._functions: dict[bytes, bytes] = {}

    def __len__(self) -> int:
        return len(self._records)

    def __contains__(self, msg_id: str) -> bool:
        return msg_id in self._records

    def update_records(self, records: Mapping[str, Mapping[str, Any]]) -> None:
        """See ``TaskStore``; likewise the others."""
        for msg_id, changes in records.items():
            record = self._records.get(msg_id)
            if record is None:
                record = self._records[msg_id] = {**dict.fromkeys(KEYS), "msg_id": msg_id}
            record.update(changes)
            size = size_of(record)
            self.size += size - self._sizes.get(msg_id, 0)
            self._sizes[msg_id] = size
        if self._is_over():
            self._cull()

    def find_records(self, query: Query, keys: Sequence[str]) -> list[dict[str, Any]]:
        """See ``TaskStore``."""
        return [selected(record, keys) for record in self._candidates(query) if query.matches(record)]

    def drop_records(self, query: Query) -> int:
        """See ``TaskStore``."""
        doomed = [record["msg_id"] for record in self._candidates(query) if query.matches(record)]
        for msg_id in doomed:
            self._drop(msg_id)
        return len(doomed)

    def keep_function(self, digest: bytes, body: bytes) -> None:
        """Nothing: the controller keeps bodies itself, and they need not outlive it."""

    def get_function(self, digest: bytes) -> bytes | None:  # noqa: ARG002 - see keep_function
        """See ``keep_function``."""
        return None

    def limits(self) -> str:
        """See ``TaskStore``."""
        return (
            f"the newest {self.record_limit:,} finished tasks are kept, and {self.size_limit >> 20:,} MiB of them "
            "(DictDB.record_limit, DictDB.size_limit; --sqlitedb keeps all)"
        )

    def close(self) -> None:
        """See ``TaskStore``."""
        self._records.clear()
        self._sizes.clear()
        self.size = 0

    def _candidates(self, query: Query) -> Iterable[dict[str, Any]]:
        """The records that may match: few where message ids are named."""
        wanted = query.conditions.get("msg_id", {})
        named = wanted.get("$in", [wanted.get("$eq")] if "$eq" in wanted else None)
        if named is None:
            return list(self._records.values())
        return [self._records[each] for each in dict.fromkeys(filter(_is_text, named)) if each in self._records]

    def _is_over(self) -> bool:
        too_many = self.record_limit and len(self._records) > self.record_limit
        return bool(too_many or (self.size_limit and self.size > self.size_limit))

    def _cull(self) -> None:
        """Let the oldest finished ones go, and a part of the limits more, so that it is not for each record anew."""
        part = 1.0 - self.cull_fraction
        records = int(self.record_limit * part) if self.record_limit else len(self._records)
        most = int(self.size_limit * part) if self.size_limit else self.size
        finished = [record for record in self._records.values() if record["completed"] is not None]
        for record in sorted(finished, key=lambda record: record["completed"].timestamp()):
            if len(self._records) <= records and self.size <= most:
                return
            self._drop(record["msg_id"])

    def _drop(self, msg_id: str) -> None:
        del self._records[msg_id]
        self.size -= self._sizes.pop(msg_id)


def _is_text(value: object) -> bool:
    return isinstance(value, str)
