"""The controller's mind: one method per stimulus, actions in an outbox. No I/O.

Rules of the room:

1. Whatever the controller knows of tasks, engines and clients is known here and nowhere else.
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
from enginery.core.ledger import Ending
from enginery.core.places import Places
from enginery.core.stories import Stories
from enginery.core.tasks import State
from enginery.wire.messages import (
    CLIENT_SHIFT,
    LACKS,
    Abort,
    Action,
    Assign,
    Departure,
    EngineInfo,
    Missing,
    News,
    Ping,
    Result,
    Return,
    Shutdown,
    Status,
    Task,
)

if TYPE_CHECKING:
    from enginery.core import actions
    from enginery.core.journal import Journal
    from enginery.core.logbook import Logbook
    from enginery.core.placement import Random
    from enginery.core.tasks import Rare
    from enginery.wire.messages import Fault, Output, Request

#: A task that was with this many engines when they died is not tried again, however many retries it has.
POISON: Final = 3
#: How far above the next free id an engine's wish may lie.
FARTHEST: Final = 100_000
#: Deadlines that may have become pointless before they are sought out.
POINTLESS: Final = 1000
#: Clients that left which a durable controller remembers.
DEPARTED: Final = 10_000
#: Tasks that are looked for one by one at every engine.
FEW: Final = 10
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
    ) -> None:
        """What ended is noted in ``journal``, if there is one.

        What must outlive the controller is written into ``logbook``, if there is one. ``first_client`` is the number of
        the first client: a restarted controller leaves those of others free.
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
        self._unsettled: list[tuple[EngineRecord, list[Task | None], list[Result], list[int]]] = []
        self._next_engine = 0
        self.crashes: deque[Departure] = deque(maxlen=CRASHES)  #: the newest ones
        self._retiring: list[EngineRecord] = []
        self._skipped: set[int] = set()  #: ids below the next one that were never given
        self._firsts: dict[str, int] = {}  #: by engine set of MPI ranks: the id of rank 0
        self._departing: EngineInfo | None = None  #: the engine that is leaving, while its tasks are seen to
        self._first_client = self._next_client = first_client
        self._adopted: set[int] = set()  #: numbers that another controller gave
        self._had_client = False
        self.departed: dict[
            int, entries.Gone
        ] = {}  #: clients that another controller may meet and shall not take for new ones
        self._mixed = False  #: there was more than one client, so results of several may come in one message

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
        self._mixed = self._mixed or self._had_client
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
            self.dealer.let_on(number)
            self.places.client_left(number)
            if self.logbook is not None:
                self.settle()
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
        self.dealer.bodies.store({digest: body for digest, body in bodies.items() if body}, self.outbox)
        if self.logbook is not None:
            self.logbook.note(entries.Bodies(bodies))
        lost = {digest for digest, body in bodies.items() if not body}
        for digest, engine in self.dealer.bodies.wanted() if lost else ():
            for task in self._waiting_for(engine, digest) if digest in lost else ():
                if task.id >> CLIENT_SHIFT == client.number:
                    self._withdraw(engine, task, faults.body_lost(digest))

    def tasks_submitted(self, client: ClientRecord, tasks: list[Task], frames: list[object], now: float) -> None:
        """A client submits balanced tasks, in ascending order of ids. Ids outside its range or used are stale."""
        # Hot: bulk operations only. Bench: no-op tasks.
        base, lane = client.number, self.dealer.general
        if frames:
            self._keep_frames(tasks, frames)
        if len(tasks) == 1 and tasks[0].options is None and client.claim(tasks[0].id, 1):
            task = tasks[0]
            self.counts["submitted"] += 1
            self.book.tasks[task.id] = task
            if self.logbook is not None:
                self.logbook.note(entries.Accepted(tasks), frames)
            if not self.dealer.offer(task, now, self.outbox):
                lane.push(task)
            return
        ids = [task.id for task in tasks]
        consecutive = bool(ids) and ids[-1] - ids[0] == len(ids) - 1 and ids == list(range(ids[0], ids[-1] + 1))
        if not consecutive or not client.claim(ids[0], len(ids)):
            tasks = self._claim_each(client, tasks)
        self.counts["submitted"] += len(tasks)
        self.book.tasks.update([(task.id, task) for task in tasks])
        if self.logbook is not None and tasks:
            kept = self.book.frames
            owned = [frame for task in tasks if task.frames for frame in kept[task.id]] if frames else []
            self.logbook.note(entries.Accepted(tasks), owned)
        special = [at for at, task in enumerate(tasks) if task.options is not None]
        begin = 0
        for at in special:  # order within a client is kept: what came before this task is queued before it
            lane.extend(base, tasks[begin:at])
            begin = at + 1
            self.admission.admit(tasks[at], now)
        lane.extend(base, tasks[begin:] if special else tasks)

    def _claim_each(self, client: ClientRecord, tasks: list[Task]) -> list[Task]:
        """Those whose ids are fresh; the others were sent twice, or are not the client's."""
        fresh = [task for task in tasks if client.claim(task.id, 1)]
        self.counts["stale"] += len(tasks) - len(fresh)
        for number in {task.id for task in tasks} - {task.id for task in fresh}:
            if number not in self.book.tasks:
                self.book.frames.pop(number, None)
        return fresh

    def _keep_frames(self, tasks: list[Task], frames: list[object]) -> None:
        at = 0
        for task in tasks:
            if task.frames:
                self.book.frames[task.id] = frames[at : at + task.frames]
                at += task.frames

    def requests_submitted(
        self, client: ClientRecord, requests: list[Request], frames: list[object], now: float = 0.0
    ) -> None:
        """A client addresses tasks to engines. Each engine gets its copy, with consecutive ids."""
        at = 0
        for request in requests:
            task, count = request.task, len(request.targets)
            mine = frames[at : at + task.frames]
            at += task.frames
            if not client.claim(task.id, count):
                self.counts["stale"] += count
                continue
            self.counts["submitted"] += count
            if self.logbook is not None:
                copies = [_copy(task, task.id + index) for index in range(count)]
                self.logbook.note(entries.Accepted(copies, request.targets), mine * count)
            for index, target in enumerate(request.targets):
                self._address(task if not index else _copy(task, task.id + index), mine, target, now)

    def _address(self, task: Task, frames: list[object], target: int, now: float) -> None:
        self.book.tasks[task.id] = task
        if self.journal is not None:
            self.journal.direct.add(task.id)
        if frames and (self.journal is not None or self.logbook is not None):
            self.book.frames[task.id] = frames  # another controller may have to send them again
        if task.options is not None and task.options.values:
            self.places.use(self.book.rare_of(task.id), task.options.values)
        if task.action == Action.FETCH:
            self.places.fetch(task, target)
            return
        engine = self.engines.get(target)
        if engine is None:
            self.end(task, faults.result_of(task.id, Status.LOST, faults.no_such_engine(target, sorted(self.engines))))
            return
        if task.function and task.function not in engine.functions:
            self.dealer.bodies.introduce(engine, task.function, self.outbox)
        batch, out = self.outbox.assignment(target, direct=True)
        batch.tasks.append(task)
        out += frames
        if not engine.load:
            engine.progressed = now
        engine.direct[task.id] = task
        if task.action == Action.PUSH:
            self.places.will_have(engine, task)
        self.dealer.refresh(engine)

    def abort_requested(self, client: ClientRecord, ids: list[int], *, interrupt: bool = False) -> None:
        """A client takes tasks of its own back. Those no engine has end at once; for the others engines are told."""
        self.settle()
        at_engines: dict[int, list[int]] = {}
        holders = self._holders(ids)
        for number in ids:
            task = self.book.tasks.get(number)
            if task is None or number >> CLIENT_SHIFT != client.number:
                continue
            engine = holders.get(number)
            if engine is None:
                fault = faults.aborted(number, "The task was aborted before it began.")
                self.end(task, fault, queued=number not in self.book.waiting)
            else:
                rare = self.book.rare_of(number)
                rare.retries_left = 0
                rare.stopping = True
                self._note_attempt(number, rare, held=True)
                at_engines.setdefault(engine.info.id, []).append(number)
        for holder, numbers in at_engines.items():
            self.outbox.send(To.ENGINE, holder, Abort(numbers, interrupt))

    # --- engines ------------------------------------------------------------------------------------------------

    def engine_joined(
        self, uuid: str, pid: int, host: str, wanted: int, now: float, engine_set: str = "", rank: int = -1
    ) -> EngineRecord:
        """An engine says hello. It gets the id it wants if that was never used, else the next one.

        The ranks of an MPI job arrive in any order and get ids in the order of ranks.
        """
        if rank >= 0 and wanted < 0:
            wanted = self._first_of_set(engine_set) + rank
        number = self._number_for(wanted)
        self.counts["joined"] += 1
        engine = EngineRecord(EngineInfo(number, uuid, pid, host, engine_set), now)
        self.engines[number] = engine
        self.dealer.join(engine)
        self.places.engine_joined(engine)
        if self.logbook is not None:
            self.logbook.note(entries.Came(engine.info))
        self._tell_clients(News(joined=[engine.info]))
        return engine

    def _first_of_set(self, engine_set: str) -> int:
        """The id of rank 0 of an engine set. It holds until the set is gone: one that is started anew counts anew."""
        there = {engine.info.engine_set for engine in self.engines.values()}
        self._firsts = {name: first for name, first in self._firsts.items() if name in there}
        return self._firsts.setdefault(engine_set, self._next_engine)

    def _number_for(self, wanted: int) -> int:
        following = self._next_engine
        if wanted in self._skipped:  # as with the ranks of an MPI job, which arrive in any order
            self._skipped.remove(wanted)
            return wanted
        if following < wanted <= following + FARTHEST - len(self._skipped):
            self._skipped.update(range(following, wanted))
            following = wanted
        self._next_engine = following + 1
        return following

    def engine_hung_up(self, number: int) -> None:
        """An engine's connection is closed: it is given nothing more. What became of it, ``engine_left`` will tell."""
        engine = self.engines.get(number)
        if engine is not None:
            engine.leaving = True
            self.dealer.refresh(engine)

    def engine_returned(self, number: int, now: float) -> None:
        """An engine whose connection was closed is back, with all it held."""
        engine = self.engines[number]
        engine.leaving = False
        engine.progressed = now
        self.places.engine_joined(engine)  # names that are watched since it left
        self.dealer.refresh(engine)

    def engine_retires(self, number: int) -> None:
        """An engine is to leave without loss: it hands back what it has not begun, and leaves when the rest is done."""
        engine = self.engines.get(number)
        if engine is None or engine.retiring:
            return
        self.settle()
        engine.retiring = engine.asked_back = True
        self._retiring.append(engine)
        if engine.balanced:
            self.outbox.send(To.ENGINE, number, Return(len(engine.balanced)))
        self.dealer.refresh(engine)
        self.settle()

    def _dismiss(self) -> None:
        """Let the engines go that were to leave and have nothing left to do."""
        for engine in [each for each in self._retiring if not each.load]:
            self._retiring.remove(engine)
            self.outbox.send(To.ENGINE, engine.info.id, Shutdown(0, [engine.info.id]))

    def engine_stillborn(self, end: Departure) -> None:
        """An engine has died before it said hello: whoever waits for engines shall not wait for this one."""
        self._tell_departure(end)

    def _tell_departure(self, departure: Departure) -> None:
        if departure.crashed:
            self.crashes.append(departure)
        self._tell_clients(News(left=[departure]))

    def engine_left(
        self, number: int, reason: str, *, balanced: int | None = None, end: Departure | None = None
    ) -> None:
        """An engine is gone, whoever noticed it: its tasks run elsewhere or fail, and everybody is told, once.

        ``balanced`` is the id of the last balanced task it had begun (-1: none), or None if that is not known; what
        it had not begun runs elsewhere without counting as an attempt. Where the order in which it has begun them is not
        certain, all count as begun, for none may run twice unless it has retries. ``end`` is what clients are told of it.
        """
        self.settle()
        engine = self.engines.pop(number, None)
        if engine is None:
            return
        self._departing = engine.info
        self.places.engine_left(engine, reason)
        homeless = self.dealer.leave(engine)
        if engine.retiring:
            self._retiring = [each for each in self._retiring if each is not engine]
        self._tell_departure(end if end is not None else Departure(number, engine.info.uuid, reason))
        held, addressed = list(engine.balanced.values()), list(engine.direct.values())
        engine.balanced, engine.direct = {}, {}
        for task in addressed:
            fault = faults.engine_lost(engine, reason, direct=True)
            self.end(task, faults.result_of(task.id, Status.LOST, fault), engine=number)
        begun = len(held)
        if balanced is not None and not engine.disordered:
            begun = 1 + next((at for at, task in enumerate(held) if task.id == balanced), -1)
        for at in range(len(held) - 1, -1, -1):  # backwards: those put back stand in front in the old order
            self._bereave(held[at], engine, reason, begun=at < begun)
        for task in homeless:
            self.place(task)
        self._departing = None
        if self.logbook is not None:
            self.logbook.note(entries.Left(number))

    def engine_recalled(self, number: int, holding: list[int], now: float) -> None:
        """An engine that a controller before this one had is back, and says which tasks it holds.

        What it was given and does not hold it has never got: it goes to another one, or to it once more if it is
        addressed to it. What it holds and was not given has ended or is somebody else's by now.
        """
        engine, held = self.engines[number], set(holding)
        self.engine_returned(number, now)
        known = held.intersection(engine.balanced) | held.intersection(engine.direct)
        strange = [task for task in holding if task not in known]
        stopping = [task for task in known if (rare := self.book.rare.get(task)) is not None and rare.stopping]
        if strange or stopping:
            self.outbox.send(To.ENGINE, number, Abort([*strange, *stopping]))
        missed = [task for task in engine.balanced if task not in held]
        if missed:
            if self.logbook is not None:
                self.logbook.note(entries.Returned(missed))
            for task_id in reversed(missed):
                task = engine.balanced.pop(task_id)
                self.dealer.ended(engine, task.function, 1, None)
                self._put_back(task, self.book.rare.get(task_id))
        for task in list(engine.direct.values()):
            if task.action == Action.FETCH:
                self.places.send(engine, task)
            elif task.id not in held:
                if task.function and task.function not in engine.functions:
                    self.dealer.bodies.introduce(engine, task.function, self.outbox)
                batch, out = self.outbox.assignment(number, direct=True)
                batch.tasks.append(task)
                out += self.book.frames.get(task.id, ())
        self.dealer.refresh(engine)

    def _bereave(self, task: Task, engine: EngineRecord, reason: str, *, begun: bool) -> None:
        rare = self.book.rare.get(task.id)
        if not begun:
            if self.logbook is not None:
                self.logbook.note(entries.Returned([task.id]))
            self._put_back(task, rare)
            return
        poison = False
        if rare is not None:
            rare.deaths += 1
            poison = rare.deaths >= POISON
            if rare.retries_left > 0 and not poison:
                rare.retries_left -= 1
                rare.note_attempt(f"engine {engine.info.id} ({reason})")
                rare.excluded.add(engine.info.id)
                self.counts["retried"] += 1
                self._note_attempt(task.id, rare)
                self.place(task, front=True)
                return
        fault = faults.engine_lost(engine, reason, rare, poison=poison)
        self.end(task, faults.result_of(task.id, Status.LOST, fault), engine=engine.info.id)

    def results_arrived(self, engine: EngineRecord, results: list[Result], frames: list[object], now: float) -> None:
        """Results from an engine, in the order the tasks ended. Results for tasks it does not hold are dropped."""
        # Hot: bulk operations for plain successes of one client, task by task for all else. Bench: no-op tasks.
        engine.progressed = now
        if not results:
            return
        engine.stuck = engine.asked_back = False
        engine.completed += len(results)
        take = engine.balanced.pop
        ids = [result.id for result in results]
        tasks = [take(number, None) for number in ids]
        client = ids[0] >> CLIENT_SHIFT
        if (
            not frames
            and None not in tasks
            and not any([result.status for result in results])  # noqa: C419 - a list is twice as fast
            and client == ids[-1] >> CLIENT_SHIFT
            and (not self._mixed or min(ids) >> CLIENT_SHIFT == max(ids) >> CLIENT_SHIFT)
        ):
            # The client gets its results first; the books are kept while they travel.
            if client in self.clients:
                self.outbox.results(client, engine.info.id)[0].extend(results)
            if self.logbook is not None:
                self.logbook.note(entries.Ended(engine.info.id, results))
            self._unsettled.append((engine, tasks, results, ids))
            return
        self.settle()
        at = 0
        for task, result in zip(tasks, results, strict=True):
            mine = frames[at : at + result.frames]
            at += result.frames
            self._take_result(engine, task, result, mine)
        self.dealer.refresh(engine)

    def settle(self) -> None:
        """Keep the books on results that were handed on; to be called once the actions of a turn are performed."""
        while self._unsettled:
            unsettled, self._unsettled = self._unsettled, []
            for engine, tasks, results, ids in unsettled:
                self._learn(engine, tasks, results)
                if self.journal is not None:
                    self.journal.succeeded(engine.info, tasks, results, self.book.frames)  # type: ignore[arg-type]  # all there
                self._succeed(engine, ids)
                self.dealer.refresh(engine)
        self.dealer.settle()
        if self._retiring:
            self._dismiss()

    def _learn(self, engine: EngineRecord, tasks: list[Task | None], results: list[Result]) -> None:
        """Take run times in, function by function."""
        functions = {task.function for task in tasks if task is not None}
        if len(functions) == 1:
            spent = sum([result.finished - result.started for result in results])
            self.dealer.ended(engine, functions.pop(), len(results), spent)
            return
        for task, result in zip(tasks, results, strict=True):
            if task is not None:
                self.dealer.ended(engine, task.function, 1, result.finished - result.started)

    def _succeed(self, engine: EngineRecord, ids: list[int]) -> None:
        """Balanced tasks of one client have ended well, without frames."""
        client, book = ids[0] >> CLIENT_SHIFT, self.book
        forget = book.tasks.__delitem__
        for number in ids:
            forget(number)
        if book.rare or book.frames:
            for number in ids:
                rare = book.rare.pop(number, None)
                if rare is not None and rare.attempts:
                    self.stories.keep(number, rare, Result(number, Status.OK, b""), engine.info.id)
                if rare is not None and rare.values:
                    self.places.used(rare.values)
                book.frames.pop(number, None)
        record = self.clients.get(client)
        if record is not None:
            record.ledger.note_successes(ids, engine.info.id, record.highest)
        self.counts["ended"] += len(ids)
        if self.admission:
            ending = Ending(ok=True, engine=engine.info.id)
            for number in ids:
                self.admission.wake(number, ending)

    def _take_result(self, engine: EngineRecord, task: Task | None, result: Result, frames: list[object]) -> None:
        """One result of any kind. ``task`` has left the engine's balanced tasks if it stood there."""
        number = engine.info.id
        direct = task is None
        if task is None:
            task = engine.direct.pop(result.id, None)
            if task is None:
                self.counts["stale"] += 1
                return
            self.places.direct_ended(engine, task, result)
        else:
            ran = result.finished - result.started if result.started else None
            self.dealer.ended(engine, task.function, 1, ran)
        if result.status and not direct and self._may_retry(task, result, number):
            return
        self._finish(task, result, frames, number)

    def output_arrived(self, engine: EngineRecord, outputs: list[Output]) -> None:
        """Output of tasks the engine holds; relayed in order, before the results that follow."""
        for output in outputs:
            if output.task not in engine.balanced and output.task not in engine.direct:
                self.counts["stale"] += 1
                continue
            if self.journal is not None:
                self.journal.hear(output)
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
        self.settle()
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
            self._put_back(task, self.book.rare.get(number))
        self.dealer.refresh(engine)

    def functions_missing(self, engine: EngineRecord, digests: list[bytes]) -> None:
        """An engine was given tasks whose function it does not have. Supplied from here or asked of clients."""
        self.settle()
        engine.disordered = True  # it sets their tasks aside and goes on with others
        if self.logbook is not None:
            self.logbook.note(entries.Overtaken(engine.info.id))
        for digest in digests:
            engine.functions.discard(digest)
            if self.dealer.bodies.supply(engine, digest, self.outbox):
                continue
            waiting = self._waiting_for(engine, digest)
            owners = {task.id >> CLIENT_SHIFT for task in waiting}
            askable = [number for number in sorted(owners) if self._is_connected(number)]
            if askable:
                self.dealer.bodies.want(engine, digest)
            else:
                self.dealer.bodies.unwant(engine, digest)
            for number in askable:
                self.outbox.send(To.CLIENT, number, Missing([digest]))
            for task in [] if askable else waiting:
                self._withdraw(engine, task, faults.body_lost(digest))

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
        self.settle()
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
        first = self._deadlines[0][0] if self._deadlines else None
        return min(
            (due for due in (first, self.dealer.steal_due(), self.places.next_deadline()) if due is not None),
            default=None,
        )

    def has_actions(self) -> bool:
        """Whether ``take_actions`` would give anything."""
        return bool(len(self.outbox) or self.dealer.has_work())

    def take_actions(self, now: float) -> list[actions.Action]:
        """Deal what can be dealt, and hand over everything to be performed."""
        if self.journal is not None:
            self.journal.now = now
        if self.dealer.has_work():
            self.settle()
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
        self._had_client = self._mixed = bool(clients)
        self._next_client = max(self._next_client, highest_client + 1)
        self._next_engine = highest_engine + 1

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
        self._finish(task, result, [], engine)

    def _finish(self, task: Task, result: Result, frames: list[object], engine: int) -> None:
        """A result goes to the task's client, and the ending to those that wait for it."""
        rare = self.book.rare.get(task.id)
        if (rare is not None and rare.attempts) or (result.status and result.status != Status.ABORTED):
            self.stories.keep(task.id, rare, result, engine)
        if self.journal is not None and task.id >> CLIENT_SHIFT:
            holder = self.engines.get(engine)
            info = holder.info if holder is not None else self._departing
            self.journal.finished(info, task, result, self.book.frames.get(task.id, ()), frames)
        self.book.remove(task.id)
        if self.logbook is not None:
            self.logbook.note(entries.Ended(engine, [result]), frames)
        ending = Ending(ok=not result.status, engine=engine)
        self.counts["ended"] += 1
        self.counts["failed"] += not ending.ok
        client = self.clients.get(task.id >> CLIENT_SHIFT)
        if client is not None:
            client.ledger.note(task.id, ending, client.highest)
            batch, out = self.outbox.results(client.number, engine)
            batch.append(result)
            out += frames
        elif not task.id >> CLIENT_SHIFT:
            self.places.fetched(task.id, result, frames)
        if rare is not None and rare.values:
            self.places.used(rare.values)
        self.places.look_again()
        if self.admission:
            self.admission.wake(task.id, ending)

    # --- helpers ------------------------------------------------------------------------------------------------

    def _holders(self, ids: list[int]) -> dict[int, EngineRecord]:
        """Which engines hold some tasks: by looking for each task, or through what engines hold, whichever is less."""
        if len(ids) < FEW:
            found = [(number, self.locate(number)[1]) for number in ids]
            return {number: engine for number, engine in found if engine is not None}
        wanted = set(ids)
        return {
            number: engine
            for engine in self.engines.values()
            for held in (engine.balanced, engine.direct)
            for number in wanted.intersection(held)
        }

    def locate(self, task: int) -> tuple[State, EngineRecord | None]:
        """Where a known task stands. Linear in the number of engines: for rare stimuli and questions only."""
        if task in self.book.waiting:
            return State.WAITING, None
        for engine in self.engines.values():
            if task in engine.balanced or task in engine.direct:
                return State.ASSIGNED, engine
        return State.READY, None

    def _may_retry(self, task: Task, result: Result, engine: int) -> bool:
        """Whether a failed balanced task goes back to the queue instead of ending."""
        fault = result.fault
        unmet = fault is not None and fault.kind == "UnmetDependency"
        rare = self.book.rare.get(task.id)
        if result.status == Status.ABORTED or (rare is None and not unmet):
            return False
        rare = self.book.rare_of(task.id)
        lacks = fault is not None and fault.kind == LACKS
        if fault is not None and lacks:
            fault.kind = "remote"
            rare.unsuited |= {engine}
            unmet = self.places.is_elsewhere(task, rare)
        if rare.stopping or not (unmet or rare.retries_left > 0):
            return False
        if lacks:
            pass
        elif fault is not None and unmet:
            rare.unsuited |= {engine}
            if not self.dealer.suited(rare):
                result.status = Status.UNRUNNABLE
                result.fault = faults.impossible(rare, f"No engine meets its requirement: {fault.evalue.rstrip('.')}.")
                return False
        else:
            rare.excluded.add(engine)
            rare.retries_left -= 1
            self.counts["retried"] += 1
        what = f"{fault.ename}: {fault.evalue}" if fault is not None else "failed"
        rare.note_attempt(f"engine {engine} ({what[:200]})")
        self._note_attempt(task.id, rare)
        self.place(task, front=True)
        return True

    def _note_attempt(self, task: int, rare: Rare, *, held: bool = False) -> None:
        """Write down what is left to a task; ``held``: its engine has it still."""
        if self.logbook is not None:
            self.logbook.note(entries.tried(task, rare, held=held))

    def _put_back(self, task: Task, rare: Rare | None) -> None:
        """An engine had a task and did not begin it: it stands in front again, unless its client has taken it back."""
        if rare is not None and rare.stopping:
            self.end(task, faults.aborted(task.id, "The task was aborted before it began."))
        else:
            self.place(task, front=True)

    def _waiting_for(self, engine: EngineRecord, digest: bytes) -> list[Task]:
        """Tasks an engine holds that call a function."""
        return [task for held in (engine.direct, engine.balanced) for task in held.values() if task.function == digest]

    def _withdraw(self, engine: EngineRecord, task: Task, fault: Fault) -> None:
        """End a task that an engine holds but cannot run."""
        self.outbox.send(To.ENGINE, engine.info.id, Abort([task.id]))
        if engine.balanced.pop(task.id, None) is None:
            del engine.direct[task.id]
        else:
            self.dealer.ended(engine, task.function, 1, None)
        self.dealer.refresh(engine)
        self.fail(task, fault)

    def _is_connected(self, number: int) -> bool:
        return number in self.clients

    def _tell_clients(self, news: News) -> None:
        for number in self.clients:
            self.outbox.send(To.CLIENT, number, news)


def _copy(task: Task, number: int) -> Task:
    return Task(number, task.action, task.function, task.payload, task.frames, task.options, task.shared)
