"""Clusters in memory, one thing going wrong at a time."""

from __future__ import annotations

import heapq
from random import Random

import pytest

from enginery.testing.faults import Faults
from enginery.testing.simulation import Simulation
from enginery.testing.work import Work
from enginery.wire import messages as m
from enginery.wire.messages import Dependency, Options, Status


def cluster(engines=0, clients=1, **options):
    """A simulation in which everybody has arrived."""
    simulation = Simulation(**options)
    simulation.add_engines(engines)
    for _ in range(clients):
        simulation.add_client()
    simulation.run_until(lambda: all(peer.number >= 0 for peer in (*simulation.engines, *simulation.clients)))
    return simulation, *simulation.clients


def statuses(client, ids):
    return [Status(client.results[task].status) for task in ids]


def finish(simulation):
    simulation.run_until(simulation.is_quiet)
    simulation.history.check()


def begun(simulation, task):
    return len(simulation.history.of(task, "begun"))


# --- nothing goes wrong -------------------------------------------------------------------------------------------


def test_tasks_run_and_results_come():
    simulation, client = cluster(engines=3)
    ids = [client.submit(Work(0.01), buffers=[b"x", b"yy"]) for _ in range(50)]
    ids += client.request([0, 2, 1], buffers=[b"z"])
    client.pump()
    finish(simulation)
    assert set(statuses(client, ids)) == {Status.OK}
    assert client.outputs[ids[0]] == [f"{ids[0]} ended\n"]


def test_equal_seeds_tell_equal_histories():
    histories = []
    for _ in range(2):
        faults = Faults(7, delay=0.1, reorder=0.1, repeat=0.05, kill=0.02)
        simulation, client = cluster(engines=3, seed=7, faults=faults, scheme="weighted")
        for _ in range(60):
            client.submit(Work(0.01), options=Options(retries=2))
        client.pump()
        simulation.run(5)
        histories.append(simulation.history.events)
    assert histories[0] == histories[1]


@pytest.mark.parametrize("seed", range(3))
def test_uneven_tasks_are_balanced(seed):
    """400 heavy-tailed tasks on four engines take no longer than list scheduling, which knows no durations either."""
    random = Random(seed)
    seconds = [min(4.0, 0.02 * random.paretovariate(1.1)) for _ in range(400)]
    simulation, client = cluster(engines=4, faults=Faults(latency=(0.0001, 0.0003)))
    began = simulation.clock.now
    for each in seconds:
        client.submit(Work(each))
    client.pump()
    finish(simulation)
    engines = [0.0] * 4
    for each in seconds:
        heapq.heapreplace(engines, engines[0] + each)
    assert simulation.clock.now - began <= 1.03 * max(engines)


def test_an_engine_busy_with_a_long_task_holds_no_short_ones_back():
    simulation, client = cluster(engines=2)
    warm = [client.submit(Work(0.0001)) for _ in range(200)]
    client.pump()
    finish(simulation)
    long = client.submit(Work(3600.0))
    short = [client.submit(Work(0.0001)) for _ in range(500)]
    client.pump()
    simulation.run_until(lambda: all(task in client.results for task in short), patience=1.0)
    assert long not in client.results
    assert set(statuses(client, [*warm, *short])) == {Status.OK}


def test_a_second_client_is_served_while_the_first_has_a_long_queue():
    simulation, first, second = cluster(engines=2, clients=2)
    for _ in range(20_000):
        first.submit(Work(0.001))
    first.pump()
    simulation.run(0.1)
    single = second.submit(Work(0.001))
    second.pump()
    simulation.run_until(lambda: single in second.results, patience=0.05)


# --- messages -----------------------------------------------------------------------------------------------------


def test_submissions_that_come_twice_run_once():
    simulation, client = cluster(engines=2, faults=Faults(repeat=1.0))
    ids = [client.submit(Work(0.01), buffers=[b"x"]) for _ in range(30)] + client.request([0, 1])
    client.pump()
    more = client.submit(Work(0.01), options=Options(after=Dependency(ids[:3]), retries=1))
    client.pump()
    finish(simulation)
    assert [begun(simulation, task) for task in (*ids, more)] == [1] * 33
    assert simulation.scheduler.counts["stale"] == 33
    assert simulation.faults.counts["repeat"]


def test_long_delays_change_nothing_but_the_time():
    simulation, client = cluster(engines=3, faults=Faults(delay=0.5, reorder=0.5, long_delay=2.0))
    for engine in range(3):
        for _ in range(10):
            client.request([engine], Work(0.001))
            client.pump()
    finish(simulation)
    assert set(statuses(client, client.results)) == {Status.OK}


def test_an_engine_that_is_cut_off_is_noticed_by_its_silence():
    simulation, client = cluster(engines=2)
    ids = [client.submit(Work(2.0), options=Options(retries=1)) for _ in range(4)]
    client.pump()
    simulation.run(0.1)
    simulation.engines[0].connection.is_cut = True
    finish(simulation)
    assert set(statuses(client, ids)) == {Status.OK}
    assert not simulation.engines[0].is_alive or simulation.clock.now < 10


def test_a_client_that_is_cut_off_is_forgotten_and_its_tasks_run_on():
    simulation, first, second = cluster(engines=1, clients=2)
    ids = [first.submit(Work(1.0)) for _ in range(3)]
    first.pump()
    simulation.run(0.1)
    first.connection.is_cut = True
    mine = second.submit(Work(0.1))
    second.pump()
    finish(simulation)
    simulation.run(20)
    assert [begun(simulation, task) for task in ids] == [1, 1, 1]
    assert mine in second.results
    assert not simulation.scheduler.book.tasks
    assert first.number not in simulation.scheduler.clients


@pytest.mark.parametrize("port", ["clients", "engines"])
def test_garbage_at_a_port_harms_nobody(port):
    simulation, client = cluster(engines=1)
    random = Random(1)
    heard = []
    for _ in range(50):
        stranger = simulation.connect(port, lambda header, _frames: heard.append(header), lambda: None)
        stranger.up.send(random.randbytes(random.randrange(60)), [b"frame"])
    for message in (m.Ping(1), m.Bye(), m.Submit([]) if port == "clients" else m.Done([])):
        stranger = simulation.connect(port, lambda header, _frames: heard.append(header), lambda: None)
        stranger.up.send(m.encode(message), [])
    simulation.run(1)
    assert {type(m.decode_to_client(header)) for header in heard} == {m.Refused}
    client.submit()
    client.pump()
    finish(simulation)


# --- engines that end ---------------------------------------------------------------------------------------------


def test_tasks_with_retries_outlive_their_engines():
    simulation, client = cluster(engines=4)
    ids = [client.submit(Work(0.05), options=Options(retries=1)) for _ in range(40)]
    client.pump()
    simulation.run(0.12)
    simulation.engines[0].die()
    simulation.engines[1].die(-11)
    finish(simulation)
    assert set(statuses(client, ids)) == {Status.OK}
    assert max(begun(simulation, task) for task in ids) == 2


def test_only_what_a_dead_engine_had_begun_is_lost():
    simulation, client = cluster(engines=1, hwm=10)
    ids = [client.submit(Work(1.0)) for _ in range(10)]
    client.pump()
    simulation.run(2.5)
    simulation.engines[0].die()
    simulation.add_engine()
    finish(simulation)
    assert statuses(client, ids) == [Status.OK] * 2 + [Status.LOST] + [Status.OK] * 7
    fault = client.results[ids[2]].fault
    assert fault.kind == "EngineError"
    assert "killed by SIGKILL" in fault.evalue
    assert "pid 1000" in fault.evalue


def test_an_engine_that_leaves_in_good_order_costs_no_task():
    simulation, client = cluster(engines=1, hwm=10)
    ids = [client.submit(Work(1.0), options=Options(retries=int(at == 0))) for at in range(10)]
    client.pump()
    simulation.run(0.5)
    simulation.engines[0].leave("it was asked to")
    simulation.add_engine()
    finish(simulation)
    assert statuses(client, ids) == [Status.OK] * 10


def test_the_report_of_an_end_may_overtake_the_hello():
    simulation, client = cluster()
    simulation.faults.latency = (0.5, 0.5)
    engine = simulation.add_engine()
    simulation.faults.latency = (0.0, 0.0)
    simulation.run(0.1)
    engine.die()
    simulation.run(2)
    assert not simulation.scheduler.engines
    ids = [client.submit(Work(0.1)) for _ in range(3)]
    client.pump()
    simulation.add_engine()
    finish(simulation)
    assert set(statuses(client, ids)) == {Status.OK}


def test_the_report_of_an_end_may_overtake_the_last_results():
    simulation, client = cluster(engines=1, hwm=5)
    ids = [client.submit(Work(1.0), options=Options(retries=2)) for _ in range(5)]
    client.pump()
    simulation.run(1.5)
    simulation.engines[0].connection.up.hold(10.0)
    simulation.run(1.0)  # the second result is on its way, and will be for long
    simulation.engines[0].die()
    simulation.add_engine()
    finish(simulation)
    assert set(statuses(client, ids)) == {Status.OK}
    assert [begun(simulation, task) for task in ids][:2] == [1, 2]


def test_a_task_that_kills_its_engines_is_given_up():
    simulation, client = cluster(engines=5)
    poison = client.submit(Work(0.01, ("die",)), options=Options(retries=100))
    others = [client.submit(Work(0.1), options=Options(retries=3)) for _ in range(10)]
    client.pump()
    finish(simulation)
    assert begun(simulation, poison) == 3
    assert client.results[poison].fault.evalue.count("killed by SIGKILL") == 3
    assert set(statuses(client, others)) == {Status.OK}


# --- tasks that do not end well -----------------------------------------------------------------------------------


def test_a_task_that_hangs_can_be_interrupted():
    simulation, client = cluster(engines=1)
    hanging, after = client.submit(Work(endings=("hang",))), client.submit()
    client.pump()
    simulation.run(5)
    client.abort([hanging])
    simulation.run(5)
    assert not client.results
    client.abort([hanging], interrupt=True)
    finish(simulation)
    assert statuses(client, [hanging, after]) == [Status.ABORTED, Status.OK]


def test_aborted_tasks_never_begin():
    simulation, client = cluster(engines=2, hwm=3)
    ids = [client.submit(Work(1.0)) for _ in range(20)]
    ids += client.request([0, 0, 0], Work(1.0))
    client.pump()
    simulation.run(0.5)
    client.abort(ids)
    finish(simulation)
    assert all(begun(simulation, task) == (client.results[task].status == Status.OK) for task in ids)
    assert sum(begun(simulation, task) for task in ids) <= 4


def test_a_failing_task_is_tried_on_each_engine_and_ends_with_its_error():
    simulation, client = cluster(engines=3)
    task = client.submit(Work(0.01, ("raise",)), options=Options(retries=7))
    client.pump()
    finish(simulation)
    events = simulation.history.of(task, "begun")
    assert len(events) == 8
    assert {event.who for event in events[:3]} == {0, 1, 2}
    assert client.results[task].fault.kind == "remote"


def test_a_requirement_that_one_engine_meets_is_found():
    simulation, client = cluster(engines=3)
    task = client.submit(Work(0.01, ("unmet", "unmet", "ok")))
    client.pump()
    finish(simulation)
    assert len({event.who for event in simulation.history.of(task, "begun")}) == 3
    assert statuses(client, [task]) == [Status.OK]


# --- functions ----------------------------------------------------------------------------------------------------


def test_functions_that_the_controller_has_forgotten_are_fetched():
    simulation, client = cluster(engines=2)
    simulation.scheduler.dealer.bodies.budget = 1
    for name in (b"f", b"g", b"h"):
        client.introduce(name)
    ids = [client.submit(function=name) for name in (b"f", b"g", b"h", b"f")]
    ids += client.request([0, 1], function=b"g")
    client.pump()
    finish(simulation)
    assert set(statuses(client, ids)) == {Status.OK}


def test_functions_that_nobody_has_end_their_tasks():
    simulation, client = cluster(engines=1)
    lost = [client.submit(function=b"f") for _ in range(3)]
    fine = client.submit()
    client.pump()
    finish(simulation)
    assert set(statuses(client, lost)) == {Status.UNRUNNABLE}
    assert statuses(client, [fine]) == [Status.OK]


def test_a_client_that_leaves_without_giving_its_function_blocks_nobody():
    simulation, first, second = cluster(engines=1, clients=2, hwm=1)
    first.submit(function=b"f")
    first.pump()
    first.connection.down.is_open = False  # it never hears what it is asked
    simulation.run(0.5)
    task = second.submit()
    second.pump()
    finish(simulation)
    assert statuses(second, [task]) == [Status.OK]


def test_requests_keep_their_order_while_a_function_is_fetched():
    simulation, client = cluster(engines=1)
    simulation.scheduler.dealer.bodies.budget = 1
    client.introduce(b"f")
    client.introduce(b"g")
    client.pump()
    ids = client.request([0], function=b"f") + client.request([0]) + client.request([0], function=b"g")
    client.pump()
    finish(simulation)
    assert set(statuses(client, ids)) == {Status.OK}


def test_a_task_that_waits_for_its_function_can_be_aborted():
    simulation, client = cluster(engines=1, hwm=1)
    simulation.scheduler.dealer.bodies.budget = 1
    client.introduce(b"f")
    client.introduce(b"g")
    waiting, behind = client.submit(function=b"f"), client.submit()
    client.pump()
    client.connection.down.hold(5.0)  # it is long until it hears what it is asked for
    simulation.run(1)
    assert not client.results
    client.abort([waiting])
    finish(simulation)
    assert statuses(client, [waiting, behind]) == [Status.ABORTED, Status.OK]
