"""Databases that are damaged, locked, full or out of reach: what was written is there, or it is said that it is not."""

from __future__ import annotations

import select
import sqlite3

import pytest

from enginery.store import sqlite
from enginery.store.batches import Changes
from enginery.store.queries import Query
from enginery.store.records import KEYS
from enginery.store.sqlite import SQLiteDB
from enginery.store.writer import Writer
from store.records_of_tests import make_record

COUNT = 40
PAGE = 4096
ALL = tuple(KEYS)


def written(folder, *, closed=True):
    """A database of one transaction for each record; with its log, if it was not closed."""
    store = SQLiteDB(location=str(folder))
    for number in range(COUNT):
        store.update_records({f"session_{number}": make_record(number, stdout="said " * 200)})
    if closed:
        store.close()
    return store


def found(folder):
    """The numbers of all records that are there, whole; raises what the database raises."""
    store = SQLiteDB(location=str(folder))
    try:
        records = store.find_records(Query({}), ALL)
    finally:
        store.close()
    numbers = sorted(int(record["msg_id"].rpartition("_")[2]) for record in records)
    for record in records:
        assert record == make_record(int(record["msg_id"].rpartition("_")[2]), stdout="said " * 200)
    return numbers


def test_cut_anywhere_its_log_gives_back_whole_transactions(tmp_path):
    first = tmp_path / "first"
    first.mkdir()
    store = written(first, closed=False)
    data, log = ((first / name).read_bytes() for name in ("tasks.db", "tasks.db-wal"))
    store.close()
    seen = set()
    for at, end in enumerate(range(0, len(log), len(log) // 60)):
        folder = tmp_path / str(at)
        folder.mkdir()
        (folder / "tasks.db").write_bytes(data)
        (folder / "tasks.db-wal").write_bytes(log[:end] + bytes(PAGE if at % 2 else 0))
        numbers = found(folder)
        assert numbers == list(range(len(numbers)))
        seen.add(len(numbers))
    assert len(seen) > COUNT // 2


@pytest.mark.parametrize("how", ["cut off", "zeros", "garbage"])
def test_damage_to_any_of_its_pages_is_told(tmp_path, how):
    written(tmp_path)
    path = tmp_path / "tasks.db"
    whole = path.read_bytes()
    for at in range(0, len(whole), PAGE):
        match how:
            case "cut off":
                path.write_bytes(whole[: at + PAGE // 2])
            case "zeros":
                path.write_bytes(whole[:at] + bytes(PAGE) + whole[at + PAGE :])
            case _:
                path.write_bytes(whole[:at] + b"\x07\xff" * (PAGE // 2) + whole[at + PAGE :])
        with pytest.raises(OSError, match=r"cannot be used: .*(damaged|malformed|not a database)"):
            found(tmp_path)


def test_damage_to_what_is_too_large_to_be_checked_is_told_to_who_asks(tmp_path, monkeypatch):
    written(tmp_path)
    monkeypatch.setattr(sqlite, "CHECKED", 0)
    path = tmp_path / "tasks.db"
    whole, refused = path.read_bytes(), 0
    for at in range(PAGE, len(whole), PAGE):
        path.write_bytes(whole[:at] + bytes(PAGE) + whole[at + PAGE :])
        try:
            assert found(tmp_path) == list(range(COUNT))  # what looks for records does not read all indices
        except (OSError, sqlite3.DatabaseError):
            refused += 1
    assert refused > len(whole) // PAGE // 2


def test_a_record_that_is_none_is_told(tmp_path):
    store = written(tmp_path, closed=False)
    for change in ("metadata = x'c1'", "submitted = 'soon'", "msg_id = NULL"):
        store._db.execute(f"UPDATE \"ipython-tasks\" SET {change} WHERE msg_id = 'session_7'")
        with pytest.raises(sqlite3.DatabaseError, match=r"tasks.db is damaged: .* is no record"):
            store.find_records(Query({}), ALL)
    store.close()


@pytest.mark.parametrize("broken", ["no database", "no folder", "no writing"])
def test_what_cannot_be_opened_is_said(tmp_path, broken):
    location = tmp_path
    if broken == "no database":
        (tmp_path / "tasks.db").write_bytes(b"this is a letter" * 100)
    elif broken == "no folder":
        location = tmp_path / "not" / "there"
    else:
        location = "/proc"  # where nobody, not even root, makes a file
    with pytest.raises(OSError, match=r"task database .*tasks.db' cannot be used: .* Choose another"):
        SQLiteDB(location=str(location))


def test_a_database_that_is_locked_is_said_and_used_once_it_is_free(tmp_path, monkeypatch):
    written(tmp_path)
    monkeypatch.setattr(sqlite, "PATIENCE", 20)
    other = sqlite3.connect(tmp_path / "tasks.db", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(OSError, match=r"cannot be used: database is locked"):
        SQLiteDB(location=str(tmp_path))
    other.execute("ROLLBACK")
    store = SQLiteDB(location=str(tmp_path))
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(sqlite3.OperationalError, match="locked"):
        store.update_records({"new_1": make_record(1)})
    assert len(store.find_records(Query({}), ALL)) == COUNT  # whoever writes locks nobody out who reads
    other.execute("ROLLBACK")
    store.update_records({"new_1": make_record(1)})
    assert len(store.find_records(Query({}), ALL)) == COUNT + 1
    store.close()
    other.close()


def test_of_a_full_disk_whole_batches_are_lost_and_counted_and_the_rest_is_there(tmp_path, caplog):
    stores = []

    def make():
        stores.append(SQLiteDB(location=str(tmp_path)))
        (pages,) = stores[0]._db.execute("PRAGMA page_count").fetchone()
        stores[0]._db.execute(f"PRAGMA max_page_count={pages + 30}")  # to SQLite this is a disk with no more room
        return stores[0]

    writer = Writer(make)
    batch = 5
    for first in range(0, 100, batch):
        numbers = range(first, first + batch)
        writer.write(Changes({f"session_{number}": make_record(number, stdout="said " * 1000) for number in numbers}))
        done = []
        writer.ask(lambda _store: None, done.append)  # so that each batch is a transaction of its own
        while not done:
            assert select.select([writer.wakeup], [], [], 10)[0]
            writer.take_replies()
    writer.close()
    assert writer.lost
    assert writer.lost + writer.written == 100
    assert "database or disk is full" in caplog.text
    assert f"Records lost so far: {batch}" in caplog.text
    store = SQLiteDB(location=str(tmp_path))
    assert len(store.find_records(Query({}), ("msg_id",))) == writer.written
    store.close()


def test_a_flipped_bit_in_a_row_is_told_to_who_asks_for_the_record(tmp_path, monkeypatch):
    monkeypatch.setattr(sqlite, "CHECKED", 0)
    store = SQLiteDB(location=str(tmp_path))
    store.update_records({"session_1": make_record(1, stdout="s" * 50, label="sweep", buffers=[b"b" * 50])})
    store.update_records({"session_1": {"resubmitted": "session_2"}})
    store.close()
    path = tmp_path / "tasks.db"
    whole = path.read_bytes()
    for what in (b"ssss", b"weep", b"bbbb", b"ngine-0", b"display", b"value"):
        at = whole.index(what)
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 2]) + whole[at + 1 :])
        store = SQLiteDB(location=str(tmp_path))
        with pytest.raises(sqlite3.DatabaseError, match="is damaged: what stands for 'session_1' is no record"):
            store.find_records(Query({}), ALL)
        store.close()


@pytest.mark.parametrize("column", [key for key in KEYS if key != "resubmitted"])
def test_every_cell_of_a_row_has_a_part_in_its_checksums(column):
    store = SQLiteDB(":memory:")
    store.update_records({"session_1": make_record(1, execute_result={"data": 1})})
    (before,) = store._db.execute(f'SELECT {column} FROM "ipython-tasks"').fetchone()
    value = before + 0.5 if isinstance(before, float) else b"\x90" if isinstance(before, bytes) else "other"
    store._db.execute(f'UPDATE "ipython-tasks" SET {column} = ?', (value,))
    with pytest.raises(sqlite3.DatabaseError, match="is no record"):
        store.find_records(Query({}), ALL)
    store.close()


def test_what_is_changed_in_parts_has_no_checksum_and_is_no_damage():
    store = SQLiteDB(":memory:")
    store.update_records({"session_1": make_record(1)})
    store.update_records({"session_1": {"label": "later"}, "session_2": {"result_buffers": [b"x"]}})
    found = {record["msg_id"]: record for record in store.find_records(Query({}), ALL)}
    assert found["session_1"] == make_record(1, label="later")
    assert found["session_2"]["result_buffers"] == [b"x"]
    store.update_records({"session_1": make_record(1), "session_2": make_record(2)})
    assert [each["label"] for each in store.find_records(Query({}), ALL)] == [None, None]
    store.close()
