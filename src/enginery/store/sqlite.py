"""The store in a file: SQLiteDB. Write-ahead log, one transaction for each batch, one thread.

Rules of the room:

1. The database only leaves out what cannot match; ``Query.matches`` has the last word, as in every store.
2. A table is ours if it has our columns and names our version. Any other is left alone: the next free name is taken.
3. Buffers stand in the last columns, so that looking for records does not read them.
"""

from __future__ import annotations

import contextlib
import logging
import sqlite3
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import msgspec

from enginery.store.queries import comparable, selected
from enginery.store.records import BUFFERS, KEYS, NESTED, TIMES

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from enginery.store.queries import Query

log = logging.getLogger("enginery.controller")

#: Version of the tables. Raised when their columns or what stands in them change.
VERSION: Final = 1
TABLE: Final = "ipython-tasks"
#: Milliseconds to wait for another process that holds the database.
PATIENCE: Final = 10_000
#: Values that one statement may name.
MOST_NAMED: Final = 500
_FIRST: Final = tuple(key for key in KEYS if key not in BUFFERS)
_COLUMNS: Final = (*_FIRST, *BUFFERS)
_INDEXED: Final = ("submitted", "completed", "client_uuid", "engine_uuid", "label")
_PLAIN: Final = frozenset(KEYS) - frozenset(NESTED) - frozenset(BUFFERS)
_COMPARISONS: Final = {"$lt": "<", "$lte": "<=", "$gt": ">", "$gte": ">=", "$eq": "="}
_encode = msgspec.msgpack.encode
_decode = msgspec.msgpack.decode


class SQLiteDB:
    """Records in a table of an SQLite database. To be made and used by one thread."""

    def __init__(self, filename: str = "tasks.db", location: str = "", table: str = TABLE, session: str = "") -> None:
        """Open the database ``filename`` in the folder ``location``, and make what is missing.

        Without a ``table`` there is one for each run of the controller, named by ``session``. Raises OSError if the
        database cannot be opened or is none.
        """
        self.path = filename if filename == ":memory:" else str(Path(location).expanduser() / filename)
        db = None
        try:
            db = self._db = sqlite3.connect(self.path, isolation_level=None, timeout=PATIENCE / 1000)
            self._prepare(table or f"tasks-{session}")
        except sqlite3.Error as error:
            if db is not None:
                db.close()
            msg = (
                f"The task database {self.path!r} cannot be used: {error}. "
                "Choose another with --SQLiteDB.location and --SQLiteDB.filename, or --dictdb."
            )
            raise OSError(msg) from error

    def _prepare(self, table: str) -> None:
        db = self._db
        db.execute("PRAGMA journal_mode=WAL")
        db.execute("PRAGMA synchronous=NORMAL")
        db.execute(f"PRAGMA busy_timeout={PATIENCE}")
        db.execute("BEGIN IMMEDIATE")
        db.execute("CREATE TABLE IF NOT EXISTS enginery_tables (name TEXT PRIMARY KEY, version INTEGER NOT NULL)")
        self.table = self._usable(table)
        name = _quoted(self.table)
        columns = ", ".join(f"{column} {_type(column)}" for column in _COLUMNS)
        db.execute(f"CREATE TABLE IF NOT EXISTS {name} ({columns})")
        for column in _INDEXED:
            db.execute(f"CREATE INDEX IF NOT EXISTS {_quoted(f'{self.table}-{column}')} ON {name} ({column})")
        db.execute("CREATE TABLE IF NOT EXISTS enginery_functions (digest BLOB PRIMARY KEY, body BLOB NOT NULL)")
        db.execute("INSERT OR REPLACE INTO enginery_tables VALUES (?, ?)", (self.table, VERSION))
        db.execute("COMMIT")
        if self.table != table:
            log.warning("the table %r in %s is not of this version of enginery; using %r", table, self.path, self.table)

    def _usable(self, table: str) -> str:
        """The first name of ``table``, ``table_1`` … that is free, or a table of ours."""
        versions = dict(self._db.execute("SELECT name, version FROM enginery_tables"))
        at = 0
        while True:
            name = f"{table}_{at}" if at else table
            columns = [row[1] for row in self._db.execute(f"PRAGMA table_info({_quoted(name)})")]
            if not columns or (tuple(columns) == _COLUMNS and versions.get(name) == VERSION):
                return name
            at += 1

    # --- writing --------------------------------------------------------------------------------------------------

    def update_records(self, records: Mapping[str, Mapping[str, Any]]) -> None:
        """See ``TaskStore``; likewise the others."""
        rows: dict[tuple[str, ...], list[tuple[Any, ...]]] = {}
        for msg_id, changes in records.items():
            given = {**changes, "msg_id": msg_id}
            columns = tuple(column for column in _COLUMNS if column in given)
            rows.setdefault(columns, []).append(tuple(_stored(column, given[column]) for column in columns))
        with self._transaction():
            for columns, values in rows.items():
                self._db.executemany(self._upsert(columns), values)

    def _upsert(self, columns: tuple[str, ...]) -> str:
        names, places = ", ".join(columns), ", ".join("?" * len(columns))
        changes = ", ".join(f"{column}=excluded.{column}" for column in columns if column != "msg_id")
        action = f"UPDATE SET {changes}" if changes else "NOTHING"
        table = _quoted(self.table)
        return f"INSERT INTO {table} ({names}) VALUES ({places}) ON CONFLICT (msg_id) DO {action}"  # noqa: S608 - our names

    def drop_records(self, query: Query) -> int:
        """See ``TaskStore``."""
        doomed = [(record["msg_id"],) for record in self.find_records(query, ("msg_id",))]
        with self._transaction():
            self._db.executemany(f"DELETE FROM {_quoted(self.table)} WHERE msg_id = ?", doomed)  # noqa: S608 - likewise
        return len(doomed)

    def keep_function(self, digest: bytes, body: bytes) -> None:
        """See ``TaskStore``."""
        self._db.execute("INSERT OR IGNORE INTO enginery_functions VALUES (?, ?)", (digest, body))

    @contextlib.contextmanager
    def _transaction(self) -> Any:
        self._db.execute("BEGIN IMMEDIATE")
        try:
            yield
            self._db.execute("COMMIT")
        except BaseException:
            with contextlib.suppress(sqlite3.Error):  # a full disk has rolled it back already
                self._db.execute("ROLLBACK")
            raise

    # --- reading --------------------------------------------------------------------------------------------------

    def find_records(self, query: Query, keys: Sequence[str]) -> list[dict[str, Any]]:
        """See ``TaskStore``."""
        columns = [column for column in _COLUMNS if column in query.keys or column in keys]
        found: list[dict[str, Any]] = []
        for where, values in _conditions(query):
            text = f"SELECT {', '.join(columns)} FROM {_quoted(self.table)}{where}"  # noqa: S608 - likewise
            for row in self._db.execute(text, values):
                record = {column: _loaded(column, value) for column, value in zip(columns, row, strict=True)}
                if query.matches(record):
                    found.append(selected(record, keys))
        return found

    def get_function(self, digest: bytes) -> bytes | None:
        """See ``TaskStore``."""
        row = self._db.execute("SELECT body FROM enginery_functions WHERE digest = ?", (digest,)).fetchone()
        return row[0] if row is not None else None

    def limits(self) -> str:
        """See ``TaskStore``: there are none."""
        return ""

    def close(self) -> None:
        """See ``TaskStore``."""
        self._db.close()


def _conditions(query: Query) -> Iterable[tuple[str, list[Any]]]:
    """WHERE clauses, and their values, for selections that hold all matches between them, none twice."""
    parts: list[str] = []
    values: list[Any] = []
    many: list[str] | None = None
    for key, operators in query.conditions.items():
        if key not in _PLAIN:
            continue
        for name, wanted in operators.items():
            value = comparable(wanted)
            if name in _COMPARISONS and _is_orderly(key, value):
                parts.append(f"{key} {_COMPARISONS[name]} ?")
                values.append(value.timestamp() if isinstance(value, datetime) else value)
            elif name == "$exists":
                parts.append(f"{key} IS {'NOT ' if wanted else ''}NULL")
            elif name in {"$eq", "$ne"} and value is None:
                parts.append(f"{key} IS {'NOT ' if name == '$ne' else ''}NULL")
            elif key == "msg_id" and name == "$in":
                many = sorted({each for each in value if isinstance(each, str)})
    if many is None:
        yield _where(parts), values
        return
    for at in range(0, len(many), MOST_NAMED):
        named = many[at : at + MOST_NAMED]
        yield _where([*parts, f"msg_id IN ({', '.join('?' * len(named))})"]), [*values, *named]


def _where(parts: list[str]) -> str:
    return f" WHERE {' AND '.join(parts)}" if parts else ""


def _is_orderly(key: str, value: object) -> bool:
    """Whether the database compares such a value as we do."""
    if key in TIMES:
        return isinstance(value, datetime)
    # Texts are ordered by code points in both. A text that is none cannot be handed over.
    return isinstance(value, str) and value.isprintable() and value.isascii()


def _type(column: str) -> str:
    if column == "msg_id":
        return "TEXT PRIMARY KEY"
    if column in TIMES:
        return "REAL"
    if column in NESTED or column in BUFFERS:
        return "BLOB"
    return "INTEGER" if column == "engine_id" else "TEXT"


def _stored(column: str, value: Any) -> Any:
    if value is None:
        return None
    if column in TIMES:
        return value.timestamp()
    return _encode(value) if column in NESTED or column in BUFFERS else value


def _loaded(column: str, value: Any) -> Any:
    if value is None:
        return None
    if column in TIMES:
        return datetime.fromtimestamp(value, UTC)
    return _decode(value) if column in NESTED or column in BUFFERS else value


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'
