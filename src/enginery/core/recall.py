"""From what was written in a logbook to a scheduler that goes on: replayed entry by entry, then put in place. No I/O.

Engines that were there are taken for away: what each had been given stays with it until it comes back and says what it
holds, or is given up like any other. Tasks that no engine had been given are admitted once more, in the old order.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from enginery.core import logbook as book
from enginery.core.engines import ClientRecord, EngineRecord
from enginery.core.ledger import Ending
from enginery.core.tasks import Rare
from enginery.wire.messages import CLIENT_SHIFT, EngineInfo, Output, Result, Task

if TYPE_CHECKING:
    from collections.abc import Iterable

    from enginery.core.scheduler import Scheduler


#: Tasks in one entry of a logbook that is begun anew.
MANY: Final = 2000


class Unheard(NamedTuple):
    """A result that its client may not have."""

    engine: int
    result: Result
    frames: list[object]


class Unrecorded(NamedTuple):
    """A task that has ended, and of which there may be no record."""

    task: Task | None
    frames: list[object]
    direct: bool  #: it was addressed
    engine: EngineInfo | None
    result: Result
    result_frames: list[object]
    said: list[Output]


class Recall:
    """What is known after some entries."""

    def __init__(self, *, records_last: bool = False) -> None:
        """``records_last``: there is a store that is told of what has ended and may not have been recorded.

        Otherwise only of results that clients may not have: those that have theirs got them from a controller whose
        records are gone, or that wrote in an older version and did not tell what was recorded.
        """
        self._records_last = records_last
        self._version = book.VERSION
        self.epoch = 0
        self.tasks: dict[int, Task] = {}
        self.frames: dict[int, list[object]] = {}
        self.targets: dict[int, int] = {}  #: engines of addressed tasks
        self.given: dict[int, int] = {}  #: engines of tasks that were sent to one
        self.tried: dict[int, book.Tried] = {}
        self.unheard: dict[int, Unheard] = {}
        self.clients: dict[int, ClientRecord] = {}
        self.departed: dict[int, book.Gone] = {}  #: clients that have left
        self.moments: list[tuple[int, float]] = []  #: when tasks came: from which id on
        self.unrecorded: dict[int, Unrecorded] = {}
        self.said: dict[int, list[Output]] = {}  #: output of tasks, for their record
        self.engines: dict[int, EngineInfo] = {}
        self.overtaken: set[int] = set()
        self.kept: dict[int, dict[int, int]] = {}  #: by engine: sizes of values by task
        self.bodies: dict[bytes, bytes] = {}
        self.highest_engine = -1
        self.highest_client = 0

    def read(self, entry: book.Entry, frames: list[object]) -> None:
        """Take in the next entry."""
        match entry:
            case book.Accepted():
                self._accepted(entry, frames)
            case book.Given():
                self.given.update(dict.fromkeys(entry.ids, entry.engine))
                for number in entry.ids:
                    if number in self.tasks and number not in self.targets:
                        self.tasks[number] = self.tasks.pop(number)  # they stand in the order in which they were given
            case book.Returned():
                for number in entry.ids:
                    self.given.pop(number, None)
            case book.Ended():
                self._ended(entry, frames)
            case book.Tried():
                self.tried[entry.task] = entry
                if not entry.held:
                    self.given.pop(entry.task, None)
            case book.Taken():
                for number in entry.ids:
                    self.unheard.pop(number, None)
                self._need_no_record(entry.ids)
            case book.Submitted():
                self.moments += entry.moments
            case book.Recorded():
                for number in list(self.unrecorded) if entry.ids is None else entry.ids:
                    self.unrecorded.pop(number, None)
            case book.Heard():
                for output in entry.outputs:
                    self.said.setdefault(output.task, []).append(output)
            case _:
                self._read_rare(entry, frames)

    def _read_rare(self, entry: book.Entry, frames: list[object]) -> None:
        match entry:
            case book.Began():
                self.epoch = max(self.epoch, entry.epoch)
                self._version = entry.version
            case book.Joined():
                self._joined(entry)
            case book.Gone():
                self.clients.pop(entry.client, None)
                self.departed[entry.client] = entry
                theirs = [number for number in self.unheard if number >> CLIENT_SHIFT == entry.client]
                for number in theirs:
                    del self.unheard[number]
                self._need_no_record(theirs)
            case book.Owed():
                self._owed(entry, frames)
            case book.Bodies():
                self.bodies.update(entry.bodies)
            case book.Came():
                self.engines[entry.info.id] = entry.info
                self.highest_engine = max(self.highest_engine, entry.info.id)
            case book.Overtaken():
                self.overtaken.add(entry.engine)
            case book.Left():
                self.engines.pop(entry.engine, None)
                self.overtaken.discard(entry.engine)
                self.kept.pop(entry.engine, None)
            case book.Keeps():
                self.kept.setdefault(entry.engine, {}).update(entry.values)
            case book.Forgot():
                for values in self.kept.values():
                    for value in entry.values:
                        values.pop(value, None)
            case _:
                pass

    def _need_no_record(self, ids: list[int]) -> None:
        if not self._records_last or self._version == 1:
            for number in ids:
                self.unrecorded.pop(number, None)

    def _joined(self, entry: book.Joined) -> None:
        client = ClientRecord(entry.number, entry.name, entry.token, 0.0, entry.session)
        client.highest = entry.highest or client.highest
        client.gaps = [(first, last) for first, last in entry.gaps]
        client.ledger.recall(entry.endings, entry.failed)
        self.clients[entry.number] = client
        self.highest_client = max(self.highest_client, entry.number)

    def _accepted(self, entry: book.Accepted, frames: list[object]) -> None:
        at = 0
        for index, task in enumerate(entry.tasks):
            client = self.clients.get(task.id >> CLIENT_SHIFT)
            if client is not None:
                client.claim(task.id, 1)
            self.tasks[task.id] = task
            if task.frames:
                self.frames[task.id] = frames[at : at + task.frames]
                at += task.frames
            if entry.targets is not None:
                self.targets[task.id] = entry.targets[index]

    def _ended(self, entry: book.Ended, frames: list[object]) -> None:
        at = 0
        for result in entry.results:
            mine = frames[at : at + result.frames]
            at += result.frames
            task, target = self.tasks.pop(result.id, None), self.targets.pop(result.id, None)
            theirs, said = self.frames.pop(result.id, []), self.said.pop(result.id, [])
            for table in (self.given, self.tried):
                table.pop(result.id, None)
            client = self.clients.get(result.id >> CLIENT_SHIFT)
            if client is not None:
                client.ledger.note(result.id, Ending(not result.status, entry.engine), client.highest)
                self.unheard[result.id] = Unheard(entry.engine, result, mine)
            if client is not None or (self._records_last and result.id >> CLIENT_SHIFT):
                info = self.engines.get(entry.engine)
                self.unrecorded[result.id] = Unrecorded(task, theirs, target is not None, info, result, mine, said)

    def _owed(self, entry: book.Owed, frames: list[object]) -> None:
        at = 0
        for task, result in zip(entry.tasks, entry.results, strict=True):
            middle = at + (task.frames if task is not None else 0)
            end = middle + result.frames
            said = [output for output in entry.said if output.task == result.id]
            self.unrecorded[result.id] = Unrecorded(
                task, frames[at:middle], result.id in entry.direct, entry.engine, result, frames[middle:end], said
            )
            at = end

    # --- putting in place ---------------------------------------------------------------------------------------

    def put_into(self, scheduler: Scheduler, now: float) -> None:
        """Have a fresh scheduler go on from here."""
        scheduler.recall_peers(self.clients, self.departed, self.highest_client, self.highest_engine)
        for number, info in self.engines.items():
            engine = scheduler.engines[number] = EngineRecord(info, now)
            engine.leaving = True
            engine.disordered = number in self.overtaken
            scheduler.dealer.join(engine)
            for value, size in self.kept.get(number, {}).items():
                scheduler.places.keep(number, value, size)
        scheduler.dealer.bodies.store(self.bodies, scheduler.outbox)
        scheduler.book.tasks.update(self.tasks)
        scheduler.book.frames.update(self.frames)
        if scheduler.journal is not None:
            scheduler.journal.direct.update(self.targets)
            for output in [output for number in self.tasks for output in self.said.get(number, ())]:
                scheduler.journal.hear(output)
        for tried in self.tried.values():
            if tried.task in self.tasks:
                scheduler.book.rare[tried.task] = _rare_of(tried)
        # Those at engines first, while nothing that waits could be woken by what ends here.
        waiting = [task for task in self.tasks.values() if not self._put_at_engine(scheduler, task, now)]
        for task in sorted(waiting, key=lambda task: task.id):
            if task.id in scheduler.book.tasks:
                scheduler.recall_task(task, self.targets.get(task.id), now)
        for engine in scheduler.engines.values():
            scheduler.dealer.refresh(engine)

    def _put_at_engine(self, scheduler: Scheduler, task: Task, now: float) -> bool:
        engine = scheduler.engines.get(self.given.get(task.id, self.targets.get(task.id, -1)))
        if engine is None:
            return False
        if task.options is not None and task.options.values:
            scheduler.places.use(scheduler.book.rare_of(task.id), task.options.values)
        if task.id in self.targets:
            engine.direct[task.id] = task
            return True
        engine.balanced[task.id] = task
        engine.counts[task.function] = engine.counts.get(task.function, 0) + 1
        if task.options is not None:
            scheduler.admission.recall(task, now)
        return True


def written(scheduler: Scheduler, unheard: Iterable[Unheard], epoch: int) -> book.Page:
    """All that a scheduler knows, as entries that ``Recall`` reads: to begin a logbook anew.

    ``unheard`` are the results that clients may not have. Linear in everything there is.
    """
    scheduler.settle()
    page: book.Page = [(book.Began(epoch, book.VERSION), [])]
    for client in scheduler.clients.values():
        endings, failed = client.ledger.written()
        joined = book.Joined(
            client.number, client.name, client.session, client.token, client.highest, client.gaps, endings, failed
        )
        page.append((joined, []))
    page += [(gone, []) for gone in scheduler.departed.values()]
    page += [(book.Came(engine.info), []) for engine in scheduler.engines.values()]
    page += [(book.Overtaken(number), []) for number, engine in scheduler.engines.items() if engine.disordered]
    for number in scheduler.engines:
        values = {
            value: size for value, size in scheduler.places.sizes.items() if number in scheduler.places.where(value)
        }
        if values:
            page.append((book.Keeps(number, values), []))
    page.append((book.Bodies(scheduler.dealer.bodies.known()), []))
    page += [(book.Ended(engine, [result]), frames) for engine, result, frames in unheard]
    page += _tasks_written(scheduler)
    if scheduler.journal is not None:
        page += [(book.Heard(outputs), []) for outputs in scheduler.journal.said.values()]
    for number, rare in scheduler.book.rare.items():
        if rare.attempts or rare.stopping or rare.deaths:
            page.append((book.tried(number, rare, held=True), []))
    return page


def _tasks_written(scheduler: Scheduler) -> book.Page:
    kept = scheduler.book.frames
    page: book.Page = []
    plain: list[Task] = []  # most tasks: many in one entry are written in half the time
    targets = {task: number for number, engine in scheduler.engines.items() for task in engine.direct}
    for task in scheduler.book.tasks.values():
        if not task.id >> CLIENT_SHIFT:
            continue  # the controller's own: asked for anew
        target = [targets[task.id]] if task.id in targets else None
        if target is None and not task.frames:
            plain.append(task)
        else:
            page.append((book.Accepted([task], target), kept[task.id] if task.frames else []))
    page += [(book.Accepted(plain[at : at + MANY]), []) for at in range(0, len(plain), MANY)]
    for number, engine in scheduler.engines.items():
        if engine.balanced:
            page.append((book.Given(number, list(engine.balanced)), []))
    return page


def _rare_of(tried: book.Tried) -> Rare:
    rare = Rare()
    rare.retries_left, rare.deaths, rare.stopping = tried.retries_left, tried.deaths, tried.stopping
    rare.excluded, rare.unsuited = set(tried.excluded), frozenset(tried.unsuited)
    rare.attempts = list(tried.attempts)
    return rare
