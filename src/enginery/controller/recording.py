"""What the controller writes down of tasks: by reference and in bulk, so that it costs next to nothing.

Rules of the room:

1. Nothing is made per task. Lists of tasks and results that came over the wire are kept as they are; records are made
   of them when somebody asks, or by the store's thread.
2. Buffers in shared memory are held, not copied: a mapping keeps their owner from using them again. What is larger than
   a quarter of the store's budget is not held.
3. Nothing here is ever unpickled.
"""

from __future__ import annotations

import time
from collections import OrderedDict, deque
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from enginery.controller.ended import NOTHING, EndedTasks, Recalled, buffers_of
from enginery.controller.moments import Moments
from enginery.core.logbook import Gone, Recorded, Submitted
from enginery.net.segments import read_segment
from enginery.store.batches import Changes, Entries
from enginery.store.records import Entry, Origin, Record, record_of
from enginery.wire.messages import CLIENT_SHIFT, Task

if TYPE_CHECKING:
    from collections.abc import Callable, Container, Iterator, Mapping, Sequence

    from enginery.controller.ended import Held, Views
    from enginery.core.engines import ClientRecord
    from enginery.core.journal import Aside, Ended, Journal
    from enginery.core.logbook import Page
    from enginery.core.recall import Recall
    from enginery.core.scheduler import Scheduler
    from enginery.store.backlog import Backlog, Question, Reply
    from enginery.store.writer import Writer
    from enginery.wire.messages import Request, Result, Segment


#: Ended tasks that may wait to be handed over while nobody asks for them.
WAITING: Final = 1024
#: Bytes of a message, and in the mean of each task in it, from which on payloads are weighed.
LARGE: Final = 16 << 10
HEAVY: Final = 512
#: Clients that left and are remembered by name.
ORIGINS: Final = 10_000
#: Keys of records that tell of the task itself.
_OF_TASK: Final = frozenset({"header", "metadata", "content", "queue", "label"})


class Recorder:
    """Hears what the server hears, and hands it to the store. Belongs to the loop's thread."""

    def __init__(self, scheduler: Scheduler, keeper: Backlog | Writer, folder: str = "") -> None:
        """``scheduler`` has a journal; ``folder`` is that of shared memory, if there is any."""
        assert scheduler.journal is not None, "what is not noted cannot be recorded"
        self.keeper = keeper
        self._scheduler = scheduler
        self._journal: Journal = scheduler.journal
        self._folder = folder
        self._read = partial(read_segment, folder)
        self._only_ended = keeper.only_ended
        self._lasts = keeper.lasts
        self.offset = time.time() - time.monotonic()  #: what makes the time of day out of the loop's time
        self._heavy = False  #: there were large payloads, so all have to be weighed
        self._origins: OrderedDict[int, Origin] = OrderedDict()
        self._moments: dict[int, Moments] = {}
        self._held: dict[int, Views] = {}  #: segments of tasks, by task
        self._held_results: dict[int, Views] = {}
        self._owed: deque[EndedTasks | Recalled] = deque()  #: handed over, and not known to be in the store
        #: does something once all that the scheduler has written until now is saved: a store that lasts never knows of
        #: an end that the logbook does not
        self.when_saved: Callable[[Callable[[], object]], object] = _at_once
        #: tasks of which somebody waits for the result
        self.followed: dict[int, list[tuple[int, int]]] = {}
        #: called with the client, the id under which it waits, and what became of the task
        self.on_ended: Callable[[int, int, Record], None] = lambda _client, _alias, _record: None

    # --- clients --------------------------------------------------------------------------------------------------

    def client_joined(self, client: ClientRecord) -> None:
        """A client has come."""
        self._introduce(client.number, client.session, client.name)
        connected = self._scheduler.clients
        while len(self._origins) > ORIGINS + len(connected):
            number = next(number for number in self._origins if number not in connected)
            del self._origins[number]
            self._moments.pop(number, None)

    def _introduce(self, number: int, session: str, name: str) -> None:
        self._origins[number] = Origin(number, session, name.partition("@")[0])
        self._moments.setdefault(number, Moments())

    def client_left(self, number: int) -> None:
        """A client is gone, and waits for nothing any more."""
        self.unfollow(number, None)

    def unfollow(self, client: int, aliases: Container[int] | None) -> None:
        """A client waits no more under some ids, or under any (None)."""
        for task, waiting in list(self.followed.items()):
            left = [each for each in waiting if each[0] != client or (aliases is not None and each[1] not in aliases)]
            if left:
                self.followed[task] = left
            else:
                del self.followed[task]

    def sessions(self) -> dict[str, str]:
        """The sessions of clients by their numbers."""
        return {str(number): origin.session for number, origin in self._origins.items()}

    def task_id(self, msg_id: str) -> int | None:
        """The id of the task with this message id; None if its client is not known. Linear in the clients."""
        session, _, number = msg_id.rpartition("_")
        if number.isdecimal() and int(number) < 1 << CLIENT_SHIFT:
            for origin in reversed(self._origins.values()):
                if origin.session == session:
                    return (origin.number << CLIENT_SHIFT) | int(number)
        return None

    # --- another controller's time --------------------------------------------------------------------------------

    def recall(self, recall: Recall) -> None:
        """Know whose tasks another controller had. Results that may not have been recorded are, once more."""
        for gone in recall.departed.values():
            if gone.session:
                self._introduce(gone.client, gone.session, gone.name)
        for client in recall.clients.values():
            self._introduce(client.number, client.session, client.name)
        for first, when in sorted(recall.moments):
            if (moments := self._moments.get(first >> CLIENT_SHIFT)) is not None:
                moments.note(first, when)
        if recall.unrecorded:
            batch = Recalled(dict(self._records_again(recall)), recall.unrecorded)
            self.keeper.write(batch)
            if self._lasts:
                self._owed.append(batch)

    def _records_again(self, recall: Recall) -> Iterator[tuple[str, Record]]:
        for number, ended in recall.unrecorded.items():
            origin, task, result = self._origins.get(number >> CLIENT_SHIFT), ended.task, ended.result
            if origin is None:
                continue  # so many clients have left since that nobody can name it
            entry = Entry(origin, task or Task(number, 0, b"", b""), ended.direct, ended.engine, result)
            (entry.submitted,) = self.moments_of(origin.number, (number,))
            entry.received = result.finished or time.time()
            entry.said = ended.said
            most = self.keeper.largest
            entry.buffers = buffers_of(task, ended.frames, None, most) if task is not None else []
            entry.result_buffers = buffers_of(result, ended.result_frames, None, most)
            # A store that lasts may know the rest: what the task was, and what it printed.
            strange = () if task is not None else _OF_TASK
            known = {key: value for key, value in record_of(entry).items() if value and key not in strange}
            yield entry.msg_id, known

    def written(self) -> Page:
        """What this controller knows and the scheduler does not, for a logbook that is begun anew. See ``recall``."""
        owed = [batch for batch in self._owed if not batch.is_done]
        clients = {number >> CLIENT_SHIFT for number in self._scheduler.book.tasks}
        of_owed = {number >> CLIENT_SHIFT for batch in owed for number in batch.ids()}
        known = {client: self._moments[client].known() for client in clients | of_owed if client in self._moments}
        page: Page = [(Submitted(moments), []) for moments in known.values() if moments]
        if self._lasts:
            page.append((Recorded(), []))
            for client in of_owed - self._scheduler.clients.keys() - self._scheduler.departed.keys():
                origin = self.origin_of(client)
                page.append((Gone(client, origin.user, origin.session), []))
            page += [entry for batch in owed for entry in batch.page()]
        return page

    # --- what comes -----------------------------------------------------------------------------------------------

    def large_message_came(self, message: object, size: int) -> None:
        """A message of more than ``LARGE`` bytes has come.

        If its tasks or results are large in the mean, payloads are weighed from now on. Most clusters never see one.
        """
        items = (
            getattr(message, "tasks", None) or getattr(message, "requests", None) or getattr(message, "results", None)
        )
        if size > HEAVY * len(items or ()):
            self._heavy = True

    def submitted(self, client: int, tasks: Sequence[Task], frames: Sequence[object], now: float) -> None:
        """The scheduler has taken in balanced tasks."""
        # Hot: once per message, and one look at each task. Bench: no-op tasks.
        if not tasks:
            return
        when = now + self.offset
        self._note_moment(client, tasks[0].id, when)
        if self._folder:
            for task in [task for task in tasks if task.shared is not None]:
                self._hold(self._held, task.id, task.shared)
        if not self._only_ended:
            origin, entries, at = self._origins[client], [], 0
            known = self._scheduler.book.tasks
            for task in tasks:
                if known.get(task.id) is task:  # neither sent twice, nor ended at once, which is noted elsewhere
                    entry = Entry(origin, task, submitted=when)
                    self._add_task_buffers(entry, frames[at : at + task.frames], self._held)
                    entries.append(entry)
                at += task.frames
            self.keeper.write(Entries(entries))

    def _note_moment(self, client: int, first: int, when: float) -> None:
        if self._moments[client].note(first, when) and self._scheduler.logbook is not None:
            self._scheduler.logbook.note(Submitted([(first, when)]))

    def addressed(self, client: int, requests: Sequence[Request], frames: Sequence[object], now: float) -> None:
        """The scheduler has taken in tasks addressed to engines."""
        if not requests:
            return
        when, at = now + self.offset, 0
        self._note_moment(client, requests[0].task.id, when)
        entries: list[Entry] = []
        for request in requests:
            first = request.task.id
            if self._folder and request.task.shared is not None:
                self._hold(self._held, first, request.task.shared, copies=len(request.targets))
            if not self._only_ended:
                mine = frames[at : at + request.task.frames]
                entries += self._entries_of_request(client, request, mine, when)
                at += request.task.frames
        if entries:
            self.keeper.write(Entries(entries))

    def _entries_of_request(self, client: int, request: Request, frames: Sequence[object], when: float) -> list[Entry]:
        tasks, engines, entries = self._scheduler.book.tasks, self._scheduler.engines, []
        for at, target in enumerate(request.targets):
            task = tasks.get(request.task.id + at)
            if task is None:
                continue  # ended at once, which is noted elsewhere
            entry = Entry(self._origins[client], task, True, engines[target].info, submitted=when)
            self._add_task_buffers(entry, frames, self._held)
            entries.append(entry)
        return entries

    def results_come(self, results: Sequence[Result]) -> None:
        """Results have come, and are about to be handed on: their buffers in shared memory are held."""
        if self._folder:
            for result in [result for result in results if result.shared is not None]:
                self._hold(self._held_results, result.id, result.shared, always=result.id in self.followed)

    def functions_come(self, bodies: dict[bytes, bytes]) -> None:
        """Functions have come. A store that lasts keeps them, so that tasks can be submitted again."""
        if not self._lasts:
            return

        def keep(store: Any) -> None:
            for digest, body in bodies.items():
                if body:
                    store.keep_function(digest, body)

        self.keeper.ask(keep, _ignore)

    def collect(self, *, now_or_never: bool = False) -> None:
        """Hand over what has ended since the last call; what is light may wait until there is more of it."""
        # Hot: once per turn. Bench: round trip.
        journal = self._journal
        if self._owed and self._owed[0].is_done:
            self._note_recorded()
        if not journal.ended:
            return
        if not self._lasts and not now_or_never and journal.count < WAITING and not self._is_urgent():
            return
        self.offset = time.time() - time.monotonic()
        ended = journal.take()
        if self.followed:
            for each in ended:
                self._tell_followers(each)
        batch = EndedTasks(self, ended, weigh=self._heavy)
        if self._lasts and self._scheduler.logbook is not None:
            self._owed.append(batch)
        self.when_saved(partial(self.keeper.write, batch))

    def _note_recorded(self) -> None:
        """Tell the logbook what the store has by now."""
        ids: list[int] = []
        while self._owed and self._owed[0].is_done:
            ids += self._owed.popleft().ids()
        if self._scheduler.logbook is not None:
            self._scheduler.logbook.note(Recorded(ids))

    def ask(self, question: Question, reply: Reply, *, for_good: bool = False) -> None:
        """Have the store asked, after everything that it was given to write. See ``Writer.ask``.

        ``for_good``: the answer tells of a change that no other controller shall undo by recording things again.
        """

        def late_reply(answer: object) -> None:
            self.collect()
            self.when_saved(partial(reply, answer))

        self.when_saved(partial(self.keeper.ask, question, late_reply if for_good else reply))

    def _is_urgent(self) -> bool:
        return bool(self._heavy or self.followed or self._held or self._held_results)

    def _tell_followers(self, ended: Ended) -> None:
        for at, task in enumerate(ended.tasks):
            waiting = self.followed.pop(task.id, None)
            if waiting is not None:
                entry = self.entry_of(ended, at, (self._held, self._held_results), most=float("inf"))
                record = record_of(entry)
                for client, alias in waiting:
                    self.on_ended(client, alias, record)

    # --- records --------------------------------------------------------------------------------------------------

    def entry_of(self, ended: Ended, at: int, held: Held, most: float) -> Entry:
        """What is known of one of the tasks that ended. May be called by the store's thread."""
        task, result = ended.tasks[at], ended.results[at]
        client = task.id >> CLIENT_SHIFT
        entry = Entry(self.origin_of(client), task, engine=ended.engine, result=result)
        entry.received = ended.when + self.offset
        (entry.submitted,) = self.moments_of(client, (task.id,))
        aside: Aside | None = ended.asides.get(task.id)
        frames: Sequence[object] = ()
        result_frames: Sequence[object] = ()
        if aside is not None:
            entry.direct, entry.said = aside.direct, aside.said
            frames, result_frames = aside.frames, aside.result_frames
        entry.buffers = buffers_of(task, frames, held[0].get(task.id), most)
        entry.result_buffers = buffers_of(result, result_frames, held[1].get(task.id), most)
        return entry

    def origin_of(self, client: int) -> Origin:
        """Who a client is. May be called by the store's thread."""
        return self._origins.get(client) or Origin(client, f"client{client}", "")

    def moments_of(self, client: int, tasks: Sequence[int]) -> list[float]:
        """When tasks of a client came, in seconds since the epoch; 0 for those of which that is not known. Likewise."""
        moments = self._moments.get(client)
        return moments.of_each(tasks) if moments is not None else [0.0] * len(tasks)

    def _add_task_buffers(self, entry: Entry, frames: Sequence[object], held: dict[int, Views]) -> None:
        entry.buffers = buffers_of(entry.task, frames, held.get(entry.task.id), self.keeper.largest)

    def unfinished(self, tasks: Sequence[int] | None = None) -> list[Entry]:
        """What is known of tasks that have not ended: some, or all."""
        scheduler = self._scheduler
        scheduler.settle()
        book, entries = scheduler.book, []
        where = {number: engine.info for engine in scheduler.engines.values() for number in engine.direct}
        for number in book.tasks if tasks is None else tasks:
            task = book.tasks.get(number)
            origin = self._origins.get(number >> CLIENT_SHIFT)
            if task is None or origin is None:
                continue
            entry = Entry(origin, task, number in self._journal.direct, where.get(number))
            entry.submitted = self._moments[origin.number].of(number)
            self._add_task_buffers(entry, book.frames.get(number, ()), self._held)
            entries.append(entry)
        return entries

    def let_go(self, ended: Sequence[Ended]) -> Held:
        """The segments held of tasks that ended and of their results; whoever takes them holds them."""
        if not self._held and not self._held_results:
            return NOTHING
        ids = [task.id for each in ended for task in each.tasks]
        first = {number: self._held.pop(number) for number in ids if number in self._held}
        second = {number: self._held_results.pop(number) for number in ids if number in self._held_results}
        return first, second

    def change(self, changes: Mapping[str, Record]) -> None:
        """Change records, of tasks that have ended."""
        self._scheduler.settle()
        self.collect(now_or_never=True)  # records have to be there before they are changed
        self.when_saved(partial(self.keeper.write, Changes(changes)))

    def _hold(
        self,
        held: dict[int, Views],
        task: int,
        segments: Sequence[Segment] | None,
        *,
        copies: int = 1,
        always: bool = False,
    ) -> None:
        """Map the segments of a task, which keeps them as they are. What cannot be, or is too large, is not held."""
        tasks = [number for number in range(task, task + copies) if number in self._scheduler.book.tasks]
        if (
            not tasks
            or not segments
            or (not always and sum(segment.size for segment in segments) > self.keeper.largest)
        ):
            return
        try:
            views = {segment.name: self._read(segment.name, segment.size) for segment in segments}
        except OSError:
            return  # its owner has it back already
        held.update(dict.fromkeys(tasks, views))


def _at_once(do: Callable[[], object]) -> None:
    do()


def _ignore(_answer: object) -> None:
    """Nobody waits for this answer."""
