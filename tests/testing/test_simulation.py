"""The simulation says when it is not used as meant."""

from __future__ import annotations

import pytest

from enginery.testing.simulation import Simulation
from enginery.testing.work import Work, outcome, pack, unpack
from enginery.wire.messages import Deliver, Restart, Status


def test_a_client_has_to_be_welcome_first():
    client = Simulation().add_client()
    with pytest.raises(RuntimeError, match="not welcome yet"):
        client.submit()


def test_waiting_has_an_end_that_names_the_seed():
    with pytest.raises(AssertionError, match=r"seed 42: not within 3 s"):
        Simulation(42).run_until(lambda: False, patience=3.0)


def test_it_shows_itself():
    simulation = Simulation(1)
    engine, client = simulation.add_engine(), simulation.add_client()
    simulation.run(1)
    assert "engines=1 unfinished=0" in repr(simulation)
    assert repr(engine) == "<SimulatedEngine 0 idle>"
    assert repr(client) == "<SimulatedClient 1 'client-0' outstanding=0>"
    engine.die()
    assert repr(engine) == "<SimulatedEngine 0 dead>"


def test_work_says_how_each_attempt_ends():
    work = unpack(pack(Work(0.5, ("raise", "ok"))))
    assert [work.ending(attempt) for attempt in range(3)] == ["raise", "ok", "ok"]
    assert outcome("ok") == (Status.OK, None)
    assert outcome("unmet")[1].kind == "UnmetDependency"


def test_the_nanny_delivers_signals_and_restarts():
    simulation = Simulation()
    first, second = simulation.add_engines(2)
    client = simulation.add_client()
    simulation.run(1)
    hanging = client.request([0], Work(endings=("hang",)))
    client.pump()
    simulation.run(1)
    simulation.nanny.obey(Deliver(first.uuid, "SIGINT"))
    simulation.run(1)
    assert client.results[hanging[0]].fault.kind == "remote"
    simulation.nanny.obey(Deliver(first.uuid, 9))
    simulation.nanny.obey(Restart(second.uuid))
    simulation.nanny.obey(Restart("unknown"))
    simulation.run(1)
    assert [engine.is_alive for engine in simulation.engines] == [False, False, True]
    assert list(simulation.scheduler.engines) == [2]
