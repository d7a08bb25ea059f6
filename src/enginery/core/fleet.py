"""Engines come and go: their ids, who is told, and what becomes of the tasks of those that leave. No I/O."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from enginery.core import faults
from enginery.core import logbook as entries
from enginery.core.actions import To
from enginery.core.engines import EngineRecord
from enginery.wire.messages import Abort, Action, Departure, EngineInfo, News, Return, Shutdown, Status

if TYPE_CHECKING:
    from enginery.core.scheduler import Scheduler
    from enginery.wire.messages import Task

#: A task that was with this many engines when they died is not tried again, however many retries it has.
POISON: Final = 3
#: How far above the next free id an engine's wish may lie.
FARTHEST: Final = 100_000


class Fleet:
    """The engines of a scheduler, from their hello until they have left."""

    def __init__(self, scheduler: Scheduler) -> None:
        self._scheduler = scheduler
        self.next_engine = 0
        self.retiring: list[EngineRecord] = []
        self.departing: EngineInfo | None = None  #: the engine that is leaving, while its tasks are seen to
        self._skipped: set[int] = set()  #: ids below the next one that were never given
        self._firsts: dict[str, int] = {}  #: by engine set of MPI ranks: the id of rank 0

    def engine_joined(
        self, uuid: str, pid: int, host: str, wanted: int, now: float, engine_set: str = "", rank: int = -1
    ) -> EngineRecord:
        """An engine says hello. It gets the id it wants if that was never used, else the next one."""
        scheduler = self._scheduler
        if rank >= 0 and wanted < 0:
            wanted = self._id_of_rank(engine_set, rank)
        number = self._number_for(wanted)
        scheduler.counts["joined"] += 1
        engine = EngineRecord(EngineInfo(number, uuid, pid, host, engine_set), now)
        scheduler.engines[number] = engine
        scheduler.dealer.join(engine)
        scheduler.places.engine_joined(engine)
        scheduler.readers.engine_joined(engine)
        if scheduler.logbook is not None:
            scheduler.logbook.note(entries.Came(engine.info))
        self._tell_clients(News(joined=[engine.info]))
        return engine

    def _id_of_rank(self, engine_set: str, rank: int) -> int:
        """The id for a rank: those of a set follow each other. A set that is started anew counts anew.

        Its first ranks may come before the last ones of the old job have left.
        """
        there = {engine.info.engine_set for engine in self._scheduler.engines.values()}
        self._firsts = {name: first for name, first in self._firsts.items() if name in there}
        wanted = self._firsts.setdefault(engine_set, self.next_engine) + rank
        if wanted < self.next_engine and wanted not in self._skipped:
            self._firsts[engine_set] = self.next_engine
            wanted = self.next_engine + rank
        return wanted

    def _number_for(self, wanted: int) -> int:
        following = self.next_engine
        if wanted in self._skipped:  # as with the ranks of an MPI job, which arrive in any order
            self._skipped.remove(wanted)
            return wanted
        if following < wanted <= following + FARTHEST - len(self._skipped):
            self._skipped.update(range(following, wanted))
            following = wanted
        self.next_engine = following + 1
        return following

    def engine_hung_up(self, number: int) -> None:
        """An engine's connection is closed: it is given nothing more. What became of it, ``engine_left`` will tell."""
        scheduler = self._scheduler
        engine = scheduler.engines.get(number)
        if engine is not None:
            engine.leaving = True
            scheduler.dealer.refresh(engine)

    def engine_returned(self, number: int, now: float) -> None:
        """An engine whose connection was closed is back, with all it held."""
        scheduler = self._scheduler
        engine = scheduler.engines[number]
        engine.leaving = False
        engine.progressed = now
        scheduler.places.engine_joined(engine)  # names that are watched since it left
        scheduler.dealer.refresh(engine)

    def engine_retires(self, number: int) -> None:
        """An engine is to leave without loss: it hands back what it has not begun, and leaves when the rest is done."""
        scheduler = self._scheduler
        engine = scheduler.engines.get(number)
        if engine is None or engine.retiring:
            return
        scheduler.outcomes.settle()
        engine.retiring = engine.asked_back = True
        self.retiring.append(engine)
        if engine.balanced:
            scheduler.outbox.send(To.ENGINE, number, Return(len(engine.balanced)))
        scheduler.dealer.refresh(engine)
        scheduler.outcomes.settle()

    def dismiss(self) -> None:
        """Let the engines go that were to leave and have nothing left to do."""
        for engine in [each for each in self.retiring if not (each.balanced or each.direct)]:
            self.retiring.remove(engine)
            self._scheduler.outbox.send(To.ENGINE, engine.info.id, Shutdown(0, [engine.info.id]))

    def engine_stillborn(self, end: Departure) -> None:
        """An engine has died before it said hello: whoever waits for engines shall not wait for this one."""
        self._tell_departure(end)

    def _tell_departure(self, departure: Departure) -> None:
        if departure.crashed:
            self._scheduler.crashes.append(departure)
        self._tell_clients(News(left=[departure]))

    def engine_left(
        self, number: int, reason: str, *, balanced: int | None = None, end: Departure | None = None
    ) -> None:
        """An engine is gone, whoever noticed it: its tasks run elsewhere or fail, and everybody is told, once."""
        scheduler = self._scheduler
        scheduler.outcomes.settle()
        engine = scheduler.engines.pop(number, None)
        if engine is None:
            return
        self.departing = engine.info
        scheduler.outbox.withdraw(number)
        scheduler.places.engine_left(engine, reason)
        homeless = scheduler.dealer.leave(engine)
        if engine.retiring:
            self.retiring = [each for each in self.retiring if each is not engine]
        self._tell_departure(end if end is not None else Departure(number, engine.info.uuid, reason))
        held, addressed = list(engine.balanced.values()), list(engine.direct.values())
        engine.balanced, engine.direct, engine.paused = {}, {}, set()
        for task in addressed:
            fault = faults.engine_lost(engine, reason, direct=True)
            scheduler.end(task, faults.result_of(task.id, Status.LOST, fault), engine=number)
        begun = len(held)
        if balanced is not None and not engine.disordered:
            begun = 1 + next((at for at, task in enumerate(held) if task.id == balanced), -1)
        for at in range(len(held) - 1, -1, -1):  # backwards: those put back stand in front in the old order
            self._bereave(held[at], engine, reason, begun=at < begun)
        for task in homeless:
            scheduler.place(task)
        self.departing = None
        if scheduler.logbook is not None:
            scheduler.logbook.note(entries.Left(number))

    def engine_recalled(self, number: int, holding: list[int], now: float) -> None:
        """An engine that a controller before this one had is back, and says which tasks it holds."""
        scheduler = self._scheduler
        engine, held = scheduler.engines[number], set(holding)
        self.engine_returned(number, now)
        scheduler.outbox.withdraw(number)  # if it says so for the second time, having heard nothing of the first
        scheduler.readers.engine_joined(engine)
        known = held.intersection(engine.balanced) | held.intersection(engine.direct)
        strange = [task for task in holding if task not in known]
        stopping = [task for task in known if (rare := scheduler.book.rare.get(task)) is not None and rare.stopping]
        if strange or stopping:
            scheduler.outbox.send(To.ENGINE, number, Abort([*strange, *stopping]))
        missed = [task for task in engine.balanced if task not in held]
        if missed:
            if scheduler.logbook is not None:
                scheduler.logbook.note(entries.Returned(missed))
            for task_id in reversed(missed):
                task = engine.balanced.pop(task_id)
                scheduler.dealer.ended(engine, task.function, 1, None)
                scheduler.outcomes.put_back(task, scheduler.book.rare.get(task_id))
        for task in list(engine.direct.values()):
            if task.action == Action.FETCH:
                scheduler.places.send(engine, task)
            elif task.id not in held:
                if task.function and task.function not in engine.functions:
                    scheduler.dealer.bodies.introduce(engine, task.function, scheduler.outbox)
                batch, out = scheduler.outbox.assignment(number, direct=True)
                batch.tasks.append(task)
                out += scheduler.book.frames.get(task.id, ())
        scheduler.dealer.refresh(engine)

    def _bereave(self, task: Task, engine: EngineRecord, reason: str, *, begun: bool) -> None:
        scheduler = self._scheduler
        rare = scheduler.book.rare.get(task.id)
        if not begun:
            if scheduler.logbook is not None:
                scheduler.logbook.note(entries.Returned([task.id]))
            scheduler.outcomes.put_back(task, rare)
            return
        poison = False
        if rare is not None:
            rare.deaths += 1
            poison = rare.deaths >= POISON
            if rare.retries_left > 0 and not poison:
                rare.retries_left -= 1
                rare.note_attempt(f"engine {engine.info.id} ({reason})")
                rare.excluded.add(engine.info.id)
                scheduler.counts["retried"] += 1
                scheduler.outcomes.note_attempt(task.id, rare)
                scheduler.place(task, front=True)
                return
        fault = faults.engine_lost(engine, reason, rare, poison=poison)
        scheduler.end(task, faults.result_of(task.id, Status.LOST, fault), engine=engine.info.id)

    def _tell_clients(self, news: News) -> None:
        scheduler = self._scheduler
        for number in scheduler.clients:
            scheduler.outbox.send(To.CLIENT, number, news)
