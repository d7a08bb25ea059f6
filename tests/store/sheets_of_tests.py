"""Sheets made by hand and by chance, and the same tasks one by one."""

from __future__ import annotations

from array import array

from hypothesis import strategies as st

from enginery.store.records import Entry, Origin
from enginery.store.sheets import Contents, Facts, Sheet
from enginery.wire.messages import CLIENT_SHIFT, EngineInfo, Fault, Options, Output, Result, Task

ORIGIN = Origin(3, "ours", "ada")
ENGINES = [None, EngineInfo(0, "engine-0", 10, "here"), EngineInfo(1, "engine-1", 11, "there")]
BASE = 1_800_000_000.0


def make_entry(number, *, engine=ENGINES[1], origin=ORIGIN, status=0, fault=None, options=None, **given):
    """A task that was submitted ``number`` seconds after BASE, and ended a second later."""
    task = Task((origin.number << CLIENT_SHIFT) | number, 0, given.pop("function", b"f"), b"", 0, options)
    result = Result(task.id, status, b"", 0, given.pop("started", BASE + number), BASE + number + 1, fault)
    entry = Entry(origin, task, engine=engine, result=result, submitted=BASE + number, received=BASE + number + 2)
    entry.buffers, entry.result_buffers = [b"arguments"], [b"value"]
    for key, value in given.items():
        setattr(entry, key, value)
    return entry


def sheet_of(entries):
    """A sheet with these tasks."""
    functions = list(dict.fromkeys(entry.task.function for entry in entries))
    facts = Facts(
        entries[0].origin,
        [(entry.engine, 1, entry.received) for entry in entries],
        array("q", [entry.task.id for entry in entries]).tobytes(),
        array("d", [entry.submitted for entry in entries]).tobytes(),
        array("d", [entry.result.started for entry in entries]).tobytes(),
        array("d", [entry.result.finished for entry in entries]).tobytes(),
        bytes(entry.result.status for entry in entries),
        bytes(entry.task.action for entry in entries),
        functions,
        array("I", [functions.index(entry.task.function) for entry in entries]).tobytes(),
        {at: entry.task.options for at, entry in enumerate(entries) if entry.task.options is not None},
        {at: entry.result.fault for at, entry in enumerate(entries) if entry.result.fault is not None},
        [at for at, entry in enumerate(entries) if entry.direct],
        {at: list(entry.said) for at, entry in enumerate(entries) if entry.said},
    )
    contents = Contents(
        [b"".join(entry.buffers[:1]) for entry in entries],
        [b"".join(entry.result_buffers[:1]) for entry in entries],
        {at: entry.buffers for at, entry in enumerate(entries) if len(entry.buffers) != 1},
        {at: entry.result_buffers for at, entry in enumerate(entries) if len(entry.result_buffers) != 1},
    )
    return Sheet(facts, contents, lambda: entries)


_moments = st.sampled_from([0.0, *(BASE + n * 1.001001 for n in range(4)), float("inf"), float("nan")])
_buffers = st.lists(st.binary(max_size=3), max_size=3)


@st.composite
def entries(draw, number):
    """A task of any kind that has ended somehow."""
    kind = draw(st.sampled_from(["stdout", "stderr", "display", "result"]))
    data = b"\x81\xa4data\x01" if kind == "result" else b"data"
    failed = draw(st.booleans())
    entry = make_entry(
        number,
        engine=draw(st.sampled_from(ENGINES)),
        status=draw(st.integers(1, 4)) if failed else 0,
        fault=Fault("remote", "ValueError", draw(st.text(max_size=3)), "trace") if failed else None,
        options=draw(
            st.none()
            | st.builds(Options, label=st.sampled_from(["", "a", "b", "größer"]), retries=st.integers(0, 3))
            | st.builds(Options, targets=st.lists(st.integers(0, 3), max_size=3), timeout=st.floats(0, 5))
        ),
        function=draw(st.sampled_from([b"", b"f", b"g"])),
        started=draw(_moments),
        submitted=draw(_moments),
        direct=draw(st.booleans()),
        buffers=draw(_buffers),
        result_buffers=draw(_buffers),
        said=draw(st.lists(st.just(Output(number, kind, "said", data)), max_size=2)),
    )
    entry.result.finished = draw(_moments)
    return entry


histories = st.lists(st.integers(0, 30), unique=True, min_size=1, max_size=8).flatmap(
    lambda numbers: st.tuples(*[entries(number) for number in numbers])
)
