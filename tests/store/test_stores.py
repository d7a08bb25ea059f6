"""Memory and SQLite: what is written is found again, and every query gives the same answer as a naive reference."""

from __future__ import annotations

import pytest
from hypothesis import given

from enginery.store.memory import DictDB
from enginery.store.queries import Query, in_order
from enginery.store.records import KEYS
from enginery.store.sqlite import SQLiteDB
from store.records_of_tests import SAMPLES, START, all_pairs, expected, make_record, queries, records

STORES = {
    "memory": lambda: DictDB(record_limit=0, size_limit=0),
    "sqlite": lambda: SQLiteDB(":memory:"),
}
ALL = tuple(KEYS)


@pytest.fixture(params=STORES)
def store(request):
    store = STORES[request.param]()
    yield store
    store.close()


def find(store, query, keys=ALL):
    return in_order(store.find_records(Query(query), keys))


def test_a_record_comes_back_as_it_was(store):
    first = make_record(1, label="größer", metadata={"targets": [1, 2], "timeout": 1.5, "after": ["a_1"]})
    second = make_record(2, submitted=None, started=None, completed=None, result_buffers=None, outputs=[])
    store.update_records({each["msg_id"]: each for each in (first, second)})
    assert find(store, {}) == [second, first]
    assert find(store, {"label": "größer"}, ("msg_id", "buffers")) == [
        {"msg_id": "session_1", "buffers": [b"arguments", b"more"]}
    ]


def test_views_of_buffers_are_taken_as_bytes(store):
    store.update_records({"x": make_record(1, msg_id="x", buffers=[b"head", memoryview(b"body")])})
    assert [bytes(each) for each in find(store, {})[0]["buffers"]] == [b"head", b"body"]


def test_changes_leave_the_rest_alone(store):
    store.update_records({"session_1": make_record(1, completed=None, status=None)})
    store.update_records({"session_1": {"status": "ok", "completed": START}, "new_1": {"label": "later"}})
    found = {each["msg_id"]: each for each in find(store, {})}
    assert found["session_1"] == make_record(1, completed=START)
    assert found["new_1"] == {**dict.fromkeys(KEYS), "msg_id": "new_1", "label": "later"}


def test_records_are_dropped_by_query(store):
    store.update_records({f"session_{number}": make_record(number, engine_id=number % 2) for number in range(6)})
    assert store.drop_records(Query({"engine_id": 1})) == 3
    assert [each["msg_id"] for each in find(store, {})] == ["session_0", "session_2", "session_4"]
    assert store.drop_records(Query({"msg_id": {"$in": ["session_0", "nobody_1"]}})) == 1
    assert store.drop_records(Query({})) == 2
    assert find(store, {}) == []


def test_thousands_of_ids_are_one_question(store):
    store.update_records({f"session_{number}": make_record(number) for number in range(2000)})
    wanted = [f"session_{number}" for number in range(0, 4000, 2)]
    assert len(find(store, {"msg_id": {"$in": wanted}}, ("msg_id",))) == 1000


# --- the same meaning everywhere -----------------------------------------------------------------------------------


def test_the_reference_is_no_copy(record):
    """That it tells right from wrong, on one example."""
    documents = [record(1, label="a"), record(2, label=None)]
    assert expected(documents, {"label": {"$ne": "a"}}) == {"session_2"}


@pytest.mark.parametrize("key", SAMPLES)
def test_every_operator_on_every_pair_of_values(store, key):
    documents = {f"session_{at}": make_record(at, **{key: value}) for at, value in enumerate(SAMPLES[key])}
    store.update_records(documents)
    for query in all_pairs(key):
        found = {each["msg_id"] for each in store.find_records(Query(query), ("msg_id",))}
        assert found == expected(documents.values(), query), query


@given(given_records=records, query=queries)
def test_every_store_gives_the_same_answer(given_records, query):
    documents = [make_record(number, **fields) for number, fields in enumerate(given_records)]
    wanted = expected(documents, query)
    for name, make in STORES.items():
        store = make()
        try:
            store.update_records({each["msg_id"]: each for each in documents})
            found = store.find_records(Query(query), ALL)
            assert {each["msg_id"] for each in found} == wanted, name
            assert len(found) == len(wanted), name
            by_id = {each["msg_id"]: each for each in documents}
            assert all(each == by_id[each["msg_id"]] for each in found), name
            assert store.drop_records(Query(query)) == len(wanted), name
            assert len(store.find_records(Query({}), ("msg_id",))) == len(documents) - len(wanted), name
        finally:
            store.close()
