"""The table of sheets in an SQLite database: one row for many records of ended tasks.

Rules of the room:

1. A record stands in one place: on a sheet, or in a row of its table. What is changed moves to the table, what is dropped
   is noted beside its sheet, and a sheet with nothing left goes.
2. Rows are left out only if nothing on their sheet can match.
3. Every sheet has checksums, one of its buffers and one of all else. What does not fit them is damage, and is told.
"""

from __future__ import annotations

import sqlite3
from bisect import bisect_left
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import msgspec

from enginery.store.queries import comparable
from enginery.store.records import BUFFERS, KEYS, Record
from enginery.store.sheets import Contents, Records, Sheet, checksum, decode_contents

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Sequence

    from enginery.store.queries import Query

#: What a sheet is found by, and what its first checksum is about besides the facts. Its buffers stand last.
_FOUND_BY: Final = (
    "name", "session", "first", "last", "submitted_from", "submitted_to", "completed_from", "completed_to", "gone",
)  # fmt: skip
_COLUMNS: Final = (*_FOUND_BY, "facts", "checksum", "contents_checksum", "contents")
_INSERT: Final = f"INSERT INTO enginery_sheets ({', '.join(_COLUMNS)}) VALUES ({', '.join('?' * len(_COLUMNS))})"  # noqa: S608 - our names
_CREATE: Final = """
CREATE TABLE IF NOT EXISTS enginery_sheets (number INTEGER PRIMARY KEY, name TEXT NOT NULL, session TEXT NOT NULL,
    first INTEGER NOT NULL, last INTEGER NOT NULL, submitted_from REAL NOT NULL, submitted_to REAL NOT NULL,
    completed_from REAL NOT NULL, completed_to REAL NOT NULL, gone BLOB NOT NULL, facts BLOB NOT NULL,
    checksum INTEGER NOT NULL, contents_checksum INTEGER NOT NULL, contents BLOB NOT NULL)
"""
_INDEX: Final = "CREATE INDEX IF NOT EXISTS enginery_sheets_place ON enginery_sheets (name, session, first)"
_EACH: Final = f"SELECT number, {', '.join(_FOUND_BY)}, facts, checksum FROM enginery_sheets WHERE name = ?"  # noqa: S608 - likewise
_CHECK: Final = (
    f"SELECT number, {', '.join(_FOUND_BY)}, facts, contents, checksum, contents_checksum FROM enginery_sheets"  # noqa: S608 - likewise
)
#: Which end of a sheet's times has to meet which comparison.
_ENDS: Final = {"$lt": ("from", "<="), "$lte": ("from", "<="), "$gt": ("to", ">="), "$gte": ("to", ">=")}


def prepare_sheets(db: sqlite3.Connection) -> None:
    """Have the table. To be called within a transaction."""
    db.execute(_CREATE)
    db.execute(_INDEX)


class Found(NamedTuple):
    """A sheet that may hold what is looked for."""

    number: int
    found_by: list[Any]  #: what stands in ``_FOUND_BY``
    facts: bytes
    records: Records
    places: list[int]  #: where on it that may be


class SheetTable:
    """The sheets that belong to one table of records. For the thread and within the transactions of ``SQLiteDB``."""

    def __init__(self, db: sqlite3.Connection, path: str, name: str) -> None:
        """``path`` is for messages; ``name`` the table of records."""
        self._db = db
        self._path = path
        self._name = name
        self._is_empty = db.execute("SELECT 1 FROM enginery_sheets WHERE name = ? LIMIT 1", (name,)).fetchone() is None

    # --- writing ------------------------------------------------------------------------------------------------

    def add(self, sheet: Sheet) -> None:
        """Write a sheet."""
        found_by = [self._name, sheet.session, sheet.first, sheet.last, *sheet.submitted, *sheet.completed, b""]
        checksums = checksum(*found_by, sheet.facts), checksum(sheet.contents)
        self._db.execute(_INSERT, (*found_by, sheet.facts, *checksums, sheet.contents))
        self._is_empty = False

    def take_out(self, ids: Iterable[str]) -> dict[str, Record]:
        """The whole records of those among some tasks that stand on sheets, where they stand no more."""
        taken: dict[str, Record] = {}
        if self._is_empty:
            return taken
        for number, places in [(found.number, found.places) for found in self._named(ids) if found.places]:
            for found in list(self._read(f"{_EACH} AND number = ?", [self._name, number])):
                for record in found.records.whole(self._contents(number), places):
                    taken[record["msg_id"]] = {**dict.fromkeys(KEYS), **record}
                self._drop(found, places)
        return taken

    def drop(self, query: Query) -> int:
        """Forget the records that match; how many there were."""
        doomed = [(found.number, found.records.matching(query, found.places)) for found in self._candidates(query)]
        for number, places in doomed:
            for found in list(self._read(f"{_EACH} AND number = ?", [self._name, number])) if places else ():
                self._drop(found, places)
        return sum(len(places) for _, places in doomed)

    def _drop(self, found: Found, places: list[int]) -> None:
        gone = sorted({*msgspec.msgpack.decode(found.found_by[-1] or b"\x90", type=list[int]), *places})
        if len(gone) == len(found.records):
            self._db.execute("DELETE FROM enginery_sheets WHERE number = ?", (found.number,))
            return
        found_by = [*found.found_by[:-1], msgspec.msgpack.encode(gone)]
        self._db.execute(
            "UPDATE enginery_sheets SET gone = ?, checksum = ? WHERE number = ?",
            (found_by[-1], checksum(*found_by, found.facts), found.number),
        )

    # --- reading ------------------------------------------------------------------------------------------------

    def find(self, query: Query, keys: Sequence[str]) -> Iterator[Record]:
        """These keys of all records that match."""
        needs_contents = any(key in BUFFERS for key in keys)
        for found in self._candidates(query):
            places = found.records.matching(query, found.places)
            if places:
                contents = self._contents(found.number) if needs_contents else None
                yield from found.records.selected(keys, contents, places)

    def check(self) -> None:
        """See whether every sheet fits its checksums, and is in the index. Raises sqlite3.DatabaseError if one does not."""
        for number, *found_by, facts, contents, first, second in self._db.execute(_CHECK):
            if checksum(*found_by, facts) != first or checksum(contents) != second:
                raise self._damaged(number)
        found = [str(said) for (said,) in self._db.execute("PRAGMA integrity_check(enginery_sheets)")]
        if found != ["ok"]:
            raise sqlite3.DatabaseError(
                f"it is damaged ({'; '.join(found[:3])}). Restore it from a copy, or move it away"
            )

    def _candidates(self, query: Query) -> Iterator[Found]:
        if self._is_empty:
            return iter(())
        named = _named_in(query)
        if named is not None:
            return self._named(named)
        text, values = _EACH, list[Any]([self._name])
        for key, operators in query.conditions.items():
            for operator, wanted in operators.items():
                value = comparable(wanted)
                if key in {"submitted", "completed"} and operator in _ENDS and isinstance(value, datetime):
                    end, comparison = _ENDS[operator]
                    text += f" AND {key}_{end} {comparison} ?"
                    values.append(value.timestamp())
                elif key == "client_uuid" and operator == "$eq" and isinstance(value, str) and value.isascii():
                    text += " AND session = ?"
                    values.append(value)
        return self._read(text, values)

    def _named(self, ids: Iterable[str]) -> Iterator[Found]:
        """The sheets with some of these tasks, and where on them."""
        numbers: dict[str, list[int]] = {}
        for msg_id in ids:
            session, _, number = msg_id.rpartition("_")
            if number.isdecimal() and number.isascii() and len(number) < 16 and session.isprintable():  # noqa: PLR2004 - digits of what fits
                numbers.setdefault(session, []).append(int(number))
        for session, wanted in numbers.items():
            wanted.sort()
            for found in self._read(
                f"{_EACH} AND session = ? AND first <= ? AND last >= ?", [self._name, session, wanted[-1], wanted[0]]
            ):
                first, last = found.found_by[2:4]
                here = wanted[bisect_left(wanted, first) : bisect_left(wanted, last + 1)]
                places = set(found.records.places(frozenset(here))) if here else ()
                yield found._replace(places=[at for at in found.places if at in places])

    def _read(self, text: str, values: list[Any]) -> Iterator[Found]:
        """The sheets of a selection, each with the places of all records that stand there still."""
        for number, *found_by, facts, expected in self._db.execute(text, values):
            try:
                if checksum(*found_by, facts) != expected:
                    raise ValueError("it does not fit its checksum")
                records = Records(facts)
                gone = frozenset(msgspec.msgpack.decode(found_by[-1], type=list[int]) if found_by[-1] else ())
            except (msgspec.MsgspecError, ValueError, TypeError) as error:
                raise self._damaged(number) from error
            yield Found(number, found_by, facts, records, [at for at in range(len(records)) if at not in gone])

    def _contents(self, number: int) -> Contents:
        row = self._db.execute(
            "SELECT contents, contents_checksum FROM enginery_sheets WHERE number = ?", (number,)
        ).fetchone()
        try:
            if row is not None and checksum(row[0]) == row[1]:
                return decode_contents(row[0])
        except (msgspec.MsgspecError, TypeError) as error:
            raise self._damaged(number) from error
        raise self._damaged(number)

    def _damaged(self, number: int) -> sqlite3.DatabaseError:
        return sqlite3.DatabaseError(
            f"{self._path} is damaged: sheet {number} of records is not what was written. Restore it from a copy"
        )


def _named_in(query: Query) -> Collection[str] | None:
    """The message ids that a query names, if it does."""
    wanted = query.conditions.get("msg_id", {})
    named = [wanted["$eq"]] if "$eq" in wanted else wanted.get("$in")
    return None if named is None else {each for each in named if isinstance(each, str)}
