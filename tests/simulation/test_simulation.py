"""Whole clusters in memory: whatever goes wrong, each accepted task ends in exactly one reply.

``STORIES`` random ones are told in each run, from the run's seed. A failure prints one integer; tell its story again
with ``ENGINERY_STORY=<integer> pytest tests/simulation -k one_story``.
"""

from __future__ import annotations

import os
from random import Random

import pytest

from enginery.core import invariants
from enginery.core.placement import SCHEMES
from enginery.testing.faults import NAMES, Faults
from enginery.testing.simulation import Simulation
from enginery.testing.work import Work
from enginery.wire.messages import Dependency, Options

STORIES = 200
PARTS = 10
BATCH = 15
#: Sets of engines that may be needed to bring a story to an end: some tasks kill each engine, or hang.
ROUNDS = 100


class Story:
    """A random course of events."""

    def __init__(self, seed):
        self.random = random = Random(seed)
        chances = {name: random.choice([0, 0, 0.002, 0.02]) for name in NAMES}
        if random.random() < 0.3:
            chances = {}
        faults = Faults(seed, **chances, latency=random.choice([(0, 0), (0.0001, 0.001), (0.001, 0.05)]))
        self.simulation = Simulation(
            seed, faults=faults, scheme=random.choice(["leastload", *SCHEMES]), hwm=random.choice([None, None, 0, 1, 3])
        )
        self.ids = {}

    def tell(self):
        simulation, random = self.simulation, self.random
        simulation.add_engines(random.randint(0, 4))
        self.join()
        for _ in range(random.randint(5, 25)):
            random.choices(*self.steps())[0]()
            simulation.run(random.choice([0, 0.001, 0.01, 0.1, 1]))
            invariants.check(simulation.scheduler)
        self.end()
        invariants.check(simulation.scheduler)
        simulation.history.check()

    def end(self):
        """Nothing goes wrong any more; what hangs is put to an end."""
        simulation = self.simulation
        simulation.faults.stop()
        simulation.run(8)  # who is cut off is noticed
        for _ in range(ROUNDS):
            if not simulation.scheduler.book.tasks:
                break
            for engine in simulation.engines:
                if engine.is_alive:
                    engine.die()
            simulation.add_engines(4)
            simulation.run(5)
        simulation.run(15)
        assert not simulation.scheduler.book.tasks, {
            hex(task): simulation.history.story(task) for task in simulation.scheduler.book.tasks
        }
        assert simulation.is_quiet(), [
            (hex(task), simulation.history.story(task))
            for client in simulation.clients
            if client.is_alive
            for task in client.requests.outstanding
        ]

    def steps(self):
        """What may happen, and how often."""
        events = [self.submit, self.request, self.abort, self.join, self.leave, self.add, self.kill]
        return events, [10, 4, 4, 1, 1, 3, 2]

    # --- events -------------------------------------------------------------------------------------------------

    def clients(self):
        return [client for client in self.simulation.clients if client.is_alive and client.number >= 0]

    def join(self):
        client = self.simulation.add_client()
        self.ids[client] = []
        self.simulation.run(0.2)

    def leave(self):
        if len(self.simulation.clients) > 1 and (clients := self.clients()):
            client = self.random.choice(clients)
            self.random.choice([client.leave, client.vanish])()

    def add(self):
        self.simulation.add_engine(self.random.choice([-1, -1, 2, 7]))

    def kill(self):
        if engines := [engine for engine in self.simulation.engines if engine.is_alive]:
            self.random.choice(engines).die(self.random.choice([-9, -11, 1, 0]))

    def submit(self):
        random = self.random
        for client in self.clients():
            mine = self.ids[client]
            for _ in range(random.randint(1, BATCH)):
                function = b""
                if random.random() < 0.3:
                    function = random.choice([b"f", b"g", b"h"])
                    if random.random() < 0.8:
                        client.introduce(function)
                buffers = [b"x" * random.randint(1, 9) for _ in range(random.choice([0, 0, 0, 1, 2]))]
                options = self.options(mine) if random.random() < 0.4 else None
                mine.append(client.submit(self.work(), function=function, buffers=buffers, options=options))
            client.pump()

    def request(self):
        random = self.random
        for client in self.clients():
            for _ in range(random.randint(1, 4)):
                known = [engine.number for engine in self.simulation.engines]
                targets = [random.choice([*known, 99]) for _ in range(random.randint(1, 3))]
                function = random.choice([b"", b"", b"f", b"k"])
                if function:
                    client.introduce(function)
                self.ids[client] += client.request(targets, self.work(), function=function, buffers=[b"b"])
            client.pump()

    def abort(self):
        for client in self.clients():
            mine = self.ids[client]
            some = self.random.sample(mine, min(len(mine), self.random.randint(0, 8)))
            client.abort([*some, 5], interrupt=self.random.random() < 0.6)

    def work(self):
        random = self.random
        seconds = random.choice([0, 0.0001, 0.0001, 0.001, 0.02, 0.5])
        endings = ["ok"]
        if random.random() < 0.3:
            endings = random.choices(["ok", "raise", "unmet", "die", "hang"], [4, 4, 3, 1, 1], k=3)
        return Work(seconds, tuple(endings), heedless=random.random() < 0.1)

    def options(self, ids):
        random = self.random
        dependency = None
        if ids and random.random() < 0.6:
            success = random.random() < 0.8
            dependency = Dependency(
                random.choices(ids, k=random.randint(1, 4)),
                all=random.random() < 0.6,
                success=success,
                failure=not success or random.random() < 0.3,
            )
        return Options(
            targets=random.sample(range(5), random.randint(0, 3)) if random.random() < 0.2 else None,
            after=dependency if random.random() < 0.7 else None,
            follow=dependency if random.random() < 0.3 else None,
            timeout=random.choice([None, None, 0.0, 0.05, 5.0]),
            retries=random.choice([0, 0, 1, 2, 7]),
            priority=random.choice([0, 0, 0, -1, 3]),
        )


def tell(seed):
    try:
        Story(seed).tell()
    except Exception as error:
        pytest.fail(f"ENGINERY_STORY={seed}: {type(error).__name__}: {error}")


def test_one_story():
    Story(int(os.environ.get("ENGINERY_STORY", "0"))).tell()


def test_a_task_that_ran_while_an_earlier_one_waited_for_its_function_runs_once():
    """The story that told of it: its engine died after both, and the order in which it had begun them was not the sent one."""
    Story(2090550301).tell()


@pytest.mark.parametrize("part", range(PARTS))
def test_every_story_ends_well(seed, part):
    draw = Random(f"{seed} {part}").randrange
    for _ in range(STORIES // PARTS):
        tell(draw(2**31))
