"""Tables of an SQLite database: their columns and versions, and how older ones become those of today.

Rules of the room:

1. A table is ours if ``enginery_tables`` names it, with the version of what stands in it. One of an older version is
   given today's columns, one of a later version is refused: nobody guesses what it means.
2. Any other table is somebody else's and stays as it is; the next free name is taken. What IPython Parallel recorded is
   copied once, but for what it had pickled, so that it can be looked for.
3. All of it is one transaction: what is interrupted has not happened.
"""

from __future__ import annotations

import json
import logging
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

import msgspec

from enginery.store.records import BUFFERS, KEYS, NESTED, TIMES

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterable, Iterator

log = logging.getLogger("enginery.controller")

#: Version of the tables. Raised when their columns or what stands in them change. 2: checksums, and sheets.
VERSION: Final = 2
#: Buffers stand last, so that looking for records does not read them.
COLUMNS: Final = (*(key for key in KEYS if key not in BUFFERS), *BUFFERS)
#: What the two checksums of a row are about. Whether a task was repeated is added later, and to that alone.
CHECKED_BY: Final = {
    "checksum": tuple(key for key in COLUMNS if key not in BUFFERS and key != "resubmitted"),
    "buffers_checksum": BUFFERS,
}
_IN_TABLE: Final = (*(key for key in COLUMNS if key not in BUFFERS), *CHECKED_BY, *BUFFERS)
_INDEXED: Final = ("submitted", "completed", "client_uuid", "engine_uuid", "label")
#: What a table of IPython Parallel has, whatever else its release added.
_FORMER: Final = frozenset(
    {"msg_id", "header", "content", "buffers", "submitted", "client_uuid", "result_content", "stdout"}
)
#: So many of its records are copied, the newest ones: nobody waits for more when a controller starts.
MOST_COPIED: Final = 100_000
_encode = msgspec.msgpack.encode


class LaterVersionError(OSError):
    """A table is of a later release."""


def prepare(db: sqlite3.Connection, wanted: str) -> str:
    """Have the table ``wanted``, or one of a similar name. Returns its name. To be called within a transaction.

    Raises LaterVersionError if that table is of a later release.
    """
    db.execute("CREATE TABLE IF NOT EXISTS enginery_tables (name TEXT PRIMARY KEY, version INTEGER NOT NULL)")
    db.execute("CREATE TABLE IF NOT EXISTS enginery_functions (digest BLOB PRIMARY KEY, body BLOB NOT NULL)")
    versions: dict[str, int] = dict(db.execute("SELECT name, version FROM enginery_tables"))
    former: str | None = None
    for name in _names(wanted):
        columns, version = _columns_of(db, name), versions.get(name)
        if not columns:
            _make(db, name)
            if former is not None:
                _take_over(db, former, name)
            break
        if version is not None and version > VERSION:
            raise LaterVersionError(
                f"the table {name!r} is of version {version}, and this release reads {VERSION} at most; use the release "
                "that wrote it, or another table (--SQLiteDB.table)"
            )
        if version is not None and version < VERSION:
            _bring_up_to_date(db, name, columns)
            log.warning("the table %r was of version %d and is now of version %d", name, version, VERSION)
            break
        if version == VERSION and set(columns) == set(_IN_TABLE):
            break
        if version is None and _FORMER.issubset(columns):
            former = name
    db.execute("INSERT OR REPLACE INTO enginery_tables VALUES (?, ?)", (name, VERSION))
    return name


def _names(wanted: str) -> Iterator[str]:
    yield wanted
    at = 1
    while True:
        yield f"{wanted}_{at}"
        at += 1


def _columns_of(db: sqlite3.Connection, name: str) -> tuple[str, ...]:
    return tuple(row[1] for row in db.execute(f"PRAGMA table_info({quoted(name)})"))


def _make(db: sqlite3.Connection, name: str) -> None:
    columns = ", ".join(f"{column} {_type(column)}" for column in _IN_TABLE)
    db.execute(f"CREATE TABLE {quoted(name)} ({columns})")
    for column in _INDEXED:
        db.execute(f"CREATE INDEX {quoted(f'{name}-{column}')} ON {quoted(name)} ({column})")


def _bring_up_to_date(db: sqlite3.Connection, name: str, columns: tuple[str, ...]) -> None:
    if set(COLUMNS).issubset(columns):  # in no time, however long its history is
        for column in CHECKED_BY:
            if column not in columns:
                db.execute(f"ALTER TABLE {quoted(name)} ADD COLUMN {column} {_type(column)}")
    else:
        _make_anew(db, name, columns)


def _make_anew(db: sqlite3.Connection, name: str, columns: Iterable[str]) -> None:
    """Copy what a table of ours has into one with today's columns, which takes its place."""
    beside, both = f"{name}-before", ", ".join(column for column in COLUMNS if column in columns)
    db.execute(f"ALTER TABLE {quoted(name)} RENAME TO {quoted(beside)}")
    for (index,) in db.execute(
        "SELECT name FROM sqlite_master WHERE type = 'index' AND tbl_name = ? AND sql IS NOT NULL", (beside,)
    ).fetchall():
        db.execute(f"DROP INDEX {quoted(index)}")
    _make(db, name)
    db.execute(f"INSERT INTO {quoted(name)} ({both}) SELECT {both} FROM {quoted(beside)}")  # noqa: S608 - our names
    db.execute(f"DROP TABLE {quoted(beside)}")


# --- tables of IPython Parallel -------------------------------------------------------------------------------------


def _take_over(db: sqlite3.Connection, former: str, name: str) -> None:
    """Copy the newest records of a table of IPython Parallel, as far as they can be read without unpickling anything."""
    there = _columns_of(db, former)
    columns = [column for column in COLUMNS if column in there and column not in BUFFERS]
    rows = db.execute(
        f"SELECT {', '.join(columns)} FROM {quoted(former)} WHERE msg_id IS NOT NULL "  # noqa: S608 - our names
        f"ORDER BY submitted DESC LIMIT {MOST_COPIED}"
    )
    copied = db.executemany(
        f"INSERT OR IGNORE INTO {quoted(name)} ({', '.join((*columns, 'status'))}) "  # noqa: S608 - likewise
        f"VALUES ({', '.join('?' * len(columns))}, ?)",
        (_as_ours(columns, row) for row in rows),
    ).rowcount
    log.warning(
        "%d records of IPython Parallel were copied from the table %r to %r, without arguments and results",
        copied, former, name,
    )  # fmt: skip


def _as_ours(columns: list[str], row: tuple[Any, ...]) -> list[Any]:
    """A row of theirs as ours, with its status behind."""
    values = dict(zip(columns, (map(_as_value, columns, row)), strict=True))
    content = values.get("result_content")
    content = content if isinstance(content, dict) else {}
    if "error" in values:
        values["error"] = f"{content['ename']}: {content.get('evalue')}" if "ename" in content else None
    stored = [_encode(value) if isinstance(value, dict) else value for value in values.values()]
    status = content.get("status")
    return [*stored, status if isinstance(status, str) else None]


def _as_value(column: str, value: Any) -> Any:
    """A value of theirs; None for what is not what it should be."""
    if not isinstance(value, str):
        return None
    try:
        if column in TIMES:
            when = datetime.fromisoformat(value)
            return (when if when.tzinfo else when.replace(tzinfo=UTC)).timestamp()
        if column in NESTED:
            found = json.loads(value)
            return found if isinstance(found, dict) else None
    except (ValueError, OverflowError):
        return None
    return value


def _type(column: str) -> str:
    if column == "msg_id":
        return "TEXT PRIMARY KEY"
    if column in TIMES:
        return "REAL"
    if column in NESTED or column in BUFFERS:
        return "BLOB"
    return "INTEGER" if column == "engine_id" or column in CHECKED_BY else "TEXT"


def quoted(name: str) -> str:
    """A name as it stands in a statement."""
    return '"' + name.replace('"', '""') + '"'
