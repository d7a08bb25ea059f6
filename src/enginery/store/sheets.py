"""Sheets: what is known of many ended tasks of one client, column by column, as databases keep it whole. No I/O.

To make, pack and insert one record takes longer than to schedule three tasks. A sheet of a thousand tasks is packed in a
few calls, takes a third of the room, and has one checksum. Records are made of it when somebody asks for them.
"""

from __future__ import annotations

import math
import zlib
from array import array
from typing import TYPE_CHECKING, Any, Final

import msgspec

from enginery.store.queries import selected
from enginery.store.records import Entry, Origin, Record, moment, record_of
from enginery.wire.messages import CLIENT_SHIFT, EngineInfo, Fault, Options, Output, Result, Status, Task

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Sequence

    from enginery.store.queries import Query

_LOCAL: Final = (1 << CLIENT_SHIFT) - 1
_STATUSES: Final = {status.value: status.name.lower() for status in Status}
#: What a time on a sheet may differ from the moment that is made of it.
_ROUNDING: Final = 1e-5


class Facts(msgspec.Struct, array_like=True):
    """All but the buffers. ``bytes`` are arrays: q and d of eight bytes, I of four, B of one for each task."""

    origin: Origin
    #: in which order tasks stand: on which engine, how many, and when their results came
    groups: list[tuple[EngineInfo | None, int, float]]
    ids: bytes  #: q
    submitted: bytes  #: d, seconds since the epoch; likewise the others
    started: bytes
    finished: bytes
    statuses: bytes  #: B
    actions: bytes  #: B
    functions: list[bytes]
    calls: bytes  #: I: the place of its function; nothing where all call the same
    options: dict[int, Options]  #: of those that have any; likewise the others
    faults: dict[int, Fault]
    direct: list[int]
    said: dict[int, list[Output]]


class Contents(msgspec.Struct, array_like=True):
    """The buffers: those of tasks, and those of their results. Most have a payload and nothing else."""

    payloads: list[bytes]
    results: list[bytes]
    whole: dict[int, list[bytes]]  #: all buffers of those that have none, or more
    whole_results: dict[int, list[bytes]]


class Sheet:
    """One sheet, to be written: packed, with what is needed to find it."""

    __slots__ = ("completed", "contents", "count", "entries", "facts", "first", "last", "session", "size", "submitted")

    def __init__(self, facts: Facts, contents: Contents, entries: Callable[[], Iterable[Entry]]) -> None:
        """``entries`` gives the same one by one, for a store that would rather have it so."""
        ids, received = array("q", facts.ids), [when for _, _, when in facts.groups]
        self.session = facts.origin.session
        self.count = len(ids)
        self.first, self.last = min(ids) & _LOCAL, max(ids) & _LOCAL
        self.submitted = _bounds(array("d", facts.submitted))
        self.completed = _bounds([*array("d", facts.finished), *received])
        self.facts, self.contents = _encode(facts), _encode(contents)
        self.size = len(self.facts) + len(self.contents)
        self.entries = entries


def _bounds(times: Sequence[float]) -> tuple[float, float]:
    """Between which all of them lie, with what they may differ from the moments made of them. 0 is no time."""
    if not math.isfinite(sum(times)):
        return -math.inf, math.inf
    some = [when for when in times if when] if 0.0 in times else times
    return (min(some) - _ROUNDING, max(some) + _ROUNDING) if some else (0.0, 0.0)


def checksum(*parts: object) -> int:
    """A checksum of some bytes, numbers and texts."""
    found = 0
    for part in parts:
        found = zlib.crc32(part if isinstance(part, bytes) else repr(part).encode("utf-8", "surrogatepass"), found)
    return found


class Records:
    """The records on a sheet, made when they are asked for."""

    def __init__(self, facts: bytes) -> None:
        """Raises msgspec.MsgspecError, ValueError or TypeError for what is no sheet."""
        self.facts: Facts = _decode_facts(facts)
        kept = self.facts
        self.ids: array[int] = array("q", kept.ids)
        self.submitted: array[float] = array("d", kept.submitted)
        self.started: array[float] = array("d", kept.started)
        self.finished: array[float] = array("d", kept.finished)
        self.calls: array[int] = array("I", kept.calls)
        self.direct: frozenset[int] = frozenset(kept.direct)
        self.engines: list[EngineInfo | None] = []
        self.received: list[float] = []
        for engine, count, when in kept.groups:
            self.engines += [engine] * count
            self.received += [when] * count
        lengths = {len(column) for column in (self.ids, self.engines, self.started, kept.statuses, kept.actions)}
        if len(lengths) != 1:
            raise ValueError("its columns differ in length")

    def __len__(self) -> int:
        return len(self.ids)

    def places(self, numbers: Collection[int]) -> list[int]:
        """Where tasks stand, by their numbers among those of their client."""
        return [at for at, task in enumerate(self.ids) if task & _LOCAL in numbers]

    def entry(self, at: int, contents: Contents | None = None) -> Entry:
        """What is known of a task; of its buffers, if they are there."""
        facts = self.facts
        number = self.ids[at]
        function = facts.functions[self.calls[at] if self.calls else 0]
        task = Task(number, facts.actions[at], function, b"", 0, facts.options.get(at))
        result = Result(number, facts.statuses[at], b"", 0, self.started[at], self.finished[at], facts.faults.get(at))
        entry = Entry(facts.origin, task, at in self.direct, self.engines[at], result)
        entry.submitted, entry.received = self.submitted[at], self.received[at]
        entry.said = facts.said.get(at, ())
        if contents is not None:
            whole, results = contents.whole.get(at), contents.whole_results.get(at)
            entry.buffers = [contents.payloads[at]] if whole is None else whole
            entry.result_buffers = [contents.results[at]] if results is None else results
        return entry

    def whole(self, contents: Contents | None, places: Iterable[int]) -> list[Record]:
        """The records at some places."""
        return [record_of(self.entry(at, contents)) for at in places]

    def matching(self, query: Query, places: list[int]) -> list[int]:
        """The places among some where records match."""
        # Hot: a look at each record of a history. What is not asked for is not made.
        if not query.conditions:
            return places
        quick = [(key, _QUICK[key]) for key in query.keys if key in _QUICK]
        if len(quick) == len(query.keys):
            return [at for at in places if query.matches({key: make(self, at) for key, make in quick})]
        return [at for at in places if query.matches(record_of(self.entry(at)))]

    def selected(self, keys: Sequence[str], contents: Contents | None, places: Iterable[int]) -> list[Record]:
        """These keys of the records at some places."""
        quick = [(key, _QUICK[key]) for key in keys if key in _QUICK]
        if len(quick) == len(keys):
            return [{key: make(self, at) for key, make in quick} for at in places]
        return [selected(record, keys) for record in self.whole(contents, places)]


_QUICK: Final[dict[str, Callable[[Records, int], Any]]] = {
    "msg_id": lambda records, at: records.facts.origin.name(records.ids[at]),
    "submitted": lambda records, at: moment(records.submitted[at]),
    "started": lambda records, at: moment(records.started[at]),
    "completed": lambda records, at: moment(records.finished[at] or records.received[at]),
    "received": lambda records, at: moment(records.received[at]),
    "client_uuid": lambda records, _at: records.facts.origin.session,
    "engine_id": lambda records, at: engine.id if (engine := records.engines[at]) is not None else None,
    "engine_uuid": lambda records, at: engine.uuid if (engine := records.engines[at]) is not None else None,
    "status": lambda records, at: _STATUSES[records.facts.statuses[at]],
    "queue": lambda records, at: "mux" if at in records.direct else "task",
    "label": lambda records, at: (options.label or None) if (options := records.facts.options.get(at)) else None,
    "resubmitted": lambda _records, _at: None,
}

_encode = msgspec.msgpack.encode
_decode_facts = msgspec.msgpack.Decoder(Facts).decode
decode_contents = msgspec.msgpack.Decoder(Contents).decode
