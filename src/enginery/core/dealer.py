"""Deals ready tasks to engines with room: lanes, the scheme, and how much each engine may hold. No I/O.

How much an engine may hold (``hwm``): N means N tasks, 0 no limit, None that the queue follows the measured run
times, so that each engine has a few milliseconds of work and nobody waits behind a long task for longer than it
takes to steal it back.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from enginery.core.estimates import Estimates
from enginery.core.functions import Bodies
from enginery.core.placement import SCHEMES, least_loaded
from enginery.core.ready import Lane
from enginery.wire.messages import CLIENT_SHIFT

if TYPE_CHECKING:
    from enginery.core.actions import Outbox
    from enginery.core.book import Book
    from enginery.core.engines import EngineRecord
    from enginery.core.placement import Random, Scheme
    from enginery.core.tasks import Rare
    from enginery.wire.messages import Task

#: Seconds of expected work kept at each engine when the queue is adaptive.
PREFETCH: Final = 0.010
#: Tasks kept at an engine at most when the queue is adaptive.
PREFETCH_TASKS: Final = 4000
#: Seconds that it takes the controller to give an engine a share and to take in its results. While it serves all engines
#: each of them has to have that long to do, times their number: with smaller shares some would idle all the same.
SHARE_COST: Final = 50e-6
#: Seconds of expected work that are worth a share of their own, however many engines there are.
SHARE_WORTH: Final = 0.002
#: A second task is sent ahead to an engine whose first one is expected to take no longer than this, in seconds: it
#: spares a pause of a round trip, which matters less the longer tasks take.
AHEAD: Final = 0.1
#: Seconds without progress after which an idle engine may take tasks queued behind a slow one.
STEAL_AFTER: Final = 0.002
#: Queues that may be asked for within that time; where there are more, each of them has longer, so that asking costs no
#: more with a thousand engines than with a few.
STEALS: Final = 4
#: Seconds without progress after which queued tasks go back to all, even if no engine is idle.
HOLD: Final = 0.05

_UNLIMITED: Final = 1 << 60


class Dealer:
    """Ready tasks on one side, engines on the other."""

    def __init__(
        self, *, scheme: str, hwm: int | None, random: Random, engines: dict[int, EngineRecord], book: Book
    ) -> None:
        self.scheme_name = scheme
        self.hwm = hwm
        self.estimates = Estimates()
        self.bodies = Bodies()
        self.held_back: set[int] = set()  #: clients whose tasks are not given to engines for now
        self.general = Lane(self.held_back)
        self.lanes: dict[frozenset[int], Lane] = {}
        self.idle: dict[int, EngineRecord] = {}  #: engines without any task
        self._engines = engines
        self._book = book
        self._stacked: dict[int, EngineRecord] = {}  #: engines with balanced tasks queued behind another
        self._open: Scheme = SCHEMES[scheme](random)
        self._dirty: dict[frozenset[int], None] = {}
        self._touched: dict[int, EngineRecord] = {}
        self._looked = 0.0  #: when ``stuck`` last looked

    # --- engines ------------------------------------------------------------------------------------------------

    def join(self, engine: EngineRecord) -> None:
        """An engine may be given tasks from now on."""
        for key in self.lanes:
            if engine.info.id in key:
                engine.lanes[key] = None
        self.refresh(engine)

    def leave(self, engine: EngineRecord) -> list[Task]:
        """An engine is given no more tasks. Returns ready tasks that now lack any engine; they left the lanes."""
        number = engine.info.id
        self._open.close(engine)
        self.idle.pop(number, None)
        self._stacked.pop(number, None)
        self.bodies.forget_engine(number)
        homeless: list[Task] = []
        for key in engine.lanes:
            if not any(other in self._engines for other in key):
                lane = self.lanes.pop(key)
                self._dirty.pop(key, None)
                for client in self.held_back:
                    lane.let_on(client)
                while lane.live:
                    homeless += lane.take(lane.live)
        return homeless

    def refresh(self, engine: EngineRecord) -> None:
        """What an engine holds has changed: look at it before the next task is dealt."""
        self._touched[engine.info.id] = engine

    def settle(self) -> None:
        """Look at the engines that have changed. Kept apart from ``refresh`` so that actions can be performed first."""
        touched, self._touched = self._touched, {}
        engines, stacked, idle = self._engines, self._stacked, self.idle
        for number, engine in touched.items():
            if number not in engines:
                continue
            load, direct = len(engine.balanced), len(engine.direct) - len(engine.paused)
            if load or direct:
                idle.pop(number, None)
            else:
                idle[number] = engine
            if load and load + direct > 1:
                stacked[number] = engine
            else:
                stacked.pop(number, None)
            if self.has_room(engine):
                self._open.open(engine)
                for key in engine.lanes:
                    self._dirty[key] = None
            else:
                self._open.close(engine)

    def has_room(self, engine: EngineRecord) -> bool:
        """Whether the engine may be given another balanced task."""
        if engine.leaving or engine.retiring:
            return False
        if engine.stuck:  # or what it handed back would be given to it again
            return not engine.load
        load = len(engine.balanced)
        if self.hwm is None:
            return not load or (load < PREFETCH_TASKS and self._work(engine) < (AHEAD if load == 1 else PREFETCH))
        return not self.hwm or load < self.hwm

    def _room(self, engine: EngineRecord, cost: float) -> int:
        """How many tasks of that cost an engine with room may be given."""
        load = len(engine.balanced)
        if self.hwm is None:
            return max(1, min(int((PREFETCH - self._work(engine)) / cost), PREFETCH_TASKS - load))
        return self.hwm - load if self.hwm else _UNLIMITED

    def _work(self, engine: EngineRecord) -> float:
        """Seconds that the balanced tasks of an engine are expected to take, by what is known now."""
        of = self.estimates.of
        return sum([of(function) * count for function, count in engine.counts.items()])

    # --- tasks --------------------------------------------------------------------------------------------------

    def add(self, task: Task, *, front: bool = False) -> None:
        """Queue a READY task whose restriction leaves at least one engine."""
        rare = self._book.rare.get(task.id)
        key = None if rare is None else self.restriction(rare)
        if rare is None or key is None:
            if rare is not None:
                rare.lane = None
            self.general.push(task, front=front)
            return
        rare.lane = key
        lane = self.lanes.get(key)
        if lane is None:
            lane = self.lanes[key] = Lane(self.held_back)
            for number in key & self._engines.keys():
                self._engines[number].lanes[key] = None
        lane.push(task, front=front)
        self._dirty[key] = None

    def hold_back(self, client: int) -> None:
        """Give no more tasks of a client to engines: results for it come faster than it reads."""
        if client not in self.held_back:
            for lane in (self.general, *self.lanes.values()):
                lane.hold_back(client)
            self.held_back.add(client)

    def let_on(self, client: int) -> None:
        """A client reads again."""
        if client in self.held_back:
            self.held_back.remove(client)
            for key, lane in (None, self.general), *self.lanes.items():
                lane.let_on(client)
                if key is not None:
                    self._dirty[key] = None

    def drop(self, task: int) -> None:
        """A READY task has ended."""
        self._lane_of(task).drop(task)

    def ahead_of(self, task: int) -> int:
        """How many ready tasks of the same client stand before this one. Linear: for questions only."""
        return self._lane_of(task).ahead_of(task)

    def _lane_of(self, task: int) -> Lane:
        rare = self._book.rare.get(task)
        return self.general if rare is None or rare.lane is None else self.lanes[rare.lane]

    def restriction(self, rare: Rare) -> frozenset[int] | None:
        """The engines a task may go to now, None for any. Engines that failed it are avoided while others are left."""
        allowed = self._allowed(rare)
        if rare.excluded or rare.unsuited:
            fit = self.suited(rare)
            allowed = frozenset(fit - rare.excluded) or frozenset(fit) or allowed
        if rare.near:
            close = rare.near & self._engines.keys()
            return frozenset(close if allowed is None else close & allowed) or allowed
        return allowed

    def suited(self, rare: Rare) -> set[int]:
        """The engines now present that a task may go to and that have not turned out to lack what it needs."""
        allowed, present = self._allowed(rare), self._engines.keys()
        return set(present if allowed is None else allowed & present) - rare.unsuited

    def _allowed(self, rare: Rare) -> frozenset[int] | None:
        if rare.place is None or rare.targets is None:
            return rare.targets if rare.place is None else rare.place
        return rare.targets & rare.place

    # --- dealing ------------------------------------------------------------------------------------------------

    def has_work(self) -> bool:
        """Whether ``deal`` might have something to give."""
        return bool(self.general.live or self.lanes)

    def offer(self, task: Task, now: float, outbox: Outbox) -> bool:
        """Give one plain task to an engine at once if nothing stands before it. Whether it was taken."""
        # The way of a single task while the cluster idles. Bench: round trip.
        if self._touched:
            self.settle()
        if self.general.live or not len(self._open) or task.id >> CLIENT_SHIFT in self.held_back:
            return False
        self._hand(self._open.pick(), [task], now, outbox)
        return True

    def deal(self, now: float, outbox: Outbox) -> None:
        """Give ready tasks to engines with room until one of the two is used up."""
        self.settle()
        while self._dirty:
            dirty, self._dirty = self._dirty, {}
            for key in dirty:
                self._deal_lane(key, now, outbox)
            self.settle()
        general, scheme = self.general, self._open
        while general.live and len(scheme):
            # When there is more than enough for everybody the order of filling does not matter, so each gets its
            # share at once; otherwise the share is one task, and the scheme decides each time.
            self._give(scheme.pick(), general, len(scheme), now, outbox)
            self.settle()

    def _deal_lane(self, key: frozenset[int], now: float, outbox: Outbox) -> None:
        lane = self.lanes.get(key)
        if lane is None:
            return
        members = [self._engines[number] for number in key if number in self._engines]
        while lane.live:
            self.settle()
            with_room = [engine for engine in members if self.has_room(engine)]
            engine = least_loaded(with_room)
            if engine is None:
                return
            self._give(engine, lane, len(with_room), now, outbox)
        if lane.aside:
            return
        del self.lanes[key]
        for engine in members:
            engine.lanes.pop(key, None)
        self._dirty.pop(key, None)

    def _give(self, engine: EngineRecord, lane: Lane, engines: int, now: float, outbox: Outbox) -> None:
        """Give an engine its share of a lane, of which so many could be given one."""
        share = max(1, lane.live // engines)
        cost = self.estimates.of(lane.peek().function)
        if self.hwm is None:
            share = max(share, int(min(SHARE_COST * engines, SHARE_WORTH) / cost))
        self._hand(engine, lane.take(min(share, self._room(engine, cost))), now, outbox)

    def _hand(self, engine: EngineRecord, tasks: list[Task], now: float, outbox: Outbox) -> None:
        """Assign tasks that all call the same function."""
        function = tasks[0].function
        if function and function not in engine.functions:
            self.bodies.introduce(engine, function, outbox)
        batch, frames = outbox.assignment(engine.info.id, direct=False)
        batch.tasks += tasks
        if not engine.balanced:
            engine.progressed = now
            engine.disordered = False
        engine.balanced.update([(task.id, task) for task in tasks])
        engine.counts[function] = engine.counts.get(function, 0) + len(tasks)
        if self._book.frames:
            for task in tasks:
                if task.frames:
                    frames += self._book.frames[task.id]
        self._touched[engine.info.id] = engine

    def ended(self, engine: EngineRecord, function: bytes, count: int, seconds: float | None) -> None:
        """``count`` balanced tasks have left an engine; they ran for ``seconds``, None if they did not run.

        ``refresh`` has to follow.
        """
        left = engine.counts.get(function, 0) - count
        if left > 0:
            engine.counts[function] = left
        else:
            engine.counts.pop(function, None)
        if seconds is not None:
            self.estimates.learn(function, seconds, count)

    # --- stealing -----------------------------------------------------------------------------------------------

    def steal_due(self) -> float | None:
        """When to look for queues stuck behind slow tasks, None while nothing is queued."""
        if not self._stacked:
            return None
        if not self._someone_waits():
            return self._looked + HOLD
        due = [engine.progressed for engine in self._stacked.values() if not engine.asked_back]
        return min(due) + self._patience() if due else None

    def stuck(self, now: float) -> list[tuple[EngineRecord, int]]:
        """Engines that should hand back tasks now, with how many."""
        self._looked = now
        if not self._stacked:
            return []
        # To an idle engine half of a queue goes soon; where none is idle, a queue that does not move goes back whole,
        # so that nothing waits behind a long task while other engines take new tasks.
        waits = self._someone_waits()
        patience = self._patience() if waits else HOLD
        return [
            (
                engine,
                len(engine.balanced) // 2 if waits and engine.load == len(engine.balanced) else len(engine.balanced),
            )
            for engine in self._stacked.values()
            if not engine.asked_back and engine.progressed + patience <= now
        ]

    def _patience(self) -> float:
        """How long a queue may make no progress while an engine is idle, in seconds."""
        return min(STEAL_AFTER * max(1.0, len(self._stacked) / STEALS), HOLD)

    def _someone_waits(self) -> bool:
        return bool(self.idle) and not self.general.live
