"""Connections that are lost and made anew, in memory: nothing is lost by it, and nothing comes twice.

As in ``test_simulation``, a failure prints one integer; tell its story again with
``ENGINERY_STORY=<integer> pytest tests/simulation/test_reconnecting.py -k one_story``.
"""

from __future__ import annotations

import os
from random import Random

import pytest

from enginery.testing.work import Work
from enginery.wire.messages import Options, Status
from simulation.test_scenarios import begun, cluster, finish, statuses
from simulation.test_simulation import Story

STORIES = 60
PARTS = 5


class BrokenStory(Story):
    """A story in which connections break, and the controller is killed and started anew."""

    def __init__(self, seed):
        super().__init__(seed)
        simulation = self.simulation
        simulation.patience = self.random.choice([1.0, 8.0, 30.0, 30.0])
        # What arrives twice on one connection is no fault of any transport in use, and would be counted twice.
        simulation.faults.probabilities["repeat"] = 0.0
        simulation.crash()
        simulation.restart()

    def steps(self):
        events, weights = super().steps()
        return [*events, self.cut, self.crash], [*weights, 6, 1.5]

    def cut(self):
        simulation, random = self.simulation, self.random
        peers = [peer for peer in (*simulation.engines, *simulation.clients) if peer.is_alive]
        for peer in random.sample(peers, min(len(peers), random.randint(1, 3))):
            random.choice([peer.connection.cut, peer.connection.break_both_ways, peer.connection.break_both_ways])()

    def crash(self):
        simulation, random = self.simulation, self.random
        simulation.crash(silently=random.random() < 0.2)
        simulation.run(random.choice([0, 0, 0.1, 1, 5]))
        simulation.restart()

    def end(self):
        self.simulation.faults.stop()
        self.simulation.run(60)  # who is cut off is noticed, comes back, or is given up
        super().end()


def tell(seed):
    try:
        BrokenStory(seed).tell()
    except Exception as error:
        pytest.fail(f"ENGINERY_STORY={seed}: {type(error).__name__}: {error}")


def test_one_story():
    BrokenStory(int(os.environ.get("ENGINERY_STORY", "0"))).tell()


@pytest.mark.parametrize("part", range(PARTS))
def test_every_story_ends_well(seed, part):
    draw = Random(f"{seed} {part} broken").randrange
    for _ in range(STORIES // PARTS):
        tell(draw(2**31))


def test_nothing_is_lost_or_doubled_when_every_connection_breaks_again_and_again():
    simulation, client = cluster(engines=3, patience=30.0)
    ids = []
    for at in range(200):
        ids += [client.submit(Work(0.004), buffers=[b"x"]) for _ in range(5)]
        ids += client.request([0, 1, 2], Work(0.001))
        client.pump()
        simulation.run(0.013)
        peer = (client, *simulation.engines)[at % 4]
        peer.connection.break_both_ways()
    finish(simulation)
    assert set(statuses(client, ids)) == {Status.OK}
    assert {begun(simulation, task) for task in ids} == {1}
    assert all(client.outputs[task] == [f"{task} ended\n"] for task in ids)


def test_an_engine_that_does_not_come_back_is_given_up_after_the_stated_time():
    simulation, client = cluster(engines=1, patience=5.0)
    lost, retried = client.submit(Work(60.0)), client.submit(Work(60.0), options=Options(retries=1))
    client.pump()
    simulation.run(1)
    engine = simulation.engines[0]
    engine.is_alive = False  # its host is gone, and with it its nanny
    engine.connection.break_both_ways()
    simulation.nanny.connection.cut()
    simulation.run(4)
    assert not client.results
    simulation.run(2)
    assert client.results[lost].fault.kind == "EngineError"
    simulation.add_engine()
    simulation.run_until(lambda: retried in client.results)
    assert client.results[retried].status == Status.OK


def test_an_engine_that_was_given_up_is_turned_away():
    simulation, client = cluster(engines=1, patience=5.0)
    task = client.submit(Work(100.0))
    client.pump()
    simulation.run(1)
    engine = simulation.engines[0]
    simulation.nanny.connection.cut()
    engine.member.come_back = lambda: None  # it takes too long to say who it is
    engine.connection.break_both_ways()
    simulation.run(12)
    assert client.results[task].status == Status.LOST
    assert not simulation.scheduler.engines


def test_a_restarted_controller_that_knows_nothing_says_so_and_works():
    simulation, client = cluster(engines=2, patience=30.0)
    ids = [client.submit(Work(1.0)) for _ in range(6)]
    client.pump()
    simulation.run(1.5)
    simulation.crash()
    simulation.run(0.05)
    later = client.submit(Work(0.1))
    client.pump()
    simulation.run(1)
    simulation.restart()
    finish(simulation)
    done = [task for task in ids if client.results[task].status == Status.OK]
    lost = [task for task in ids if client.results[task].status == Status.LOST]
    assert len(done) == 2
    assert len(lost) == 4
    assert client.results[lost[0]].fault.kind == "ConnectionLost"
    assert "restarted" in client.results[lost[0]].fault.evalue
    assert statuses(client, [later]) == [Status.OK]
    assert sorted(simulation.scheduler.engines) == [0, 1]
    assert {engine.number for engine in simulation.engines} == {0, 1}
    new = [client.submit(Work(0.1)) for _ in range(4)]
    client.pump()
    finish(simulation)
    assert set(statuses(client, new)) == {Status.OK}


def test_clients_of_several_controllers_are_told_apart():
    simulation, first = cluster(engines=1, patience=30.0)
    simulation.crash()
    simulation.restart()
    second = simulation.add_client()
    simulation.run(2)
    simulation.crash()
    simulation.restart()
    third = simulation.add_client()
    simulation.run(2)
    assert len({client.number for client in (first, second, third)}) == 3
    ids = [(client, client.submit()) for client in (first, second, third)]
    for client, _ in ids:
        client.pump()
    finish(simulation)
    assert all(client.results[task].status == Status.OK for client, task in ids)


def test_a_stale_controller_is_told_apart():
    simulation, client = cluster(engines=1, patience=30.0)
    simulation.crash()
    simulation.epoch = -1  # its connection file was restored from an older copy
    simulation.restart()
    simulation.run(2)
    assert not client.is_alive
    assert "later controller" in client.requests.refused.reason
