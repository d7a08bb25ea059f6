"""The controller's mind: one method per stimulus, actions in an outbox. No I/O.

Rules of the room:

1. Whatever the controller knows of tasks, engines and clients is known here and nowhere else. What is done about some
   stimuli stands in parts that have a file each; they are told here, and act on what is known here.
2. Time comes in as ``now`` (monotonic seconds), chance as an object; equal stimuli give equal actions.
3. Every accepted task ends in exactly one final result.
4. Funnel: an engine leaves through ``engine_left`` and no other way.
"""

from __future__ import annotations

import heapq
from collections import deque
from typing import TYPE_CHECKING, Final

from enginery.core import faults
from enginery.core import logbook as entries
from enginery.core.actions import Outbox, To
from enginery.core.admission import Admission
from enginery.core.book import Book
from enginery.core.dealer import Dealer
from enginery.core.engines import ClientRecord, EngineRecord
from enginery.core.fleet import Fleet
from enginery.core.missing import MissingFunctions
from enginery.core.outcomes import Outcomes
from enginery.core.places import Places
from enginery.core.readers import MOST_UNREAD, Readers
from enginery.core.stories import Stories
from enginery.core.submission import Submission
from enginery.core.tasks import State
from enginery.wire.messages import CLIENT_SHIFT, Assign, Departure, Ping, Result, Return, Status, Task

if TYPE_CHECKING:
    from enginery.core import actions
    from enginery.core.journal import Journal
    from enginery.core.logbook import Logbook
    from enginery.core.placement import Random
    from enginery.wire.messages import Fault, Output, Request

#: Deadlines that may have become pointless before they are sought out.
POINTLESS: Final = 1000
#: Clients that left which a durable controller remembers.
DEPARTED: Final = 10_000
#: Crashes of engines remembered for clients that come later.
CRASHES: Final = 100


class Scheduler:
    """Tasks, engines, clients, and every decision about them. Not thread-safe: it belongs to one loop."""

    def __init__(
        self,
        *,
        random: Random,
        scheme: str = "leastload",
        hwm: int | None = None,
        journal: Journal | None = None,
        first_client: int = 1,
        logbook: Logbook | None = None,
        most_unread: int = MOST_UNREAD,
    ) -> None:
        """What ended is noted in ``journal``, if there is one.

        What must outlive the controller is written into ``logbook``, if there is one. ``first_client`` is the number of
        the first client: a restarted controller leaves those of others free. ``most_unread`` is how many bytes of results
        a client may leave unread until nothing of its is begun.
        """
        self.journal = journal
        self.logbook = logbook
        self.engines: dict[int, EngineRecord] = {}
        self.clients: dict[int, ClientRecord] = {}
        self.outbox = Outbox()
        self.book = Book()
        self.dealer = Dealer(scheme=scheme, hwm=hwm, random=random, engines=self.engines, book=self.book)
        self.admission = Admission(self)
        self.places = Places(self, first_client)
        self.stories = Stories()
        self.submission = Submission(self)
        self.outcomes = Outcomes(self)
        self.fleet = Fleet(self)
        self.readers = Readers(self, most_unread)
        self.missing = MissingFunctions(self)
        self.counts = {
            "joined": 0,
            "submitted": 0,
            "ended": 0,
            "failed": 0,
            "retried": 0,
            "stolen": 0,
            "stale": 0,
            "dropped": 0,
        }
        self._deadlines: list[tuple[float, int]] = []
        self.crashes: deque[Departure] = deque(maxlen=CRASHES)  #: the newest ones
        self._first_client = self._next_client = first_client
        self._adopted: set[int] = set()  #: numbers that another controller gave
        self._had_client = False
        #: clients that another controller may meet and shall not take for new ones
        self.departed: dict[int, entries.Gone] = {}
        self.mixed = False  #: there was more than one client, so results of several may come in one message

    # --- clients ------------------------------------------------------------------------------------------------

    def client_joined(self, name: str, token: str, now: float, session: str = "") -> ClientRecord:
        """A client says hello. Its record carries the number that prefixes its task ids."""
        while self._next_client in self._adopted:
            self._next_client += 1
        client = self._add_client(self._next_client, name, token, now, session)
        self._next_client += 1
        return client

    def client_adopted(self, number: int, name: str, token: str, now: float, session: str = "") -> ClientRecord | None:
        """A client of another controller goes on here, under its number: ids it has given are of no use with any other.

        None if the number is somebody else's here, or that of a client which has left.
        """
        if number in self._adopted or number in self.departed or self._first_client <= number < self._next_client:
            return None
        self._adopted.add(number)
        return self._add_client(number, name, token, now, session)

    def _add_client(self, number: int, name: str, token: str, now: float, session: str) -> ClientRecord:
        self.mixed = self.mixed or self._had_client
        self._had_client = True
        client = self.clients[number] = ClientRecord(number, name, token, now, session)
        if self.logbook is not None:
            self.logbook.note(entries.Joined(number, name, session, token))
        return client

    def client_left(self, number: int) -> None:
        """A client is gone. Its tasks run on; their results have nobody to go to."""
        client = self.clients.pop(number, None)
        if client is not None:
            client.connected = False
            self.readers.let_on(number)
            self.places.client_left(number)
            if self.logbook is not None:
                self.outcomes.settle()
                gone = self.departed[number] = entries.Gone(number, client.name, client.session)
                self.logbook.note(gone)
                if len(self.departed) > DEPARTED:
                    del self.departed[next(iter(self.departed))]
            for digest, engine in self.dealer.bodies.wanted():  # of this client, perhaps
                self.functions_missing(engine, [digest])

    def functions_arrived(self, client: ClientRecord, bodies: dict[bytes, bytes]) -> None:
        """A client sends bodies of functions, ahead of the tasks that use them or because it was asked.

        An empty body says that the client does not have it, either: its tasks that wait for it can never run.
        """
        self.missing.functions_arrived(client, bodies)

    def tasks_submitted(self, client: ClientRecord, tasks: list[Task], frames: list[object], now: float) -> None:
        """A client submits balanced tasks, in ascending order of ids. Ids outside its range or used are stale."""
        self.submission.tasks_submitted(client, tasks, frames, now)

    def requests_submitted(
        self, client: ClientRecord, requests: list[Request], frames: list[object], now: float = 0.0
    ) -> None:
        """A client addresses tasks to engines. Each engine gets its copy, with consecutive ids."""
        self.submission.requests_submitted(client, requests, frames, now)

    def abort_requested(self, client: ClientRecord, ids: list[int], *, interrupt: bool = False) -> None:
        """A client takes tasks of its own back. Those no engine has end at once; for the others engines are told."""
        self.outcomes.abort_requested(client, ids, interrupt=interrupt)

    def results_unread(self, client: int, size: int) -> bool:
        """A client has left so many bytes of results unread. Whether it is held back or let on because of that."""
        return self.readers.unread(client, size)

    # --- engines ------------------------------------------------------------------------------------------------

    def engine_joined(
        self, uuid: str, pid: int, host: str, wanted: int, now: float, engine_set: str = "", rank: int = -1
    ) -> EngineRecord:
        """An engine says hello. It gets the id it wants if that was never used, else the next one.

        The ranks of an MPI job arrive in any order and get ids in the order of ranks.
        """
        return self.fleet.engine_joined(uuid, pid, host, wanted, now, engine_set, rank)

    def engine_hung_up(self, number: int) -> None:
        """An engine's connection is closed: it is given nothing more. What became of it, ``engine_left`` will tell."""
        self.fleet.engine_hung_up(number)

    def engine_returned(self, number: int, now: float) -> None:
        """An engine whose connection was closed is back, with all it held."""
        self.fleet.engine_returned(number, now)

    def engine_retires(self, number: int) -> None:
        """An engine is to leave without loss: it hands back what it has not begun, and leaves when the rest is done."""
        self.fleet.engine_retires(number)

    def engine_stillborn(self, end: Departure) -> None:
        """An engine has died before it said hello: whoever waits for engines shall not wait for this one."""
        self.fleet.engine_stillborn(end)

    def engine_left(
        self, number: int, reason: str, *, balanced: int | None = None, end: Departure | None = None
    ) -> None:
        """An engine is gone, whoever noticed it: its tasks run elsewhere or fail, and everybody is told, once.

        ``balanced`` is the id of the last balanced task it had begun (-1: none), or None if that is not known; what
        it had not begun runs elsewhere without counting as an attempt. Where the order in which it has begun them is not
        certain, all count as begun, for none may run twice unless it has retries. ``end`` is what clients are told of it.
        """
        self.fleet.engine_left(number, reason, balanced=balanced, end=end)

    def engine_recalled(self, number: int, holding: list[int], now: float) -> None:
        """An engine that a controller before this one had is back, and says which tasks it holds.

        What it was given and does not hold it has never got: it goes to another one, or to it once more if it is
        addressed to it. What it holds and was not given has ended or is somebody else's by now.
        """
        self.fleet.engine_recalled(number, holding, now)

    def results_arrived(self, engine: EngineRecord, results: list[Result], frames: list[object], now: float) -> None:
        """Results from an engine, in the order the tasks ended. Results for tasks it does not hold are dropped."""
        self.outcomes.results_arrived(engine, results, frames, now)

    def settle(self) -> None:
        """Keep the books on results that were handed on; to be called once the actions of a turn are performed."""
        self.outcomes.settle()

    def output_arrived(self, engine: EngineRecord, outputs: list[Output]) -> None:
        """Output of tasks the engine holds; relayed in order, before the results that follow."""
        for output in outputs:
            if output.task not in engine.balanced and output.task not in engine.direct:
                self.counts["stale"] += 1
                continue
            if self.journal is not None and self.journal.hear(output) and self.logbook is not None:
                self.logbook.note(entries.Heard([output]))
            if (client := self.clients.get(output.task >> CLIENT_SHIFT)) is not None:
                self._pass_on(client, engine, output)

    def _pass_on(self, client: ClientRecord, engine: EngineRecord, output: Output) -> None:
        passed = client.flow.passed(output)
        if passed is None:
            self.counts["dropped"] += 1
            return
        self.outbox.output(client.number, engine.info.id, passed)
        if question := client.flow.question():
            self.outbox.send(To.CLIENT, client.number, Ping(question))

    def tasks_returned(self, engine: EngineRecord, ids: list[int], now: float) -> None:
        """An engine hands back balanced tasks it has not begun, in answer to ``Return``."""
        self.outcomes.settle()
        if self.logbook is not None:
            self.logbook.note(entries.Returned([number for number in ids if number in engine.balanced]))
        engine.asked_back = not ids  # there is nothing to be had until a task of its ends
        engine.progressed = now
        for number in reversed(ids):
            task = engine.balanced.pop(number, None)
            if task is None:
                self.counts["stale"] += 1
                continue
            self.dealer.ended(engine, task.function, 1, None)
            self.counts["stolen"] += 1
            self.outcomes.put_back(task, self.book.rare.get(number))
        self.dealer.refresh(engine)

    def tasks_paused(self, engine: EngineRecord, ids: list[int]) -> None:
        """An engine has set tasks aside that are addressed to it, because their clients do not read."""
        self.readers.paused(engine, ids)

    def functions_missing(self, engine: EngineRecord, digests: list[bytes]) -> None:
        """An engine was given tasks whose function it does not have. Supplied from here or asked of clients."""
        self.missing.functions_missing(engine, digests)

    # --- time ---------------------------------------------------------------------------------------------------

    def wake_at(self, when: float, task: int) -> None:
        """See to a waiting task again at that time."""
        heapq.heappush(self._deadlines, (when, task))
        waiting = self.book.waiting
        if len(self._deadlines) > 2 * len(waiting) + POINTLESS:
            self._deadlines = [entry for entry in self._deadlines if entry[1] in waiting]
            heapq.heapify(self._deadlines)

    def tick(self, now: float) -> None:
        """Time has passed: dependency timeouts fall due, idle engines steal."""
        self.outcomes.settle()
        while self._deadlines and self._deadlines[0][0] <= now:
            _, number = heapq.heappop(self._deadlines)
            task = self.book.waiting.get(number)
            if task is not None and task.options is not None:
                self.fail(task, faults.timed_out(self.book.rare.get(number), task.options.timeout or 0.0))
        self.places.tick(now)
        for engine, count in self.dealer.stuck(now):
            engine.asked_back = engine.stuck = True
            self.dealer.refresh(engine)
            self.outbox.send(To.ENGINE, engine.info.id, Return(count))

    def next_deadline(self) -> float | None:
        """When ``tick`` has to be called next, None if only a stimulus can change anything."""
        # Hot: once per turn, and mostly there is none. Bench: round trip.
        first, steal, names = None, self.dealer.steal_due(), self.places.next_deadline()
        if self._deadlines:
            first = self._deadlines[0][0]
        if steal is None and names is None:
            return first
        return min([due for due in (first, steal, names) if due is not None])

    def has_actions(self) -> bool:
        """Whether ``take_actions`` would give anything."""
        return bool(len(self.outbox) or self.dealer.has_work())

    def take_actions(self, now: float) -> list[actions.Action]:
        """Deal what can be dealt, and hand over everything to be performed."""
        if self.journal is not None:
            self.journal.now = now
        if self.dealer.has_work():
            self.outcomes.settle()
            self.dealer.deal(now, self.outbox)
        actions = self.outbox.take()
        if self.logbook is not None:
            for action in actions:
                if type(action.message) is Assign:
                    self.logbook.note(entries.Given(action.number, [task.id for task in action.message.tasks]))
        return actions

    # --- recalling ----------------------------------------------------------------------------------------------

    def recall_peers(
        self,
        clients: dict[int, ClientRecord],
        departed: dict[int, entries.Gone],
        highest_client: int,
        highest_engine: int,
    ) -> None:
        """Take over the clients of a controller before this one; no number and no id is given a second time."""
        self.departed = dict(departed)
        self.clients.update(clients)
        self._adopted.update(clients)
        self._had_client = self.mixed = bool(clients)
        self._next_client = max(self._next_client, highest_client + 1)
        self.fleet.next_engine = highest_engine + 1

    def recall_task(self, task: Task, target: int | None, now: float) -> None:
        """Admit a task once more that a controller before this one had accepted and given to nobody."""
        rare = self.book.rare.get(task.id)
        if target is not None:
            fault = faults.no_such_engine(target, sorted(self.engines))
            self.end(task, faults.result_of(task.id, Status.LOST, fault))
        elif rare is not None and rare.stopping:
            self.end(task, faults.aborted(task.id, "The task was aborted before it began."))
        elif task.options is not None:
            self.admission.admit(task, now)
        else:
            self.place(task)

    # --- used by admission --------------------------------------------------------------------------------------

    def place(self, task: Task, *, front: bool = False) -> None:
        """Queue a task that no engine and no lane holds, or end it if no engine may ever run it."""
        rare = self.book.rare.get(task.id)
        if rare is not None:
            if rare.seeks and (fault := self.places.aim(task, rare)) is not None:
                self.fail(task, fault)
                return
            allowed = self.dealer.restriction(rare)
            if allowed is not None and not any(number in self.engines for number in allowed):
                self.fail(task, faults.no_target_left(rare, sorted(allowed)))
                return
        self.dealer.add(task, front=front)

    def fail(self, task: Task, fault: Fault) -> None:
        """End a task that can never run; it must not stand in a lane or at an engine."""
        self.end(task, faults.result_of(task.id, Status.UNRUNNABLE, fault))

    def end(self, task: Task, result: Result, *, queued: bool = False, engine: int = -1) -> None:
        """The one final result of a task that the scheduler itself ends. ``queued``: it stands in a lane.

        ``engine`` is the one it is about, if there is one.
        """
        if queued:
            self.dealer.drop(task.id)
        self.outcomes.finish(task, result, [], engine)

    # --- helpers ------------------------------------------------------------------------------------------------

    def locate(self, task: int) -> tuple[State, EngineRecord | None]:
        """Where a known task stands. Linear in the number of engines: for rare stimuli and questions only."""
        if task in self.book.waiting:
            return State.WAITING, None
        for engine in self.engines.values():
            if task in engine.balanced or task in engine.direct:
                return State.ASSIGNED, engine
        return State.READY, None
