"""Tasks that ended, as the scheduler handed them over: by reference, until the store makes records or sheets of them."""

from __future__ import annotations

from array import array
from operator import attrgetter
from typing import TYPE_CHECKING, Any, Final

from enginery.core.logbook import Owed
from enginery.core.sharing import put_together
from enginery.store.batches import OVERHEAD, Changes, Entries
from enginery.store.sheets import Contents, Facts, Sheet
from enginery.wire.messages import CLIENT_SHIFT

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from enginery.controller.recording import Recorder
    from enginery.core.journal import Aside, Ended
    from enginery.core.logbook import Page
    from enginery.core.recall import Unrecorded
    from enginery.store.batches import EndedBatch
    from enginery.store.records import Entry, Record
    from enginery.wire.messages import Result, Task

    #: Mapped segments by name.
    Views = dict[str, memoryview]
    #: Segments of tasks, and of their results, by task.
    Held = tuple[dict[int, Views], dict[int, Views]]

#: No segments.
NOTHING: Final[tuple[dict[int, Any], dict[int, Any]]] = ({}, {})

_payload = attrgetter("payload")


class EndedTasks:
    """Tasks that ended. Made by the loop's thread, used by that of the store."""

    __slots__ = ("_recorder", "count", "ended", "held", "is_done", "size")

    def __init__(self, recorder: Recorder, ended: Sequence[Ended], *, weigh: bool) -> None:
        """Without ``weigh`` payloads are small, and what else there is decides."""
        self._recorder = recorder
        self.is_done = False
        self.held = recorder.let_go(ended)
        self.ended = ended
        self.count = sum([len(each.results) for each in ended])
        self.size = OVERHEAD * self.count
        self.size += sum(view.nbytes for held in self.held for views in held.values() for view in views.values())
        for each in ended:
            if weigh:
                self.size += sum(map(len, map(_payload, each.tasks))) + sum(map(len, map(_payload, each.results)))
            if each.asides:
                self.size += sum(map(_weight, each.asides.values()))

    def records(self) -> dict[str, Record]:
        """See ``Batch``."""
        return Entries(self._entries(self.ended, self.held)).records()

    def ids(self) -> list[int]:
        """The ids of the tasks."""
        return [result.id for each in self.ended for result in each.results]

    def page(self) -> Page:
        """What the logbook has to say of them until the store has them."""
        return [self._owed(each) for each in self.ended]

    def _owed(self, ended: Ended) -> tuple[Owed, list[object]]:
        owed, frames = Owed(ended.engine, list(ended.tasks), list(ended.results)), list[object]()
        for task in ended.tasks:
            aside = ended.asides.get(task.id)
            if aside is not None:
                owed.direct += [task.id] if aside.direct else []
                owed.said += aside.said
                frames += [*aside.frames, *aside.result_frames]
        return owed, frames

    def sheets(self, others: Sequence[EndedBatch]) -> list[Sheet]:
        """See ``EndedBatch``: one for each client."""
        clients: dict[int, list[Ended]] = {}
        held: Held = ({}, {})
        for batch in (self, *others):
            assert isinstance(batch, EndedTasks), "there is no other kind"
            for mine, theirs in zip(held, batch.held, strict=True):
                mine.update(theirs)
            for each in batch.ended:  # several at once are of one client
                clients.setdefault(each.tasks[0].id >> CLIENT_SHIFT, []).append(each)
        return [self._sheet(client, ended, held) for client, ended in clients.items()]

    def _entries(self, ended: Sequence[Ended], held: Held) -> list[Entry]:
        recorder, most = self._recorder, self._recorder.keeper.largest
        return [recorder.entry_of(each, at, held, most) for each in ended for at in range(len(each.results))]

    def _sheet(self, client: int, ended: Sequence[Ended], held: Held) -> Sheet:
        # Hot: a few steps for each task where a database is used. Bench: durable.
        recorder = self._recorder
        tasks: list[Task] = [task for each in ended for task in each.tasks]
        results: list[Result] = [result for each in ended for result in each.results]
        numbers = [task.id for task in tasks]
        functions = {task.function: 0 for task in tasks}
        calls = b""
        if len(functions) > 1:
            functions = {function: at for at, function in enumerate(functions)}
            calls = array("I", [functions[task.function] for task in tasks]).tobytes()
        asides = _asides(ended)
        facts = Facts(
            recorder.origin_of(client),
            [(each.engine, len(each.tasks), each.when + recorder.offset) for each in ended],
            array("q", numbers).tobytes(),
            array("d", recorder.moments_of(client, numbers)).tobytes(),
            array("d", [result.started for result in results]).tobytes(),
            array("d", [result.finished for result in results]).tobytes(),
            bytes([result.status for result in results]),
            bytes([task.action for task in tasks]),
            list(functions),
            calls,
            {at: task.options for at, task in enumerate(tasks) if task.options is not None},
            {at: result.fault for at, result in enumerate(results) if result.fault is not None},
            [at for at, aside in asides.items() if aside.direct],
            {at: list(aside.said) for at, aside in asides.items() if aside.said},
        )
        contents = self._contents(tasks, results, asides, held)
        return Sheet(facts, contents, lambda: self._entries(ended, held))

    def _contents(
        self, tasks: Sequence[Task], results: Sequence[Result], asides: dict[int, Aside], held: Held
    ) -> Contents:
        payloads, whole = self._buffers(tasks, [aside.frames for aside in asides.values()], asides, held[0])
        values, whole_results = self._buffers(
            results, [aside.result_frames for aside in asides.values()], asides, held[1]
        )
        return Contents(payloads, values, whole, whole_results)

    def _buffers(
        self, items: Sequence[Task | Result], frames: Sequence[Any], places: Iterable[int], held: dict[int, Views]
    ) -> tuple[list[bytes], dict[int, Any]]:
        """The payloads, and all buffers of those that have others. Those at ``places`` have ``frames``."""
        most, payloads = self._recorder.keeper.largest, [item.payload for item in items]
        mine = dict(zip(places, frames, strict=True))
        odd = [at for at, item in enumerate(items) if item.frames or item.shared is not None]
        if max(map(len, payloads)) > most:
            odd = sorted({*odd, *(at for at, payload in enumerate(payloads) if len(payload) > most)})
        whole: dict[int, Any] = {}
        for at in odd:
            item = items[at]
            whole[at] = buffers_of(item, mine.get(at, ()), held.get(item.id), most)
            payloads[at] = b""
        return payloads, whole


class Recalled(Changes):
    """Tasks that ended while another controller was there, and of which there may be no record."""

    __slots__ = ("_unrecorded",)

    def __init__(self, changes: Mapping[str, Record], unrecorded: Mapping[int, Unrecorded]) -> None:
        super().__init__(changes)
        self._unrecorded = unrecorded

    def ids(self) -> list[int]:
        """See ``EndedTasks``."""
        return list(self._unrecorded)

    def page(self) -> Page:
        """See ``EndedTasks``."""
        return [
            (
                Owed(one.engine, [one.task], [one.result], [one.result.id] if one.direct else [], one.said),
                [*one.frames, *one.result_frames],
            )
            for one in self._unrecorded.values()
        ]


def _asides(ended: Sequence[Ended]) -> dict[int, Aside]:
    """What stands beside tasks, by their places among all of them."""
    found: dict[int, Aside] = {}
    at = 0
    for each in ended:
        if each.asides:
            found |= {
                at + place: each.asides[task.id] for place, task in enumerate(each.tasks) if task.id in each.asides
            }
        at += len(each.tasks)
    return found


def _weight(aside: Aside) -> int:
    said = sum(len(output.text) + len(output.data) for output in aside.said)
    return said + _length(aside.frames) + _length(aside.result_frames)


def buffers_of(item: Task | Result, frames: Sequence[object], views: Views | None, most: float) -> list[object]:
    """The payload of a task or result and all its buffers; nothing if they are not there, or more than ``most`` bytes."""
    size = len(item.payload) + _length(frames) + sum(segment.size for segment in item.shared or ())
    if size > most or (item.shared and views is None):
        return []
    payload, buffers = put_together(item, frames, lambda name, _size: (views or {})[name])
    return [payload, *buffers]


def _length(frames: Sequence[Any]) -> int:
    return sum(memoryview(frame).nbytes for frame in frames)
