"""The store in a file: SQLiteDB. Write-ahead log, one transaction for each batch, one thread.

Rules of the room:

1. The database only leaves out what cannot match; ``Query.matches`` has the last word, as in every store.
2. A transaction counts whole or not at all, whatever ends this process. A damaged file is refused when it is opened, if
   it is small enough to be read for that; of a larger one the damage is told to whoever asks for what it held.
"""

from __future__ import annotations

import contextlib
import logging
import sqlite3
import zlib
from datetime import UTC, datetime
from itertools import chain
from operator import itemgetter
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import msgspec

from enginery.store.queries import comparable, selected
from enginery.store.records import BUFFERS, KEYS, NESTED, TIMES, record_of
from enginery.store.sheet_table import SheetTable, prepare_sheets
from enginery.store.tables import CHECKED_BY, COLUMNS, LaterVersionError, prepare, quoted

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Mapping, Sequence

    from enginery.store.queries import Query
    from enginery.store.sheets import Sheet

log = logging.getLogger("enginery.controller")

TABLE: Final = "ipython-tasks"
#: Milliseconds to wait for another process that holds the database.
PATIENCE: Final = 10_000
#: Bytes up to which a database is checked when it is opened: a fraction of a second.
CHECKED: Final = 64 << 20
#: Values that one statement may name.
MOST_NAMED: Final = 500
#: Rows of one statement. Each statement lets other threads go on, and then has to wait for them.
AT_ONCE: Final = 100
#: Records that are worth a sheet, and bytes of the largest one.
WORTH: Final = 32
LARGEST: Final = 64 << 20
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
        except (sqlite3.Error, LaterVersionError) as error:
            if db is not None:
                db.close()
            msg = (
                f"The task database {self.path!r} cannot be used: {error}. "
                "Choose another with --SQLiteDB.location and --SQLiteDB.filename, or --dictdb."
            )
            raise OSError(msg) from error

    def _prepare(self, table: str) -> None:
        db = self._db
        db.execute(f"PRAGMA busy_timeout={PATIENCE}")
        db.execute("PRAGMA journal_mode=WAL")
        db.execute("PRAGMA synchronous=NORMAL")
        if self._size() <= CHECKED:
            found = [str(said) for (said,) in db.execute("PRAGMA quick_check(1)")]
            if found != ["ok"]:
                raise sqlite3.DatabaseError(
                    f"it is damaged ({'; '.join(found)}). Restore it from a copy, or move it away"
                )
        with self._transaction():
            self.table = prepare(db, table)
            prepare_sheets(db)
        self._sheets = SheetTable(db, self.path, self.table)
        if self._size() <= CHECKED:
            self._sheets.check()
        if self.table != table:
            log.warning("the table %r in %s is somebody else's; using %r", table, self.path, self.table)

    def _size(self) -> int:
        ((pages,),) = self._db.execute("PRAGMA page_count")
        ((size,),) = self._db.execute("PRAGMA page_size")
        return int(pages) * int(size)

    # --- writing --------------------------------------------------------------------------------------------------

    def update_records(self, records: Mapping[str, Mapping[str, Any]]) -> None:
        """See ``TaskStore``; likewise the others."""
        with self._transaction():
            taken = self._sheets.take_out(records)
            self._put({**records, **{msg_id: {**taken[msg_id], **records[msg_id]} for msg_id in taken}})

    def add_sheets(self, sheets: Iterable[Sheet]) -> None:
        """See ``SheetStore``. Of what is not worth a sheet each record gets a row, which any program can look into."""
        with self._transaction():
            for sheet in sheets:
                if sheet.count >= WORTH and sheet.size <= LARGEST:
                    self._sheets.add(sheet)
                else:
                    self._put({entry.msg_id: record_of(entry) for entry in sheet.entries()})

    def _put(self, records: Mapping[str, Mapping[str, Any]]) -> None:
        # Hot: once per task where a database is used, and tasks come singly.
        rows: dict[tuple[str, ...], list[list[Any]]] = {}
        layouts: dict[tuple[str, ...], tuple[_Layout, list[list[Any]]]] = {}
        for msg_id, changes in records.items():
            keys = tuple(changes)
            if keys not in layouts:
                layout = _Layout(keys)
                layouts[keys] = layout, rows.setdefault(layout.columns, [])
            layout, mine = layouts[keys]
            mine.append(layout.row(msg_id, changes))
        for columns, values in rows.items():
            whole = len(values) - len(values) % AT_ONCE
            for at in range(0, whole, AT_ONCE):
                self._db.execute(self._upsert(columns, AT_ONCE), [*chain(*values[at : at + AT_ONCE])])
            self._db.executemany(self._upsert(columns), values[whole:])

    def _upsert(self, columns: tuple[str, ...], count: int = 1) -> str:
        names, places = ", ".join(columns), ", ".join("?" * len(columns))
        changes = ", ".join(f"{column}=excluded.{column}" for column in columns if column != "msg_id")
        action = f"UPDATE SET {changes}" if changes else "NOTHING"
        table = quoted(self.table)
        rows = ", ".join([f"({places})"] * count)
        return f"INSERT INTO {table} ({names}) VALUES {rows} ON CONFLICT (msg_id) DO {action}"  # noqa: S608 - our names

    def drop_records(self, query: Query) -> int:
        """See ``TaskStore``."""
        doomed = [(record["msg_id"],) for record in self._in_rows(query, ("msg_id",))]
        with self._transaction():
            self._db.executemany(f"DELETE FROM {quoted(self.table)} WHERE msg_id = ?", doomed)  # noqa: S608 - likewise
            return len(doomed) + self._sheets.drop(query)

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
        return [*self._in_rows(query, keys), *self._sheets.find(query, keys)]

    def _in_rows(self, query: Query, keys: Sequence[str]) -> list[dict[str, Any]]:
        columns = [column for column in COLUMNS if column in query.keys or column in keys]
        sums = [name for name, about in CHECKED_BY.items() if set(about).issubset(columns)]
        found: list[dict[str, Any]] = []
        for where, values in _conditions(query):
            text = f"SELECT {', '.join((*columns, *sums))} FROM {quoted(self.table)}{where}"  # noqa: S608 - likewise
            for row in self._db.execute(text, values):
                record = self._record(columns, sums, row)
                if query.matches(record):
                    found.append(selected(record, keys))
        return found

    def _record(self, columns: list[str], sums: list[str], row: Sequence[Any]) -> dict[str, Any]:
        cells = dict(zip((*columns, *sums), row, strict=True))
        try:
            record = {column: _loaded(column, cells[column]) for column in columns}
            if record.get("msg_id", "") is not None and all(
                cells[name] is None or cells[name] == _checksum([cells[column] for column in CHECKED_BY[name]])
                for name in sums
            ):
                return record
        except (msgspec.DecodeError, TypeError, ValueError, OverflowError):
            pass
        raise sqlite3.DatabaseError(f"{self.path} is damaged: what stands for {cells.get('msg_id')!r} is no record")

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


class _Layout:
    """How records that have certain keys become rows."""

    __slots__ = ("_packed", "_sums", "columns")

    def __init__(self, keys: Collection[str]) -> None:
        given = ["msg_id", *(column for column in COLUMNS if column in keys and column != "msg_id")]
        self._packed = [(column, _PACKED.get(column)) for column in given[1:]]
        # Of a row that is changed in parts nobody knows the whole: it loses its checksum.
        self._sums = {
            name: itemgetter(*map(given.index, about)) if set(about).issubset(given) else None
            for name, about in CHECKED_BY.items()
            if any(column in given[1:] for column in about)
        }
        self.columns = (*given, *self._sums)

    def row(self, msg_id: str, record: Mapping[str, Any]) -> list[Any]:
        """The cells of a record."""
        cells = [
            msg_id,
            *[
                value if (value := record[column]) is None or pack is None else pack(value)
                for column, pack in self._packed
            ],
        ]
        return [*cells, *[None if cells_of is None else _checksum(cells_of(cells)) for cells_of in self._sums.values()]]


def _checksum(cells: Sequence[Any]) -> int:
    """Of some cells of a row as they stand in the database."""
    return zlib.crc32(_encode(cells))


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


#: How values of columns become what the database keeps, where they are not that already.
_PACKED: Final[dict[str, Callable[[Any], Any]]] = {
    **dict.fromkeys(TIMES, datetime.timestamp),
    **dict.fromkeys((*NESTED, *BUFFERS), _encode),
}


def _loaded(column: str, value: Any) -> Any:
    if value is None:
        return None
    if column in TIMES:
        return datetime.fromtimestamp(value, UTC)
    return _decode(value) if column in NESTED or column in BUFFERS else value
