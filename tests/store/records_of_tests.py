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
times = st.none() | st.integers(0, 10).map(lambda n: START + timedelta(seconds=n, microseconds=n * 1001))
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
values = optional_texts | times | st.integers(0, 5) | st.floats(0, 5) | st.booleans() | st.lists(st.integers(0, 3))
orderly = texts | times.filter(lambda time: time is not None) | st.integers(0, 5) | st.floats(0, 5)
choices = st.lists(optional_texts | times | st.integers(0, 5) | st.booleans(), max_size=4)
operators = st.one_of(
    values,
    st.fixed_dictionaries(
        {},
        optional={
            **dict.fromkeys(("$eq", "$ne"), values),
            **dict.fromkeys(("$lt", "$lte", "$le", "$gt", "$gte", "$ge"), orderly),
            **dict.fromkeys(("$in", "$nin", "$all"), choices),
            "$exists": st.booleans(),
            "$mod": st.tuples(st.integers(1, 4), st.integers(0, 3)),
            "$glob": st.sampled_from(["*", "a*", "sim-?", "[ab]*", "größ*"]),
        },
    ),
)
queries = st.dictionaries(
    st.sampled_from(
        ["msg_id", "label", "status", "submitted", "completed", "engine_id", "engine_uuid", "metadata.retries",
         "metadata.targets", "metadata.timeout", "metadata"]
    ),
    operators,
    max_size=3,
)  # fmt: skip


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
