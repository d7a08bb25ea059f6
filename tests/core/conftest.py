"""A scheduler at work, for tests that look at what it asks its shell to do."""

from __future__ import annotations

from random import Random

import pytest

from enginery.core.actions import To
from enginery.core.invariants import check, check_dealt
from enginery.core.scheduler import Scheduler
from enginery.wire import messages as m


class Desk:
    """A scheduler, the time, and what was asked for in the last turn."""

    def __init__(self, engines=0, **options):
        self.scheduler = Scheduler(random=Random(0), **options)
        self.now = 100.0
        self.client = self.join_client()
        self.engines = [self.join() for _ in range(engines)]
        self.actions = []
        self.turn()

    def join_client(self):
        return self.scheduler.client_joined("someone", "token", self.now)

    def join(self, wanted=-1, **place):
        return self.scheduler.engine_joined("uuid", 7, "node", wanted, self.now, **place)

    def ids(self, count, client=None):
        first = (client or self.client).highest
        return list(range(first, first + count))

    def submit(self, count=1, *, function=b"", client=None, frames=(), **options):
        """Submit balanced tasks that all have these options; returns their ids."""
        client = client or self.client
        special = m.Options(**options) if options else None
        ids = self.ids(count, client)
        tasks = [m.Task(number, 0, function, b"", len(frames), special) for number in ids]
        self.scheduler.tasks_submitted(client, tasks, list(frames) * count, self.now)
        check(self.scheduler)
        return ids

    def task(self, **options):
        """Submit one task; returns its id."""
        return self.submit(**options)[0]

    def request(self, targets, *, function=b"", client=None, frames=()):
        client = client or self.client
        ids = self.ids(len(targets), client)
        request = m.Request(targets, m.Task(ids[0], 0, function, b"", len(frames)))
        self.scheduler.requests_submitted(client, [request], list(frames))
        check(self.scheduler)
        return ids

    def turn(self, seconds=0.0):
        """Let time pass and have everything performed that the scheduler asks for."""
        if seconds:
            self.now += seconds
            self.scheduler.tick(self.now)
        self.actions = self.scheduler.take_actions(self.now)
        self.scheduler.settle()
        check(self.scheduler)
        check_dealt(self.scheduler)
        return self

    def finish(self, engine, *ids, seconds=0.001, fault=None, status=None, frames=()):
        """An engine reports these tasks as ended; then a turn."""
        status = status if status is not None else m.Status.ERROR if fault else m.Status.OK
        results = [m.Result(number, status, b"", len(frames), 1.0, 1.0 + seconds, fault) for number in ids]
        self.scheduler.results_arrived(engine, results, list(frames) * len(ids), self.now)
        check(self.scheduler)
        return self.turn()

    def fail(self, engine, *ids, kind="remote", ename="ValueError"):
        return self.finish(engine, *ids, fault=m.Fault(kind, ename, "said so"))

    def leave(self, engine, **known):
        self.scheduler.engine_left(engine.info.id, "killed by SIGKILL", **known)
        check(self.scheduler)
        return self.turn()

    # --- what was asked for in the last turn ----------------------------------------------------------------------

    def sent(self, kind, number=None, to=None):
        return [
            action.message
            for action in self.actions
            if isinstance(action.message, kind) and number in {None, action.number} and (to is None or action.to == to)
        ]

    def assigned(self, engine):
        """Ids of the tasks an engine was sent."""
        return [task.id for assign in self.sent(m.Assign, engine.info.id, To.ENGINE) for task in assign.tasks]

    def results(self, client=None):
        """Results a client was sent, by task."""
        number = (client or self.client).number
        return {result.id: result for message in self.sent(m.Results, number) for result in message.results}

    def kinds(self, client=None):
        """How the tasks ended that a client was told of: the fault's kind, or None."""
        return {number: result.fault and result.fault.kind for number, result in self.results(client).items()}


@pytest.fixture
def desk():
    """Makes desks: ``desk(engines=2, hwm=1)``."""
    return Desk
