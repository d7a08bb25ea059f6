"""The query language by itself: what matches, and what is refused in words."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from enginery.store.queries import Query, in_order, selected, selection, together
from enginery.store.records import BUFFERS, KEYS

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)


@pytest.mark.parametrize(
    ("condition", "label"),
    [
        ("sim-1", "sim-1"),
        (None, None),
        ({"$eq": "a"}, "a"),
        ({"$ne": "a"}, "b"),
        ({"$ne": "a"}, None),
        ({"$ne": None}, "a"),
        ({"$lt": "b"}, "a"),
        ({"$lte": "b"}, "b"),
        ({"$le": "b"}, "b"),
        ({"$gt": "a"}, "b"),
        ({"$gte": "b"}, "b"),
        ({"$ge": "b"}, "b"),
        ({"$gt": "a", "$lt": "c"}, "b"),
        ({"$in": ["a", "b"]}, "b"),
        ({"$in": ["a", None]}, None),
        ({"$in": ("a",)}, "a"),
        ({"$nin": ["a", "b"]}, "c"),
        ({"$nin": ["a"]}, None),
        ({"$exists": True}, "a"),
        ({"$exists": False}, None),
        ({"$exists": 1}, "a"),
        ({"$glob": "sim-*"}, "sim-17"),
        ({"$glob": "sim-[ab]?"}, "sim-a1"),
        ({"$all": ["a"]}, "a"),
    ],
)
def test_conditions_that_hold(condition, label):
    assert Query({"label": condition}).matches({"label": label})


@pytest.mark.parametrize(
    ("condition", "label"),
    [
        ("a", "b"),
        ("a", None),
        (None, "a"),
        ({"$ne": "a"}, "a"),
        ({"$ne": None}, None),
        ({"$lt": "b"}, "b"),
        ({"$lt": "b"}, None),
        ({"$gt": "b"}, None),
        ({"$gt": "b"}, "a"),
        ({"$gt": 1}, "a"),
        ({"$lt": "b"}, 1),
        ({"$lt": NOON}, "a"),
        ({"$gt": "a", "$lt": "c"}, "c"),
        ({"$in": []}, "a"),
        ({"$nin": ["a", None]}, None),
        ({"$exists": False}, "a"),
        ({"$exists": True}, None),
        ({"$glob": "sim-*"}, "other"),
        ({"$glob": "*"}, None),
        ({"$glob": "SIM*"}, "sim"),
        ({"$mod": [2, 0]}, "a"),
        ({"$all": []}, "a"),
    ],
)
def test_conditions_that_do_not_hold(condition, label):
    assert not Query({"label": condition}).matches({"label": label})


def test_what_is_known_of_a_task_from_two_places_is_one_record(record):
    live = [record(1, status=None), record(3, status=None)]
    found = [record(2), record(1, status="ok")]
    assert [(each["msg_id"], each["status"]) for each in together(live, found)] == [
        ("session_1", "ok"),
        ("session_2", "ok"),
        ("session_3", None),
    ]


def test_numbers_are_compared_as_numbers():
    assert Query({"engine_id": {"$mod": [4, 3]}}).matches({"engine_id": 7})
    assert Query({"engine_id": {"$mod": [4.0, 7]}}).matches({"engine_id": 3})
    assert not Query({"engine_id": {"$mod": [4, 3]}}).matches({"engine_id": None})
    assert Query({"engine_id": 2.0}).matches({"engine_id": 2})
    assert not Query({"engine_id": True}).matches({"engine_id": 1})


def test_less_and_greater_differ():
    """In the original $gt was $lt."""
    records = [{"engine_id": number} for number in range(5)]

    def found(**condition):
        query = Query({"engine_id": {f"${name}": value for name, value in condition.items()}})
        return [record["engine_id"] for record in records if query.matches(record)]

    assert found(lt=2) == [0, 1]
    assert found(gt=2) == [3, 4]
    assert found(lte=2) == found(le=2) == [0, 1, 2]
    assert found(gte=2) == found(ge=2) == [2, 3, 4]


@pytest.mark.parametrize("condition", [{"$ge": 1, "$gte": 0}, {"$gte": 0, "$ge": 1}, {"$gte": 1, "$ge": 0}])
def test_an_operator_by_both_of_its_names(condition):
    assert [number for number in range(3) if Query({"engine_id": condition}).matches({"engine_id": number})] == [1, 2]


def test_all_keys_have_to_match():
    """In the original only the last value counted."""
    query = Query({"status": "ok", "queue": "mux", "engine_id": {"$in": [0, 1]}})
    assert query.matches({"status": "ok", "queue": "mux", "engine_id": 1})
    assert not query.matches({"status": "error", "queue": "mux", "engine_id": 1})
    assert not query.matches({"status": "ok", "queue": "task", "engine_id": 1})
    assert not query.matches({"status": "ok", "queue": "mux", "engine_id": 2})


def test_nested_keys():
    record = {"metadata": {"retries": 3, "targets": [0, 1]}, "content": None}
    assert Query({"metadata.retries": {"$gt": 2}}).matches(record)
    assert Query({"metadata.targets": {"$all": [1, 0]}}).matches(record)
    assert not Query({"metadata.targets": {"$all": [1, 2]}}).matches(record)
    assert Query({"metadata.targets": [0, 1]}).matches(record)
    assert Query({"metadata.none": None, "content.action": None}).matches(record)
    assert Query({"metadata": {"retries": 3, "targets": [0, 1]}}).matches(record)


def test_times_of_any_zone_are_compared_by_the_moment():
    local = NOON.astimezone().replace(tzinfo=None)
    assert Query({"submitted": NOON}).matches({"submitted": NOON})
    assert Query({"submitted": local}).matches({"submitted": NOON})
    assert Query({"submitted": {"$lt": local}}).matches({"submitted": NOON - timedelta(seconds=1)})
    assert not Query({"submitted": {"$lt": local}}).matches({"submitted": None})


def test_no_conditions_match_everything():
    assert Query({}).matches({"msg_id": "x"})
    assert Query(None).matches({"msg_id": "x"})


@pytest.mark.parametrize(
    ("query", "words"),
    [
        ([1], "A query is a dict of keys and conditions, not [1]."),
        ({3: 1}, "The keys of a query are strings, not 3."),
        ({"size": 1}, "Records have no key 'size'. They have: msg_id,"),
        ({"buffers": []}, "Records cannot be found by 'buffers'"),
        ({"label": {"$near": 1}}, "The condition on 'label' has no operator '$near'. There are: $eq,"),
        ({"label": {"$lt": 1, "x": 2}}, "The condition on 'label' mixes operators and other keys"),
        ({"label": {"$in": "abc"}}, "$in on 'label' needs a list, not 'abc'."),
        ({"label": {"$all": 1}}, "$all on 'label' needs a list, not 1."),
        ({"label": {"$lt": None}}, "$lt on 'label' needs a number, a string or a datetime, not None."),
        ({"label": {"$gt": [1]}}, "$gt on 'label' needs a number, a string or a datetime, not [1]."),
        ({"label": {"$mod": [0, 1]}}, "$mod on 'label' needs [divisor, remainder]"),
        ({"label": {"$mod": [2.5, 1]}}, "$mod on 'label' needs [divisor, remainder]"),
        ({"label": {"$mod": 2}}, "$mod on 'label' needs [divisor, remainder]"),
        ({"label": {"$exists": "yes"}}, "$exists on 'label' needs True or False, not 'yes'."),
        ({"label": {"$glob": 3}}, "$glob on 'label' needs a pattern such as 'sim-*', not 3."),
    ],
)
def test_what_makes_no_sense_is_named(query, words):
    with pytest.raises(ValueError) as caught:
        Query(query)
    assert words in str(caught.value)


def test_keys_of_the_answer():
    assert set(selection(None)) == set(KEYS) - set(BUFFERS)
    assert selection(["buffers", "status"]) == ("msg_id", "buffers", "status")
    assert selection("label") == ("msg_id", "label")
    assert selection([]) == ("msg_id",)
    with pytest.raises(ValueError, match="no key 'size'"):
        selection(["size"])


def test_records_are_cut_and_ordered(record):
    records = [record(10), record(9), record(2, submitted=None)]
    assert [each["msg_id"] for each in in_order(records)] == ["session_2", "session_9", "session_10"]
    assert selected(records[0], ("msg_id", "label")) == {"msg_id": "session_10", "label": None}


def test_records_of_one_moment_are_ordered_by_their_numbers(record):
    same = [record(number, submitted=NOON) for number in (10, 9, 100)]
    assert [each["msg_id"] for each in in_order(same)] == ["session_9", "session_10", "session_100"]


def test_parts_of_records_may_be_enough_to_tell():
    query = Query({"completed": {"$ne": None}, "label": "a"})
    assert not query.may_match({"completed": None})
    assert query.may_match({"completed": NOON})
    assert query.may_match({"status": None})
