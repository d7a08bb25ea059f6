"""Sheets say of each task what its record says; what is changed, dropped or damaged on them is as in any store."""

from __future__ import annotations

import sqlite3

import pytest
from hypothesis import given, settings

from enginery.store import sqlite
from enginery.store.memory import DictDB
from enginery.store.queries import Query, in_order
from enginery.store.records import KEYS, Origin, record_of
from enginery.store.sheets import _QUICK, Sheet
from enginery.store.sqlite import SQLiteDB
from store.records_of_tests import queries
from store.sheets_of_tests import BASE, ENGINES, histories, make_entry, sheet_of

ALL = tuple(KEYS)
#: What is made without making the record.
QUICK = ("msg_id", *(key for key in _QUICK if key != "msg_id"))


@pytest.fixture(autouse=True)
def every_sheet_is_worth_it(monkeypatch):
    monkeypatch.setattr(sqlite, "WORTH", 1)


def records_of(entries):
    return {entry.msg_id: {"resubmitted": None, **record_of(entry)} for entry in entries}


def find(store, query=None, keys=ALL):
    return in_order(store.find_records(Query(query or {}), tuple(keys)))


@settings(max_examples=30)
@given(entries=histories, query=queries)
def test_every_query_gives_the_same_answer_as_from_memory(entries, query):
    memory, database = DictDB(record_limit=0, size_limit=0), SQLiteDB(":memory:")
    memory.update_records(records_of(entries))
    half = (len(entries) + 1) // 2
    database.add_sheets([sheet_of(some) for some in (entries[:half], entries[half:]) if some])
    for keys in (ALL, QUICK, ("msg_id", "result_buffers")):
        assert find(database, query, keys) == find(memory, query, keys)
    assert database.drop_records(Query(query)) == memory.drop_records(Query(query))
    assert find(database) == find(memory)
    database.close()


@pytest.mark.parametrize("operator", ["$lt", "$lte", "$gt", "$gte", "$eq"])
@pytest.mark.parametrize("key", ["submitted", "completed"])
def test_no_time_is_left_out_by_rounding(key, operator):
    store = SQLiteDB(":memory:")
    entries = [make_entry(number, submitted=BASE + number + 1e-7 * number) for number in range(9)]
    for entry in entries:
        entry.result.finished += 3.3e-7
        store.add_sheets([sheet_of([entry])])
    for record in records_of(entries).values():
        expected = [
            each["msg_id"]
            for each in records_of(entries).values()
            if Query({key: {operator: record[key]}}).matches(each)
        ]
        assert [each["msg_id"] for each in find(store, {key: {operator: record[key]}}, ["msg_id"])] == expected
    store.close()


def test_they_last(tmp_path):
    entries = [make_entry(number) for number in range(9)]
    store = SQLiteDB(location=str(tmp_path))
    store.add_sheets([sheet_of(entries)])
    store.close()
    store = SQLiteDB(location=str(tmp_path))
    assert find(store) == list(records_of(entries).values())
    store.close()
    other = SQLiteDB(location=str(tmp_path), table="others")
    assert find(other) == []
    other.add_sheets([sheet_of(entries[:3])])
    assert other.drop_records(Query({})) == 3
    other.close()
    store = SQLiteDB(location=str(tmp_path))
    assert len(find(store)) == 9
    store.close()


def test_few_tasks_have_a_row_each_for_whoever_looks_in(tmp_path, monkeypatch):
    monkeypatch.setattr(sqlite, "WORTH", 3)
    store = SQLiteDB(location=str(tmp_path))
    entries = [make_entry(number) for number in range(5)]
    store.add_sheets([sheet_of(entries[:2]), sheet_of(entries[2:])])
    assert find(store) == list(records_of(entries).values())
    rows = store._db.execute('SELECT msg_id FROM "ipython-tasks" ORDER BY msg_id').fetchall()
    assert rows == [("ours_0",), ("ours_1",)]
    store.close()


def test_what_is_changed_is_changed_whole_and_once():
    store = SQLiteDB(":memory:")
    entries = [make_entry(number, result_buffers=[b"a", b"b"]) for number in range(4)]
    store.add_sheets([sheet_of(entries)])
    store.update_records({"ours_2": {"resubmitted": "ours_9"}, "ours_7": {"label": "new"}, "other": {"label": "odd"}})
    expected = records_of(entries)
    expected["ours_2"]["resubmitted"] = "ours_9"
    found = {record["msg_id"]: record for record in find(store)}
    assert found == {
        **expected,
        **{
            each: {**dict.fromkeys(KEYS), "msg_id": each, "label": label}
            for each, label in (("ours_7", "new"), ("other", "odd"))
        },
    }
    wanted = {"msg_id": {"$in": ["ours_2", "ours_3", "nobody_1"]}}
    assert [each["resubmitted"] for each in find(store, wanted, ["resubmitted", "submitted", "msg_id"])] == [
        "ours_9",
        None,
    ]
    store.close()


def test_a_sheet_with_nothing_left_goes():
    store = SQLiteDB(":memory:")
    store.add_sheets([sheet_of([make_entry(number) for number in range(4)])])
    for number in range(4):
        assert store.drop_records(Query({"msg_id": f"ours_{number}"})) == 1
        assert store.drop_records(Query({"msg_id": f"ours_{number}"})) == 0
        assert len(find(store)) == 3 - number
    assert store._db.execute("SELECT count(*) FROM enginery_sheets").fetchone() == (0,)
    store.close()


def test_tasks_of_several_clients_are_told_apart_by_name():
    store = SQLiteDB(":memory:")
    theirs = Origin(4, "theirs", "bob")
    entries = [make_entry(number, engine=ENGINES[2]) for number in range(3)]
    others = [make_entry(number, origin=theirs) for number in range(3)]
    store.add_sheets([sheet_of(entries), sheet_of(others)])
    assert [each["msg_id"] for each in find(store, {"client_uuid": "theirs"})] == ["theirs_0", "theirs_1", "theirs_2"]
    assert [each["engine_id"] for each in find(store, {"msg_id": {"$in": ["ours_1", "theirs_1"]}})] == [1, 0]
    store.close()


# --- damage --------------------------------------------------------------------------------------------------------


def flipped(path, at):
    """Flip one bit of a file."""
    data = bytearray(path.read_bytes())
    data[at] ^= 0x10
    path.write_bytes(data)


@pytest.mark.parametrize("checked", [0, sqlite.CHECKED])
def test_every_flipped_bit_of_a_sheet_is_told(tmp_path, monkeypatch, checked):
    monkeypatch.setattr(sqlite, "CHECKED", checked)
    entries = [make_entry(number, buffers=[b"arguments of %d" % number]) for number in range(40)]
    sheet, path = sheet_of(entries), tmp_path / "tasks.db"
    store = SQLiteDB(location=str(tmp_path))
    store.add_sheets([sheet])
    store.close()
    whole = path.read_bytes()
    for part in (sheet.facts, sheet.contents):
        begin = whole.index(part[:200])
        for at in range(begin, begin + 200, 41):
            flipped(path, at)
            with pytest.raises(
                (OSError, sqlite3.DatabaseError), match="damaged: sheet 1 of records is not what was written"
            ):
                found_in(tmp_path)
            path.write_bytes(whole)
    assert len(found_in(tmp_path)) == 40


def test_an_index_that_does_not_lead_to_a_sheet_is_told(tmp_path):
    store, path = SQLiteDB(location=str(tmp_path)), tmp_path / "tasks.db"
    store.add_sheets([sheet_of([make_entry(number) for number in range(40)])])
    store.close()
    whole = path.read_bytes()
    places = [at for at in range(len(whole)) if whole.startswith(b"ipython-tasksours", at)]
    assert len(places) == 2, "in the table and in its index"
    for at in places:
        flipped(path, at + len(b"ipython-tasksour"))
        with pytest.raises(OSError, match="damaged"):
            found_in(tmp_path)
        path.write_bytes(whole)


def found_in(folder):
    store = SQLiteDB(location=str(folder))
    try:
        return find(store)
    finally:
        store.close()


def test_what_a_sheet_is_found_by_is_checked_too():
    store = SQLiteDB(":memory:")
    store.add_sheets([sheet_of([make_entry(number) for number in range(4)])])
    for column, value in (
        ("last", 9),
        ("completed_to", 1e12),
        ("gone", b"\x91\x01"),
        ("session", "mine"),
        ("checksum", 5),
    ):
        (before,) = store._db.execute(f"SELECT {column} FROM enginery_sheets").fetchone()
        store._db.execute(f"UPDATE enginery_sheets SET {column} = ?", (value,))
        with pytest.raises(sqlite3.DatabaseError, match="damaged: sheet 1"):
            find(store)
        store._db.execute(f"UPDATE enginery_sheets SET {column} = ?", (before,))
    assert len(find(store)) == 4
    store.close()


def test_a_sheet_that_fits_its_checksum_and_is_none_is_told():
    store = SQLiteDB(":memory:")
    good = sheet_of([make_entry(number) for number in range(4)])
    for facts in (b"", b"\x90", good.facts[:-1], b"\xc1"):
        bad = sheet_of([make_entry(number) for number in range(4)])
        bad.facts = facts
        store.add_sheets([bad])
        with pytest.raises(sqlite3.DatabaseError, match="damaged: sheet"):
            find(store)
        store._db.execute("DELETE FROM enginery_sheets")
    assert isinstance(good, Sheet)
    store.close()
