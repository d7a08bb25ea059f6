"""Records as stores keep them, made by hand and by chance, and a naive reference of the query language."""

from __future__ import annotations

import fnmatch
from datetime import UTC, datetime, timedelta

from hypothesis import strategies as st

from enginery.store.records import KEYS

START = datetime(2026, 3, 1, 12, tzinfo=UTC)


def make_record(number: int, **given):
    """A record of a task that was submitted ``number`` seconds after START, and ended a second later."""
    record = dict.fromkeys(KEYS)
    record.update(
        msg_id=f"session_{number}",
        header={"msg_type": "apply_request", "session": "session"},
        metadata={"retries": 0},
        content={"action": "apply"},
        buffers=[b"arguments", b"more"],
        result_buffers=[b"value"],
        submitted=START + timedelta(seconds=number),
        started=START + timedelta(seconds=number, microseconds=123),
        completed=START + timedelta(seconds=number + 1, microseconds=456789),
        client_uuid="session",
        engine_uuid="engine-0",
        engine_id=0,
        queue="task",
        status="ok",
        stdout="",
        stderr="",
        outputs=[["display", b"data"]],
    )
    record.update(given)
    return record


texts = st.sampled_from(["", "a", "ab", "b", "B", "sim-1", "sim-2", "größer", "a\0b", "'; drop", "%_"])
optional_texts = st.none() | texts
times = st.none() | st.integers(0, 4).map(lambda n: START + timedelta(seconds=n, microseconds=n * 1001))
records = st.lists(
    st.fixed_dictionaries(
        {
            "label": optional_texts,
            "status": st.sampled_from(["ok", "error", None]),
            "submitted": times,
            "completed": times,
            "engine_id": st.none() | st.integers(0, 5),
            "engine_uuid": optional_texts,
            "metadata": st.none()
            | st.fixed_dictionaries(
                {"retries": st.integers(0, 3) | st.floats(0, 3)},
                optional={"targets": st.lists(st.integers(0, 3), max_size=3), "timeout": st.none() | st.booleans()},
            ),
        }
    ),
    max_size=12,
)
strays = optional_texts | times | st.integers(0, 5) | st.floats(0, 5) | st.booleans() | st.lists(st.integers(0, 3))


def condition(own):
    """A condition on a key whose values are such, and now and then one that makes little sense."""
    present = own.filter(lambda value: value is not None)
    value = st.one_of(own, own, own, strays)
    orderly = st.one_of(present, present, texts, st.integers(0, 5)).filter(
        lambda value: not isinstance(value, bool | list | dict)
    )
    choices = st.lists(value, max_size=4)
    operators = {
        **dict.fromkeys(("$eq", "$ne"), value),
        **dict.fromkeys(("$lt", "$lte", "$le", "$gt", "$gte", "$ge"), orderly),
        **dict.fromkeys(("$in", "$nin", "$all"), choices),
        "$exists": st.booleans(),
        "$mod": st.tuples(st.integers(1, 4), st.integers(0, 3)),
        "$glob": st.sampled_from(["*", "a*", "sim-?", "[ab]*", "größ*"]),
    }
    one = st.sampled_from(sorted(operators)).flatmap(lambda name: st.fixed_dictionaries({name: operators[name]}))
    return value | one | one | st.tuples(one, one).map(lambda pair: pair[0] | pair[1])


_CONDITIONS = {
    "msg_id": condition(st.integers(0, 12).map(lambda number: f"session_{number}")),
    "label": condition(optional_texts),
    "status": condition(st.sampled_from(["ok", "error", None])),
    "submitted": condition(times),
    "completed": condition(times),
    "engine_id": condition(st.none() | st.integers(0, 5)),
    "engine_uuid": condition(optional_texts),
    "metadata.retries": condition(st.integers(0, 3) | st.floats(0, 3)),
    "metadata.targets": condition(st.lists(st.integers(0, 3), max_size=3)),
    "metadata.timeout": condition(st.none() | st.booleans()),
    "metadata": condition(st.none() | st.just({"retries": 0})),
}
queries = st.lists(st.sampled_from(sorted(_CONDITIONS)), max_size=3, unique=True).flatmap(
    lambda keys: st.fixed_dictionaries({key: _CONDITIONS[key] for key in keys})
)


def reference(record, key, operator, wanted):
    """One condition, spelt out as the documentation has it. Shares nothing with the stores."""
    found = record
    for part in key.split("."):
        found = found.get(part) if isinstance(found, dict) else None

    def kind(value):
        return {bool: "truth", int: "number", float: "number"}.get(type(value), type(value).__name__)

    def same(one, other):
        if isinstance(one, list) and isinstance(other, list):
            return one == other
        return kind(one) == kind(other) and one == other

    ordered = kind(found) == kind(wanted) and found is not None
    if operator in {"$eq", "$ne"}:
        return same(found, wanted) is (operator == "$eq")
    if operator in {"$in", "$nin"}:
        return any(same(found, each) for each in wanted) is (operator == "$in")
    if operator == "$all":
        items = found if isinstance(found, list) else [found]
        return bool(wanted) and all(any(same(item, each) for item in items) for each in wanted)
    if operator == "$exists":
        return (found is not None) is wanted
    if operator == "$mod":
        return kind(found) == "number" and found % wanted[0] == wanted[1] % wanted[0]
    if operator == "$glob":
        return isinstance(found, str) and fnmatch.fnmatchcase(found, wanted)
    return (
        ordered
        and {
            "$lt": lambda: found < wanted,
            "$lte": lambda: found <= wanted,
            "$le": lambda: found <= wanted,
            "$gt": lambda: found > wanted,
            "$gte": lambda: found >= wanted,
            "$ge": lambda: found >= wanted,
        }[operator]()
    )


def expected(documents, query):
    def holds(record, key, condition):
        if not isinstance(condition, dict) or not any(name.startswith("$") for name in condition):
            condition = {"$eq": condition}
        return all(reference(record, key, name, wanted) for name, wanted in condition.items())

    return {
        record["msg_id"]
        for record in documents
        if all(holds(record, key, condition) for key, condition in query.items())
    }


#: Values that a key takes in turn, for tests of all pairs.
SAMPLES = {
    "label": [None, "", "a", "ab", "b", "sim-1", "größer", "B"],
    "submitted": [None, *(START + timedelta(seconds=n, microseconds=n * 1001) for n in range(4))],
    "engine_id": [None, 0, 1, 2, 5],
}


def all_pairs(key):
    """Queries by every operator with every value of a key, and values of other kinds."""
    values = [*SAMPLES[key], 1.5, "stray", True]
    for name in ("$eq", "$ne"):
        yield from ({key: {name: value}} for value in values)
    for name in ("$lt", "$lte", "$le", "$gt", "$gte", "$ge"):
        yield from ({key: {name: value}} for value in values if value is not None and value is not True)
    for name in ("$in", "$nin", "$all"):
        yield from ({key: {name: [value, values[-1]]}} for value in values)
    yield from ({key: value} for value in values)
    yield from ({key: {"$exists": value}} for value in (True, False))
    yield from ({key: {"$mod": [2, value]}} for value in (0, 1))
    yield from ({key: {"$glob": value}} for value in ("*", "s*", "?"))
