"""The database in a file: it lasts, leaves strangers' tables alone, and says in words what is wrong with it."""

from __future__ import annotations

import sqlite3

import pytest

from enginery.store.queries import Query
from enginery.store.sqlite import SQLiteDB
from store.records_of_tests import make_record


def ids(store):
    return sorted(each["msg_id"] for each in store.find_records(Query({}), ("msg_id",)))


def open_and_fill(folder, *numbers, **given):
    store = SQLiteDB(location=str(folder), **given)
    store.update_records({f"session_{number}": make_record(number) for number in numbers})
    found = ids(store)
    store.close()
    return found


def test_a_named_table_carries_records_from_one_run_to_the_next(tmp_path):
    assert open_and_fill(tmp_path, 1, table="tasks") == ["session_1"]
    assert open_and_fill(tmp_path, 2, table="tasks") == ["session_1", "session_2"]
    assert open_and_fill(tmp_path, 3, table="others") == ["session_3"]
    assert (tmp_path / "tasks.db").is_file()


def test_without_a_table_each_run_has_its_own(tmp_path):
    assert open_and_fill(tmp_path, 1, table="", session="a") == ["session_1"]
    assert open_and_fill(tmp_path, 2, table="", session="b") == ["session_2"]


def test_a_table_of_somebody_else_is_left_alone(tmp_path):
    with sqlite3.connect(tmp_path / "tasks.db") as db:
        db.execute('CREATE TABLE "ipython-tasks" (msg_id TEXT PRIMARY KEY, content TEXT)')
        db.execute("INSERT INTO \"ipython-tasks\" VALUES ('old_1', 'mine')")
    db.close()
    assert open_and_fill(tmp_path, 1) == ["session_1"]
    assert open_and_fill(tmp_path, 2) == ["session_1", "session_2"]
    db = sqlite3.connect(tmp_path / "tasks.db")
    assert db.execute('SELECT * FROM "ipython-tasks"').fetchall() == [("old_1", "mine")]
    assert db.execute('SELECT count(*) FROM "ipython-tasks_1"').fetchall() == [(2,)]
    db.close()


def test_a_table_of_another_version_is_left_alone(tmp_path):
    open_and_fill(tmp_path, 1)
    with sqlite3.connect(tmp_path / "tasks.db") as db:
        db.execute("UPDATE enginery_tables SET version = 99")
    db.close()
    assert open_and_fill(tmp_path, 2) == ["session_2"]


def test_names_of_tables_may_be_anything(tmp_path):
    assert open_and_fill(tmp_path, 1, table='a "b"; DROP TABLE x --') == ["session_1"]


def test_the_log_is_written_ahead_and_readers_are_not_locked_out(tmp_path):
    store = SQLiteDB(location=str(tmp_path))
    store.update_records({"session_1": make_record(1)})
    reader = sqlite3.connect(tmp_path / "tasks.db")
    assert reader.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    assert reader.execute('SELECT msg_id, status FROM "ipython-tasks"').fetchall() == [("session_1", "ok")]
    reader.close()
    store.close()


@pytest.mark.parametrize("broken", ["no database", "no folder"])
def test_what_cannot_be_opened_is_said(tmp_path, broken):
    location = tmp_path
    if broken == "no database":
        (tmp_path / "tasks.db").write_bytes(b"this is a letter" * 100)
    else:
        location = tmp_path / "not" / "there"
    with pytest.raises(OSError, match=r"task database .*tasks.db' cannot be used: .* Choose another"):
        SQLiteDB(location=str(location))


def test_a_batch_that_fails_leaves_nothing_behind(tmp_path):
    store = SQLiteDB(location=str(tmp_path))
    with pytest.raises(UnicodeEncodeError):
        store.update_records({"a_1": make_record(1, msg_id="a_1"), "b_1": make_record(2, msg_id="b_1", label="\ud800")})
    assert ids(store) == []
    store.update_records({"a_1": make_record(1, msg_id="a_1")})
    assert ids(store) == ["a_1"]
    store.close()


def test_functions_are_kept_once(tmp_path):
    store = SQLiteDB(location=str(tmp_path))
    store.keep_function(b"digest", b"body")
    store.keep_function(b"digest", b"body")
    store.close()
    store = SQLiteDB(location=str(tmp_path))
    assert store.get_function(b"digest") == b"body"
    assert store.get_function(b"other") is None
    store.close()
