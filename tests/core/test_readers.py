"""Clients that do not read their results are held back, and engines told so; then they are let on."""

from __future__ import annotations

import pytest

from enginery.core.actions import To
from enginery.core.invariants import check
from enginery.core.questions import queue_status, statistics, story, why
from enginery.wire import messages as m

MOST = 1000


@pytest.fixture
def d(desk):
    return desk(engines=2, most_unread=MOST)


def unread(d, size, client=None):
    changed = d.scheduler.results_unread((client or d.client).number, size)
    check(d.scheduler)
    d.turn()
    return changed


def held(d, engine):
    """The clients that an engine was told of in the last turn."""
    return [message.clients for message in d.sent(m.Hold, engine.info.id, To.ENGINE)]


def pause(d, engine, ids):
    d.scheduler.tasks_paused(engine, ids)
    check(d.scheduler)


def test_beyond_the_limit_engines_are_told_once(d):
    number = d.client.number
    assert not unread(d, MOST)
    assert unread(d, MOST + 1)
    assert [held(d, engine) for engine in d.engines] == [[[number]], [[number]]]
    assert not unread(d, 2 * MOST)
    assert d.actions == []


def test_with_half_of_it_they_go_on(d):
    unread(d, MOST + 1)
    assert not unread(d, MOST // 2 + 1)
    assert d.actions == []
    assert unread(d, MOST // 2)
    assert [held(d, engine) for engine in d.engines] == [[[]], [[]]]


def test_each_client_has_its_own(d):
    other = d.join_client()
    unread(d, MOST + 1)
    unread(d, MOST + 1, other)
    assert held(d, d.engines[0]) == [[d.client.number, other.number]]
    unread(d, 0)
    assert held(d, d.engines[0]) == [[other.number]]


def test_an_engine_that_joins_is_told(d):
    assert held(d.turn(), d.join()) == []
    unread(d, MOST + 1)
    engine = d.join()
    assert held(d.turn(), engine) == [[d.client.number]]


def test_an_engine_that_is_back_at_a_restored_controller_is_told(d):
    unread(d, MOST + 1)
    (task,) = d.request([0])
    d.turn()
    d.scheduler.engine_hung_up(0)
    d.scheduler.engine_recalled(0, [], d.now)
    d.turn()
    assert [type(action.message) for action in d.actions] == [m.Hold, m.Assign]  # in this order
    assert d.assigned(d.engines[0]) == [task]


def test_a_client_that_leaves_is_not_held_back_any_more(d):
    other = d.join_client()
    ids = d.request([0, 0])
    unread(d, MOST + 1)
    pause(d, d.engines[0], ids)
    d.scheduler.client_left(d.client.number)
    assert held(d.turn(), d.engines[0]) == [[]]
    assert not d.engines[0].paused
    assert not unread(d, 2 * MOST)  # what is still said of it counts no more
    d.finish(d.engines[0], *ids)
    assert d.request([0], client=other)


def test_what_was_set_aside_does_not_count_as_load(d):
    engine, other = d.engines[0], d.join_client()
    ids = d.request([0, 0, 0])
    d.turn()
    assert engine.load == 3
    unread(d, MOST + 1)
    assert engine.load == 3  # as long as it is not known which of them runs
    pause(d, engine, ids[1:])
    d.turn()
    assert engine.load == 1
    d.finish(engine, ids[0])
    assert engine.load == 0
    assert 0 in d.scheduler.dealer.idle
    task = d.task(client=other, targets=[0])
    assert d.turn().assigned(engine) == [task]


def test_an_engine_that_handed_back_everything_gets_tasks_again_although_others_wait_there(desk):
    d = desk(engines=1, most_unread=MOST, hwm=4)
    (engine,) = d.engines
    ids = d.request([0])
    unread(d, MOST + 1)
    pause(d, engine, ids)
    other = d.join_client()
    theirs = d.submit(2, client=other)
    d.turn()
    assert d.turn(seconds=1.0).sent(m.Return) == [m.Return(2)]
    d.scheduler.tasks_returned(engine, theirs, d.now)
    assert d.turn().assigned(engine) == theirs


def test_balanced_tasks_that_are_handed_back_wait_for_their_client(desk):
    d = desk(engines=1, most_unread=MOST, hwm=4)
    (engine,) = d.engines
    ids = d.submit(3)
    d.turn()
    unread(d, MOST + 1)
    d.scheduler.tasks_returned(engine, ids[1:], d.now)
    d.turn()
    assert d.finish(engine, ids[0]).assigned(engine) == []
    assert unread(d, 0)
    assert d.assigned(engine) == ids[1:]


def test_late_words_about_what_was_set_aside_do_no_harm(d):
    engine = d.engines[0]
    ids = d.request([0, 0])
    unread(d, MOST + 1)
    unread(d, 0)
    pause(d, engine, [*ids, 4711])
    assert not engine.paused
    unread(d, MOST + 1)
    d.finish(engine, ids[0])
    pause(d, engine, ids)
    assert engine.paused == {ids[1]}


def test_an_engine_that_shall_leave_waits_for_what_it_has_set_aside(d):
    engine = d.engines[0]
    (task,) = d.request([0])
    unread(d, MOST + 1)
    pause(d, engine, [task])
    d.scheduler.engine_retires(0)
    assert d.turn().sent(m.Shutdown) == []
    unread(d, 0)
    assert d.finish(engine, task).sent(m.Shutdown) == [m.Shutdown(0, [0])]


def test_tasks_that_were_set_aside_are_lost_with_their_engine(d):
    ids = d.request([0, 0])
    unread(d, MOST + 1)
    pause(d, d.engines[0], ids)
    assert d.leave(d.engines[0]).kinds() == dict.fromkeys(ids, "EngineError")


def test_they_can_be_taken_back(d):
    engine = d.engines[0]
    ids = d.request([0, 0])
    unread(d, MOST + 1)
    pause(d, engine, ids)
    d.scheduler.abort_requested(d.client, ids)
    assert d.turn().sent(m.Abort) == [m.Abort(ids)]
    d.finish(engine, *ids, status=m.Status.ABORTED, fault=m.Fault("TaskAborted", "TaskAborted", ""))
    assert not engine.paused


def test_it_can_be_asked_why(d):
    other = d.join_client()
    ids = d.request([0, 0])
    (theirs,) = d.request([0], client=other)
    unread(d, MOST + 1)
    pause(d, d.engines[0], ids[1:])
    assert why(d.scheduler, ids[0], d.now).startswith("It runs on engine 0")
    said = why(d.scheduler, ids[1], d.now)
    assert said.startswith("It waits at engine 0 (pid 7 on node), but its client has not read more than")
    assert story(d.scheduler, ids[1], d.now) == [said]
    assert "behind 1 other task at" in why(d.scheduler, theirs, d.now)
    assert queue_status(d.scheduler, None, verbose=True)["0"]["queue"] == [*ids, theirs]
    assert (statistics(d.scheduler)["held_back"], statistics(d.scheduler)["paused"]) == (1, 1)
