"""How much work each engine is given, and when."""

from __future__ import annotations

import pytest

from enginery.core.dealer import HOLD, PREFETCH, PREFETCH_TASKS, STEAL_AFTER, STEALS
from enginery.core.questions import why
from enginery.wire import messages as m


def warm(d, function=b"", seconds=1e-6):
    """Let the estimates know how long a function runs."""
    d.scheduler.dealer.estimates.learn(function, seconds, 1)


@pytest.mark.parametrize("hwm", [1, 2, 5])
def test_no_engine_holds_more_than_hwm(desk, hwm):
    d = desk(engines=2, hwm=hwm)
    d.submit(100)
    d.turn()
    assert [len(engine.balanced) for engine in d.engines] == [hwm, hwm]


def test_hwm_0_means_no_limit(desk):
    d = desk(engines=2, hwm=0)
    d.submit(1000)
    d.turn()
    assert [len(engine.balanced) for engine in d.engines] == [500, 500]


def test_hwm_counts_tasks_of_all_lanes(desk):
    d = desk(engines=2, hwm=1)
    d.submit(3, targets=[0])
    d.submit(3, retries=1)
    d.submit(3)
    d.turn()
    assert [len(engine.balanced) for engine in d.engines] == [1, 1]


def test_functions_nobody_knows_are_given_one_by_one(desk):
    d = desk(engines=2)
    d.submit(10)
    d.turn()
    assert [len(engine.balanced) for engine in d.engines] == [1, 1]


def test_the_queue_follows_the_run_time(desk):
    d = desk(engines=1)
    warm(d, seconds=PREFETCH / 10)
    d.submit(100)
    d.turn()
    assert 8 <= len(d.engines[0].balanced) <= 11


def test_the_queue_of_the_quickest_tasks_is_bounded(desk):
    d = desk(engines=1)
    warm(d, seconds=0.0)
    d.submit(2 * PREFETCH_TASKS)
    d.turn()
    assert len(d.engines[0].balanced) <= PREFETCH_TASKS


def test_a_slow_task_is_not_queued_behind_quick_ones_for_longer_than_need_be(desk):
    d = desk(engines=1)
    warm(d, b"slow", 1.0)
    warm(d, b"quick", 1e-6)
    slow = d.submit(2, function=b"slow")
    quick = d.submit(5, function=b"quick")
    d.turn()
    assert list(d.engines[0].balanced) == slow[:1]
    d.finish(d.engines[0], slow[0], seconds=1.0)
    d.finish(d.engines[0], slow[1], seconds=1.0)
    assert list(d.engines[0].balanced) == quick


def test_run_times_that_are_nonsense_do_not_stop_the_dealing(desk):
    d = desk(engines=1)
    for nonsense in (float("nan"), float("inf"), -1e300):
        task = d.submit(2)[0]
        d.turn()
        for held in list(d.engines[0].balanced):
            d.finish(d.engines[0], held, seconds=nonsense)
        assert task not in d.scheduler.book.tasks


def test_a_single_task_goes_at_once(desk):
    d = desk(engines=2)
    task = m.Task(d.ids(1)[0], 0, b"", b"")
    d.scheduler.tasks_submitted(d.client, [task], [], d.now)
    assert len(d.scheduler.outbox) == 1, "it was queued although engines idle"


def test_a_single_task_does_not_overtake(desk):
    d = desk(engines=1, hwm=1)
    ids = d.submit(2)
    later = d.task()
    order = d.turn().assigned(d.engines[0])
    while d.engines[0].balanced:
        order += d.finish(d.engines[0], *d.engines[0].balanced).assigned(d.engines[0])
    assert order == [*ids, later]


def test_restricted_tasks_do_not_keep_others_waiting(desk):
    d = desk(engines=2, hwm=1)
    d.submit(10, targets=[0])
    d.turn()
    (free,) = d.submit(1)
    assert d.turn().assigned(d.engines[1]) == [free]


def test_a_lane_is_forgotten_when_it_is_empty(desk):
    d = desk(engines=2, hwm=1)
    for _ in range(50):
        d.scheduler.abort_requested(d.client, d.submit(2, targets=[0, 1]))
        task = d.task(targets=[1])
        d.turn()
        d.finish(d.engines[1], task)
    assert not d.scheduler.dealer.lanes
    assert not d.engines[1].lanes


def test_a_new_engine_serves_lanes_that_name_it(desk):
    d = desk(engines=1, hwm=1)
    ids = d.submit(2, targets=[0, 1])
    d.turn()
    engine = d.join()
    assert d.turn().assigned(engine) == ids[1:]


def test_tasks_lose_their_lane_with_its_last_engine(desk):
    d = desk(engines=2, hwm=1)
    ids = d.submit(3, targets=[0])
    waiting = d.task(after=m.Dependency(ids))
    d.turn()
    d.leave(d.engines[0])
    assert d.kinds()[ids[0]] == "EngineError"
    assert {d.kinds()[number] for number in (*ids[1:], waiting)} == {"ImpossibleDependency"}
    assert not d.scheduler.dealer.lanes


def test_a_lane_survives_while_one_of_its_engines_does(desk):
    d = desk(engines=2, hwm=1)
    ids = d.submit(4, targets=[0, 1])
    d.turn()
    d.leave(d.engines[0], balanced=-1)
    done = []
    while d.engines[1].balanced:
        done += list(d.engines[1].balanced)
        d.finish(d.engines[1], *d.engines[1].balanced)
    assert sorted(done) == ids


def test_nothing_is_stolen_while_everybody_is_busy(desk):
    d = desk(engines=2, hwm=4)
    d.submit(20)
    d.turn()
    assert d.turn(seconds=2 * STEAL_AFTER).actions == []


def test_where_nothing_moves_a_queue_goes_back_whole(desk):
    d = desk(engines=2, hwm=4)
    d.submit(8)
    d.turn()
    assert d.turn(seconds=HOLD).sent(m.Return) == [m.Return(4), m.Return(4)]


@pytest.mark.parametrize("engines", [8, 500])
def test_dealing_looks_at_few_engines_however_many_there_are(desk, engines):
    d = desk(engines=engines, hwm=1)
    d.submit(engines + 10)
    d.turn()
    looks = 0

    class Counting(dict):
        def __getitem__(self, key):
            nonlocal looks
            looks += 1
            return super().__getitem__(key)

        def items(self):
            nonlocal looks
            looks += len(self)
            return super().items()

    d.scheduler.dealer._engines = Counting(d.scheduler.engines)
    results = [m.Result(task, 0, b"", 0, 1.0, 1.1) for task in d.engines[0].balanced]
    d.scheduler.results_arrived(d.engines[0], results, [], d.now)
    assert len(d.scheduler.take_actions(d.now)) == 2
    assert looks < 10


def test_tasks_of_a_client_that_does_not_read_wait(desk):
    desk = desk(engines=1, hwm=1, most_unread=1000)
    (engine,) = desk.engines
    slow, other = desk.client, desk.join_client()
    desk.scheduler.results_unread(slow.number, 1001)
    first = desk.task()
    restricted = desk.task(targets=[0])
    theirs = desk.submit(client=other)
    assert desk.turn().assigned(engine) == theirs
    assert "not read" in why(desk.scheduler, first, desk.now)
    assert desk.finish(engine, *theirs).assigned(engine) == []
    desk.scheduler.results_unread(slow.number, 0)
    given = desk.turn().assigned(engine)
    assert {*given, *desk.finish(engine, *given).assigned(engine)} == {first, restricted}


def test_with_many_queues_each_has_longer_before_it_is_asked_for(desk):
    d = desk(engines=5 * STEALS, hwm=4)
    d.submit(20 * STEALS)
    d.turn()
    d.engines.append(d.join())
    assert d.turn(seconds=4 * STEAL_AFTER).sent(m.Return) == []
    d.now = d.scheduler.next_deadline()
    d.scheduler.tick(d.now)
    assert len(d.turn().sent(m.Return)) == 5 * STEALS
    assert d.now == pytest.approx(100.0 + 5 * STEAL_AFTER)


@pytest.mark.parametrize(("engines", "shares"), [(2, 2), (8, 8), (100, 10)])
def test_a_share_is_worth_what_it_costs_the_controller(desk, engines, shares):
    d = desk(engines=engines)
    warm(d, seconds=16e-6)  # and what any task costs
    d.submit(1000)
    d.turn()
    assert len([engine for engine in d.engines if engine.balanced]) == shares
