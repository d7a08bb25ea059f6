"""Which engines have which data: results that were kept there, and names that tasks refer to. No I/O.

Rules of the room:

1. A task that uses kept values goes where most of their bytes are; one that refers to names, where all of them are. That
   is a preference: what the engine lacks it asks for, and a name that nobody has is a NameError there, as ever.
2. Of names only those are known that somebody has asked for. Engines are told to watch them, and say what they have
   before the result of the task that set it: so what a client knows, is known here.
3. Kept values belong to the client whose task made them. They are forgotten when it says so, or leaves; but never while
   a task that uses them is unfinished.
4. What an engine lacks it gets from another one by a task of the controller's own, with an id of client 0.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Final, NamedTuple

from enginery.core import faults
from enginery.core import logbook as entries
from enginery.core.actions import To
from enginery.wire import messages as m
from enginery.wire.messages import CLIENT_SHIFT

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping

    from enginery.core.engines import EngineRecord
    from enginery.core.scheduler import Scheduler
    from enginery.core.tasks import Rare
    from enginery.wire.messages import Result, Task

#: Names that are watched; past that, the one longest watched and not waited for is forgotten.
MOST_NAMES: Final = 1000
#: How long an engine may take to say whether it has a name, in seconds: C code may keep its link from answering.
GRACE: Final = 0.25
#: Values of which it is remembered how they got lost.
MOST_LOST: Final = 1000
#: Binary digits by which ids of the controller's own tasks are longer than the numbers of clients.
OWN_TASKS: Final = 18


def nearest(sizes: Mapping[int, int], holders: Mapping[int, Collection[int]], among: Collection[int]) -> frozenset[int]:
    """The engines of ``among`` that hold the most bytes of some values, by value; none if nobody holds anything."""
    held: Counter[int] = Counter()
    for value, engines in holders.items():
        for engine in engines:
            if engine in among:
                held[engine] += 1 + sizes.get(value, 0)  # an empty value is better here than elsewhere, too
    most = max(held.values(), default=0)
    return frozenset(engine for engine, size in held.items() if size == most)


class Question(NamedTuple):
    """A client's query after some names."""

    client: int
    number: int
    names: list[str]


class Name:
    """A name that is watched."""

    __slots__ = ("asked", "due", "holders", "questions", "waiting")

    def __init__(self, due: float) -> None:
        self.holders: set[int] = set()
        self.asked: set[int] = set()  #: engines that have not said yet whether they have it
        self.due = due  #: when those count as not having it
        self.waiting: list[int] = []  #: tasks that are to be placed when it is known where it is
        self.questions: list[
            Question
        ] = []  #: answered when it is known where the name is, and the others of the question


class Places:
    """Where data are. Belongs to a scheduler."""

    def __init__(self, scheduler: Scheduler, first_client: int) -> None:
        self._scheduler = scheduler
        self.names: dict[str, Name] = {}
        self.holders: dict[int, dict[int, None]] = {}  #: engines by kept value
        self.sizes: dict[int, int] = {}  #: bytes by kept value
        self._lost: dict[int, str] = {}  #: how values got lost
        self._uses: Counter[int] = Counter()  #: how many unfinished tasks use a value
        self._unwanted: set[int] = set()  #: values to be forgotten once they are there and nobody uses them any more
        self._pending: set[str] = set()  #: names of which some engine has not said yet whether it has them
        self._open: set[str] = set()  #: names that tasks may wait for
        self._wanted: dict[int, tuple[int, int]] = {}  #: by own task: who wants which value
        # An engine may still bring what a controller before this one wanted of it: that has other ids.
        self._next_task = first_client << OWN_TASKS

    # --- tasks that need data -----------------------------------------------------------------------------------

    def admit(self, task: Task, now: float) -> None:
        """A balanced task says what it needs. If it is not known where that is, one more condition of it is unmet."""
        options = task.options
        assert options is not None
        rare = self._scheduler.book.rare_of(task.id)
        rare.seeks = True
        self.use(rare, options.values)
        for name in dict.fromkeys(options.names or ()):
            watched = self._watch(name, now)
            if watched.asked or (not watched.holders and self._may_come({task.id >> CLIENT_SHIFT})):
                self._open.add(name)
                watched.waiting.append(task.id)
                rare.unmet += 1

    def use(self, rare: Rare, values: list[int] | None) -> None:
        """A task that uses values is unfinished, until ``used``."""
        if values:
            rare.values = list(dict.fromkeys(values))
            self._uses.update(rare.values)

    def used(self, values: Iterable[int]) -> None:
        """A task that uses values has ended."""
        for value in values:
            self._uses[value] -= 1
            if self._uses[value] <= 0:
                del self._uses[value]
                if value in self._unwanted:
                    self._forget([value])

    def aim(self, task: Task, rare: Rare) -> m.Fault | None:
        """Say which engines a task shall rather go to; or why it can never run."""
        options, engines = task.options, self._scheduler.engines
        assert options is not None
        among: Collection[int] = engines.keys()
        near: frozenset[int] = frozenset()
        names = [self.names[name] for name in options.names or () if name in self.names]
        if names:
            among = near = frozenset(engines.keys()).intersection(*(name.holders for name in names))
        if rare.values:
            for value in rare.values:
                if value not in self.holders:
                    return self.lost(value, rare)
            near = nearest(self.sizes, {value: self.holders[value] for value in rare.values}, among) or near
        rare.near = near
        return None

    def is_elsewhere(self, task: Task, rare: Rare) -> bool:
        """Whether names that a task did not find are on other engines than those where it was."""
        options = task.options
        wanted = (options.names or ()) if options is not None else ()
        names = [self.names[name].holders for name in wanted if name in self.names]
        return bool(names and frozenset(self._scheduler.engines).intersection(*names) - rare.unsuited)

    def is_empty(self) -> bool:
        """Whether nothing is kept, used, wanted or waited for; as it has to be when all tasks ended and all clients left."""
        return not (self.holders or self.sizes or self._uses or self._wanted or self._open)

    def lost(self, value: int, rare: Rare | None = None) -> m.Fault:
        """Nobody has a value any more."""
        return faults.value_lost(self._lost.get(value, "it was forgotten, or its task did not end well"), rare)

    def awaits(self, task: int) -> list[str]:
        """The names that a waiting task waits for. Linear: for questions only."""
        return [name for name in self._open if task in self.names[name].waiting]

    # --- names --------------------------------------------------------------------------------------------------

    def ask(self, client: int, number: int, names: list[str], now: float) -> None:
        """A client asks which engines have some names. It is answered when that is known."""
        for name in names:
            self._watch(name, now)
        self._answer(Question(client, number, names))

    def next_deadline(self) -> float | None:
        """When ``tick`` has to be called, None for never."""
        return min((self.names[name].due for name in self._asked()), default=None) if self._pending else None

    def tick(self, now: float) -> None:
        """Engines that have not answered in time do not have the name, as far as is known."""
        for name in self._asked() if self._pending else ():
            if self.names[name].due <= now:
                self.names[name].asked.clear()
                self._look(name)

    def _asked(self) -> list[str]:
        return [name for name in self._pending if self.names[name].asked]

    def told(self, engine: EngineRecord, holds: m.Holds) -> None:
        """An engine says what it has."""
        number = engine.info.id
        for value, size in holds.values.items():
            self._got(number, value, size)
        for name in (*holds.names, *holds.lacks):
            watched = self.names.get(name)
            if watched is None:
                continue
            watched.asked.discard(number)
            if name in holds.names:
                watched.holders.add(number)
            elif not _is_pushing(engine, name):
                watched.holders.discard(number)
            self._look(name)

    def will_have(self, engine: EngineRecord, task: Task) -> None:
        """A push is on its way to an engine; balanced tasks that go there now come after it."""
        for name in (task.options.names or ()) if task.options is not None else ():
            if name in self.names:
                self.names[name].holders.add(engine.info.id)
                self._look(name)

    def direct_ended(self, engine: EngineRecord, task: Task, result: Result) -> None:
        """A task addressed to an engine has ended. If it is a push that failed, the engine is asked what it has now."""
        if result.status and task.action == m.Action.PUSH and task.options is not None:
            doubtful = [name for name in task.options.names or () if name in self.names]
            if doubtful:
                self._scheduler.outbox.send(To.ENGINE, engine.info.id, m.Watch(doubtful))

    def look_again(self) -> None:
        """A task has ended, in whatever way: it has done what it might have done about names."""
        for name in list(self._open):
            self._look(name)

    def _watch(self, name: str, now: float) -> Name:
        watched = self.names.get(name)
        if watched is None:
            self._make_room()
            watched = self.names[name] = Name(now + GRACE)
            for number, engine in self._scheduler.engines.items():
                if not engine.leaving:
                    watched.asked.add(number)
                    self._scheduler.outbox.send(To.ENGINE, number, m.Watch([name]))
                if _is_pushing(engine, name):
                    watched.holders.add(number)
            self._pending.add(name)
        return watched

    def _make_room(self) -> None:
        if len(self.names) < MOST_NAMES:
            return
        for name in self.names:
            if name not in self._open and name not in self._pending:
                del self.names[name]
                for number in self._scheduler.engines:
                    self._scheduler.outbox.send(To.ENGINE, number, m.Watch([], [name]))
                return

    def _look(self, name: str) -> None:
        """Place what waits for a name if it is known where it is, or that it is nowhere."""
        watched = self.names[name]
        if watched.asked:
            return
        self._pending.discard(name)
        questions, watched.questions = watched.questions, []
        for question in questions:
            self._answer(question)
        clients = {task >> CLIENT_SHIFT for task in watched.waiting}
        if name in self._open and (watched.holders or not self._may_come(clients)):
            self._open.discard(name)
            waiting, watched.waiting = watched.waiting, []
            for task in waiting:
                self._scheduler.admission.met(task)

    def _may_come(self, clients: set[int]) -> bool:
        """Whether these clients have asked engines for something that may set a name."""
        return any(
            not clients.isdisjoint([number >> CLIENT_SHIFT for number in engine.direct])
            for engine in self._scheduler.engines.values()
        )

    def _answer(self, question: Question) -> None:
        known = {name: self.names[name] for name in question.names if name in self.names}
        for watched in known.values():
            if watched.asked:  # the last one that becomes known answers for all
                watched.questions.append(question)
                return
        found: dict[str, object] = {name: [] for name in question.names}
        found |= {name: sorted(watched.holders) for name, watched in known.items()}
        self._scheduler.outbox.send(To.CLIENT, question.client, m.Answer(question.number, found))

    # --- kept values --------------------------------------------------------------------------------------------

    def where(self, value: int) -> list[int]:
        """The engines that have a kept value."""
        return sorted(self.holders.get(value, ()))

    def forgotten(self, client: int, values: Iterable[int]) -> None:
        """A client will not ask for values of its tasks any more."""
        theirs = [value for value in values if value >> CLIENT_SHIFT == client]
        known = self._scheduler.book.tasks
        self._unwanted.update(value for value in theirs if value in self._uses or value in known)
        self._forget([value for value in theirs if value not in self._uses])
        if len(self._unwanted) > MOST_LOST:  # tasks that did not end well have left nothing to be forgotten
            self._unwanted = {each for each in self._unwanted if each in known or each in self._uses}

    def client_left(self, client: int) -> None:
        """A client is gone, and what was kept for it goes."""
        self.forgotten(client, [value for value in self.holders if value >> CLIENT_SHIFT == client])

    def _got(self, engine: int, value: int, size: int) -> None:
        unwanted = value in self._unwanted or value >> CLIENT_SHIFT not in self._scheduler.clients
        if unwanted and value not in self._uses:
            self._unwanted.discard(value)
            self._scheduler.outbox.send(To.ENGINE, engine, m.Forget([value]))
            return
        self.keep(engine, value, size)
        if (logbook := self._scheduler.logbook) is not None:
            logbook.note(entries.Keeps(engine, {value: size}))
        if unwanted:
            self._unwanted.add(value)

    def keep(self, engine: int, value: int, size: int) -> None:
        """An engine keeps a value."""
        self.holders.setdefault(value, {})[engine] = None
        self.sizes[value] = size

    def _forget(self, values: list[int]) -> None:
        at: dict[int, list[int]] = {}
        if (logbook := self._scheduler.logbook) is not None and values:
            logbook.note(entries.Forgot(values))
        for value in values:
            for engine in self.holders.pop(value, ()):
                at.setdefault(engine, []).append(value)
                self._unwanted.discard(value)
            self.sizes.pop(value, None)
        for engine, theirs in at.items():
            self._scheduler.outbox.send(To.ENGINE, engine, m.Forget(theirs))

    # --- from engine to engine ----------------------------------------------------------------------------------

    def wanted(self, engine: EngineRecord, values: list[int]) -> None:
        """An engine lacks values that its tasks use."""
        for value in values:
            self._fetch(engine.info.id, value)

    def fetch(self, task: Task, target: int) -> None:
        """A client fetches a value, from ``target`` or whoever else has it."""
        scheduler = self._scheduler
        value = int(task.payload) if task.payload.isdigit() else -1
        held = [number for number in self.holders.get(value, ()) if number in scheduler.engines]
        if held:
            self.send(scheduler.engines[target if target in held else held[0]], task)
        else:
            scheduler.end(task, faults.result_of(task.id, m.Status.LOST, self.lost(value)), engine=target)

    def _fetch(self, wants: int, value: int) -> None:
        scheduler = self._scheduler
        held = [number for number in self.holders.get(value, ()) if number in scheduler.engines and number != wants]
        if not held:
            nothing = faults.result_of(value, m.Status.LOST, self.lost(value))
            scheduler.outbox.send(To.ENGINE, wants, m.Results(-1, [nothing]))
            return
        # Each time from another one: a value that many want spreads by itself.
        source = held[self._next_task % len(held)]
        task = m.Task(self._next_task, m.Action.FETCH, b"", b"%d" % value)
        self._next_task += 1
        self._wanted[task.id] = (wants, value)
        scheduler.book.tasks[task.id] = task
        scheduler.counts["submitted"] += 1
        self.send(scheduler.engines[source], task)

    def send(self, engine: EngineRecord, task: Task) -> None:
        """Have an engine hand out what it has kept, without waiting for the tasks before."""
        engine.direct[task.id] = task
        self._scheduler.outbox.send(To.ENGINE, engine.info.id, m.Fetch([task]))
        self._scheduler.dealer.refresh(engine)

    def fetched(self, task: int, result: Result, frames: list[object]) -> None:
        """A task of the controller's own has ended: what it brought goes to the engine that wants it."""
        wants, value = self._wanted.pop(task)
        if wants not in self._scheduler.engines:
            return
        if result.status == m.Status.LOST and value in self.holders:  # the engine it was to come from has left
            self._fetch(wants, value)
            return
        result.id = value
        self._scheduler.outbox.send(To.ENGINE, wants, m.Results(-1, [result]), list(frames))

    # --- engines come and go ------------------------------------------------------------------------------------

    def engine_joined(self, engine: EngineRecord) -> None:
        """An engine shall watch what all watch."""
        if self.names:
            self._scheduler.outbox.send(To.ENGINE, engine.info.id, m.Watch(list(self.names)))

    def engine_left(self, engine: EngineRecord, reason: str) -> None:
        """What an engine had is gone with it, unless others have it, too."""
        number = engine.info.id
        for value in [value for value, holders in self.holders.items() if number in holders]:
            holders = self.holders[value]
            del holders[number]
            if not holders:
                del self.holders[value], self.sizes[value]
                self._unwanted.discard(value)
                self._lost[value] = f"engine {number} (pid {engine.info.pid} on {engine.info.host}) left: {reason}"
        while len(self._lost) > MOST_LOST:
            del self._lost[next(iter(self._lost))]
        for name, watched in list(self.names.items()):
            watched.holders.discard(number)
            if number in watched.asked or name in self._open:
                watched.asked.discard(number)
                self._look(name)


def _is_pushing(engine: EngineRecord, name: str) -> bool:
    """Whether an engine is about to set a name. Linear in the requests it holds."""
    return any(
        task.action == m.Action.PUSH and task.options is not None and name in (task.options.names or ())
        for task in engine.direct.values()
    )
