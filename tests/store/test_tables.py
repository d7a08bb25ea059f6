"""Tables of older versions become those of today, later ones are refused, and those of others are left alone."""

from __future__ import annotations

import contextlib
import json
import pickle
import sqlite3
from datetime import UTC, datetime

import pytest

from enginery.store import tables
from enginery.store.queries import Query, in_order
from enginery.store.records import KEYS
from enginery.store.sqlite import SQLiteDB
from store.records_of_tests import make_record

#: As IPython Parallel makes it.
FORMER = """
CREATE TABLE 'ipython-tasks' (msg_id text PRIMARY KEY, header dict text, metadata dict text, content dict text,
    buffers bufs blob, submitted timestamp, client_uuid text, engine_uuid text, started timestamp, completed timestamp,
    resubmitted text, received timestamp, result_header dict text, result_metadata dict text, result_content dict text,
    result_buffers bufs blob, queue text, execute_input text, execute_result text, error text, stdout text, stderr text,
    label text)
"""
FORMER_ROW = {
    "msg_id": "139bdec8-93091cfb_24773_2",
    "header": json.dumps({"msg_type": "apply_request", "session": "139bdec8-93091cfb"}),
    "metadata": json.dumps({"after": [], "retries": 0}),
    "content": "{}",
    "buffers": pickle.dumps([b"function", b"arguments"]),
    "submitted": "2026-11-21T12:19:30.384749+00:00",
    "client_uuid": "139bdec8-93091cfb",
    "engine_uuid": "c93530b7",
    "completed": "2026-11-21T12:19:31.121195",
    "result_content": json.dumps({"status": "error", "ename": "ZeroDivisionError", "evalue": "division by zero"}),
    "result_buffers": pickle.dumps([b"nothing"]),
    "queue": "task",
    "error": json.dumps({"ename": "ZeroDivisionError"}),
    "stdout": "oops\n",
    "stderr": "",
    "label": "sweep",
}


@contextlib.contextmanager
def database(folder):
    with contextlib.closing(sqlite3.connect(folder / "tasks.db")) as db, db:
        yield db


def insert(db, table, row):
    db.execute(f'INSERT INTO "{table}" ({", ".join(row)}) VALUES ({", ".join("?" * len(row))})', tuple(row.values()))


def find(folder, query=None, keys=KEYS):
    store = SQLiteDB(location=str(folder))
    try:
        return store.table, store.find_records(Query(query or {}), tuple(keys))
    finally:
        store.close()


def fill(folder, *numbers):
    store = SQLiteDB(location=str(folder))
    store.update_records({f"session_{number}": make_record(number) for number in numbers})
    store.keep_function(b"digest", b"body")
    store.close()


def make_older(folder, *missing):
    """Take columns away, as in a version in which they were not known."""
    with database(folder) as db:
        for column in missing:
            db.execute(f'DROP INDEX IF EXISTS "ipython-tasks-{column}"')
            db.execute(f'ALTER TABLE "ipython-tasks" DROP COLUMN {column}')
        db.execute("UPDATE enginery_tables SET version = ?", (tables.VERSION - 1,))


def test_an_older_version_becomes_todays_with_all_it_holds(tmp_path, caplog):
    fill(tmp_path, 1, 2)
    make_older(tmp_path, "label", "outputs")
    missing = {"label": None, "outputs": None}
    assert find(tmp_path) == ("ipython-tasks", [make_record(1, **missing), make_record(2, **missing)])
    assert f"was of version {tables.VERSION - 1}" in caplog.text
    fill(tmp_path, 3)
    assert find(tmp_path, {"label": None, "msg_id": "session_3"}, ["outputs"])[1] == [
        {"outputs": [["display", b"data"]]}
    ]
    with database(tmp_path) as db:
        assert dict(db.execute("SELECT name, version FROM enginery_tables")) == {"ipython-tasks": tables.VERSION}
        made = {name for (name,) in db.execute("SELECT name FROM sqlite_master")}
        assert "ipython-tasks-label" in made
        assert not [name for name in made if "before" in name]


def test_a_table_from_before_there_were_checksums_is_read_and_goes_on(tmp_path):
    fill(tmp_path, 1)
    make_older(tmp_path, "checksum", "buffers_checksum")
    with database(tmp_path) as db:
        db.execute("DROP TABLE enginery_sheets")
    assert find(tmp_path) == ("ipython-tasks", [make_record(1)])
    fill(tmp_path, 2)
    assert find(tmp_path) == ("ipython-tasks", [make_record(1), make_record(2)])
    with database(tmp_path) as db:
        sums = dict(db.execute('SELECT msg_id, checksum IS NOT NULL FROM "ipython-tasks"'))
    assert sums == {"session_1": 0, "session_2": 1}


def test_making_one_anew_that_is_interrupted_has_not_happened(tmp_path, monkeypatch):
    fill(tmp_path, 1, 2)
    make_older(tmp_path, "label")
    with monkeypatch.context() as patch:
        patch.setattr(tables, "_make", lambda *_: (_ for _ in ()).throw(sqlite3.OperationalError("disk is full")))
        with pytest.raises(OSError, match=r"cannot be used: disk is full"):
            find(tmp_path)
    assert [each["msg_id"] for each in find(tmp_path)[1]] == ["session_1", "session_2"]


def test_a_later_version_is_refused_and_left_as_it_is(tmp_path):
    fill(tmp_path, 1)
    with database(tmp_path) as db:
        db.execute("UPDATE enginery_tables SET version = 99")
    before = (tmp_path / "tasks.db").read_bytes()
    with pytest.raises(
        OSError, match=r"'ipython-tasks' is of version 99, .* use the release that wrote it, or another"
    ):
        find(tmp_path)
    assert (tmp_path / "tasks.db").read_bytes() == before
    store = SQLiteDB(location=str(tmp_path), table="others")
    assert store.find_records(Query({}), ("msg_id",)) == []
    store.close()


def test_a_table_of_somebody_else_is_left_alone(tmp_path, caplog):
    with database(tmp_path) as db:
        db.execute('CREATE TABLE "ipython-tasks" (msg_id TEXT PRIMARY KEY, content TEXT)')
        db.execute("INSERT INTO \"ipython-tasks\" VALUES ('old_1', 'mine')")
    fill(tmp_path, 1)
    fill(tmp_path, 2)
    assert find(tmp_path)[0] == "ipython-tasks_1"
    assert [each["msg_id"] for each in find(tmp_path)[1]] == ["session_1", "session_2"]
    assert "somebody else's" in caplog.text
    with database(tmp_path) as db:
        assert db.execute('SELECT * FROM "ipython-tasks"').fetchall() == [("old_1", "mine")]


def test_records_of_ipython_parallel_are_copied_once(tmp_path, caplog):
    with database(tmp_path) as db:
        db.execute(FORMER)
        insert(db, "ipython-tasks", FORMER_ROW)
        insert(
            db,
            "ipython-tasks",
            {"msg_id": "odd_1_1", "submitted": "no time", "header": "[1]", "content": "{", "stdout": 5},
        )
        db.execute("INSERT INTO \"ipython-tasks\" (stdout) VALUES ('nameless')")
        before = db.execute('SELECT * FROM "ipython-tasks"').fetchall()
    table, found = find(tmp_path)
    odd, record = in_order(found)
    assert table == "ipython-tasks_1"
    assert "2 records of IPython Parallel were copied" in caplog.text
    assert record == {
        **dict.fromkeys(KEYS),
        "msg_id": "139bdec8-93091cfb_24773_2",
        "header": {"msg_type": "apply_request", "session": "139bdec8-93091cfb"},
        "metadata": {"after": [], "retries": 0},
        "content": {},
        "submitted": datetime(2026, 11, 21, 12, 19, 30, 384749, UTC),
        "client_uuid": "139bdec8-93091cfb",
        "engine_uuid": "c93530b7",
        "completed": datetime(2026, 11, 21, 12, 19, 31, 121195, UTC),
        "result_content": {"status": "error", "ename": "ZeroDivisionError", "evalue": "division by zero"},
        "queue": "task",
        "status": "error",
        "error": "ZeroDivisionError: division by zero",
        "stdout": "oops\n",
        "stderr": "",
        "label": "sweep",
    }
    assert odd == {**dict.fromkeys(KEYS), "msg_id": "odd_1_1", "stdout": "5"}
    fill(tmp_path, 1)
    assert len(find(tmp_path)[1]) == 3
    with database(tmp_path) as db:
        assert db.execute('SELECT * FROM "ipython-tasks"').fetchall() == before
