"""The database in a file: it lasts from one run to the next, and readers may look into it meanwhile."""

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
