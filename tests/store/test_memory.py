"""DictDB stays within its limits, and lets the oldest finished records go first."""

from __future__ import annotations

from datetime import timedelta

from enginery.store.memory import DictDB
from enginery.store.queries import Query
from store.records_of_tests import START, make_record


def fill(store, numbers, **given):
    store.update_records({f"session_{number}": make_record(number, **given) for number in numbers})


def ids(store):
    return {each["msg_id"] for each in store.find_records(Query({}), ("msg_id",))}


def test_past_the_limit_the_oldest_go_a_part_at_once():
    store = DictDB(record_limit=100, cull_fraction=0.1)
    fill(store, range(100))
    assert len(store) == 100
    fill(store, [100])
    assert ids(store) == {f"session_{number}" for number in range(11, 101)}


def test_what_finished_first_goes_first_whenever_it_came():
    store = DictDB(record_limit=3, cull_fraction=0.0)
    for number, ended in enumerate((30, 10, 20, 40)):
        fill(store, [number], completed=START + timedelta(seconds=ended))
    assert ids(store) == {"session_0", "session_2", "session_3"}


def test_what_has_not_finished_stays():
    store = DictDB(record_limit=2, cull_fraction=0.5)
    fill(store, range(5), completed=None)
    fill(store, range(5, 8))
    assert ids(store) == {f"session_{number}" for number in range(5)}


def test_bytes_are_limited_too():
    store = DictDB(record_limit=0, size_limit=1 << 20, cull_fraction=0.0)
    fill(store, range(20), result_buffers=[bytes(100_000)])
    assert 5 <= len(store) <= 10
    assert store.size <= 1 << 20
    assert "session_19" in store


def test_the_size_is_that_of_what_is_there():
    store = DictDB()
    fill(store, range(10))
    store.update_records({"session_3": {"stdout": "x" * 1000}})
    before = store.size
    store.drop_records(Query({"msg_id": "session_3"}))
    assert before - store.size > 1000
    store.drop_records(Query({}))
    assert store.size == 0


def test_the_limits_are_named():
    assert "newest 7 finished tasks" in DictDB(record_limit=7).limits()
    assert "DictDB.record_limit, DictDB.size_limit" in DictDB().limits()
