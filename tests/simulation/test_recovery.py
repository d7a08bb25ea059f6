"""A durable controller that is killed at any step and started anew, in memory: nothing accepted is lost or doubled.

As in ``test_simulation``, a failure prints one integer; tell its story again with
``ENGINERY_STORY=<integer> pytest tests/simulation/test_recovery.py -k one_story``.
"""

from __future__ import annotations

import os
from random import Random

import pytest

from enginery.testing.work import Work
from enginery.wire import messages as m
from enginery.wire.messages import Dependency, Options, Status
from simulation.test_reconnecting import BrokenStory
from simulation.test_scenarios import begun, cluster, finish, statuses

STORIES = 80
PARTS = 5


class DurableStory(BrokenStory):
    """A story whose controller remembers, and is killed more often."""

    def __init__(self, seed):
        super().__init__(seed)
        simulation, random = self.simulation, self.random
        simulation.patience = random.choice([8.0, 30.0, 30.0])
        simulation.durable = True
        simulation.slowest_save = random.choice([0, 0.003, 0.003, 0.2])
        simulation.crash()
        simulation.restart()

    def steps(self):
        events, weights = super().steps()
        return [*events, self.crash, self.crash_at_any_step], [*weights, 2, 3]

    def crash_at_any_step(self):
        """In the middle of what goes on, between any two of its steps."""
        for _ in range(self.random.randint(0, 60)):
            self.simulation.clock.step()
        self.crash()


def tell(seed, kind=DurableStory):
    try:
        kind(seed).tell()
    except Exception as error:
        pytest.fail(f"ENGINERY_STORY={seed}: {type(error).__name__}: {error}")


def test_one_story():
    DurableStory(int(os.environ.get("ENGINERY_STORY", "0"))).tell()


@pytest.mark.parametrize("part", range(PARTS))
def test_every_story_ends_well(seed, part):
    draw = Random(f"{seed} {part} durable").randrange
    for _ in range(STORIES // PARTS):
        tell(draw(2**31))


def durable(**options):
    simulation, *clients = cluster(patience=30.0, durable=True, **options)
    return simulation, *clients


def submit_some(client):
    ids = [client.submit(Work(0.03), buffers=[b"x"]) for _ in range(20)]
    ids += [client.submit(Work(0.02), options=Options(after=Dependency([ids[at]]), retries=1)) for at in range(5)]
    ids += [client.submit(Work(0.01), options=Options(follow=Dependency([ids[at]]))) for at in range(5)]
    ids += client.request([0, 1], Work(0.01), buffers=[b"y"])
    client.introduce(b"f")
    ids += [client.submit(Work(0.01), function=b"f") for _ in range(5)]
    client.pump()
    return ids


@pytest.mark.parametrize("steps", range(0, 400, 7))
def test_killed_at_any_step_everything_is_done_once(steps):
    simulation, client = durable(engines=2)
    ids = submit_some(client)
    for _ in range(steps):
        simulation.clock.step()
    simulation.crash()
    simulation.run(0.01 * (steps % 3))
    simulation.restart()
    finish(simulation)
    assert set(statuses(client, ids)) == {Status.OK}
    assert {begun(simulation, task) for task in ids} == {1}


def test_killed_again_and_again():
    simulation, client = durable(engines=3)
    ids = []
    for _ in range(30):
        ids += submit_some(client)
        simulation.run(0.2)
        simulation.crash()
        simulation.run(0.05)
        simulation.restart()
    finish(simulation)
    assert set(statuses(client, ids)) == {Status.OK}
    assert {begun(simulation, task) for task in ids} == {1}


def test_what_is_acknowledged_outlives_everybody_but_the_controllers_disk():
    simulation, client = durable(engines=2)
    ids = [client.submit(Work(5.0), options=Options(retries=1)) for _ in range(6)]
    client.pump()
    simulation.run(1)
    assert not len(client.requests.mail)
    simulation.crash()
    for engine in simulation.engines:
        engine.die()
    simulation.run(1)
    simulation.restart()
    simulation.add_engines(2)
    finish(simulation)
    assert set(statuses(client, ids)) == {Status.OK}


def test_running_tasks_run_on_and_their_results_are_delivered():
    simulation, client = durable(engines=1)
    task = client.submit(Work(3.0))
    client.pump()
    simulation.run(1)
    simulation.crash()
    simulation.run(10)
    assert simulation.history.of(task, "ended")
    assert not client.results
    simulation.restart()
    finish(simulation)
    assert statuses(client, [task]) == [Status.OK]
    assert begun(simulation, task) == 1


def test_a_task_without_retries_whose_engine_died_meanwhile_is_not_run_twice():
    simulation, client = durable(engines=2, hwm=1)
    lost, safe = client.submit(Work(50.0)), client.submit(Work(50.0), options=Options(retries=1))
    client.pump()
    simulation.run(1)
    simulation.crash()
    simulation.engines[0].die()
    simulation.engines[1].die()
    simulation.run(1)
    simulation.restart()
    simulation.add_engine()
    finish(simulation)
    assert statuses(client, [lost, safe]) == [Status.LOST, Status.OK]
    assert "killed by SIGKILL" in client.results[lost].fault.evalue
    assert [begun(simulation, task) for task in (lost, safe)] == [1, 2]


def test_attempts_are_remembered():
    simulation, client = durable(engines=3)
    task = client.submit(Work(0.5, ("raise", "raise", "ok")), options=Options(retries=2))
    client.pump()
    simulation.run(0.7)
    simulation.crash()
    simulation.restart()
    finish(simulation)
    assert statuses(client, [task]) == [Status.OK]
    events = simulation.history.of(task, "begun")
    assert len({event.who for event in events}) == 3


def test_results_for_a_client_that_is_away_wait_for_it():
    simulation, client = durable(engines=1)
    ids = [client.submit(Work(0.1)) for _ in range(5)]
    client.pump()
    simulation.run(0.05)
    client._redial = lambda: None  # it does not come back for a while
    client.connection.break_both_ways()
    simulation.run(3)
    assert not client.results
    simulation.crash()
    simulation.restart()
    simulation.run(2)
    del client._redial
    client._redial()
    finish(simulation)
    assert set(statuses(client, ids)) == {Status.OK}
    assert {begun(simulation, task) for task in ids} == {1}


def test_what_had_come_and_was_not_saved_is_sent_again_over_the_next_connection():
    """A connection breaks and another one is made, and only then the controller is killed: before it has saved anything."""
    simulation, client = durable(engines=2)
    simulation._place._slowest = 1e9
    ids = submit_some(client)
    simulation.run(0.1)
    for peer in (client, *simulation.engines):
        peer.connection.break_both_ways()
    simulation.run(1)
    assert len(client.requests.mail)
    simulation.crash()
    simulation.restart()
    finish(simulation)
    assert set(statuses(client, ids)) == {Status.OK}
    assert {begun(simulation, task) for task in ids} == {1}


def test_accepted_is_what_was_saved():
    simulation, client = durable(engines=0)
    simulation.slowest_save = 0.2
    simulation.crash()
    simulation.restart()
    simulation.run(5)
    first = [client.submit(Work()) for _ in range(3)]
    assert client.requests.unaccepted(first) == set(first)
    client.pump()
    simulation.run(0.0001)
    assert client.requests.unaccepted(first) == set(first)
    simulation.run(5)
    second = client.submit(Work())
    assert client.requests.unaccepted([*first, second]) == {second}
    simulation.crash()
    simulation.restart()
    simulation.run(5)
    assert not client.requests.unaccepted([*first, second])
    simulation.add_engine()
    finish(simulation)
    assert set(statuses(client, [*first, second])) == {Status.OK}


def test_tasks_that_were_taken_back_stay_so():
    simulation, client = durable(engines=1, hwm=1)
    ids = [client.submit(Work(1.0)) for _ in range(5)]
    client.pump()
    simulation.run(0.5)
    client.abort(ids[2:])
    simulation.run(0.1)
    simulation.crash()
    simulation.restart()
    finish(simulation)
    assert statuses(client, ids) == [Status.OK] * 2 + [Status.ABORTED] * 3


def test_what_was_written_can_be_written_anew():
    """Everything a scheduler knows is the same after it was written down and recalled."""
    simulation, client = durable(engines=2, hwm=2)
    submit_some(client)
    simulation.run(0.05)
    before = {type(entry) for entry, _ in simulation._server.written()}
    assert m.Task not in before
    simulation.crash()
    simulation.restart()
    after = {type(entry) for entry, _ in simulation._server.written()}
    assert after == before
