"""What is asked about the scheduler's state is answered in words and plain values."""

from __future__ import annotations

import msgspec
import pytest

from enginery.core import questions
from enginery.wire import messages as m


def why(d, task):
    return questions.why(d.scheduler, task, d.now)


def story(d, task):
    return questions.story(d.scheduler, task, d.now)


def test_counts_of_what_each_engine_holds(desk):
    d = desk(engines=2, hwm=1)
    ids = d.submit(5)
    (direct,) = d.request([1])
    d.task(after=m.Dependency(ids))
    d.turn()
    d.finish(d.engines[0], *d.engines[0].balanced)
    status = questions.queue_status(d.scheduler, None, verbose=False)
    assert status == {
        "0": {"queue": 0, "tasks": 1, "completed": 1},
        "1": {"queue": 1, "tasks": 1, "completed": 0},
        "unassigned": 3,
    }
    verbose = questions.queue_status(d.scheduler, [1], verbose=True)
    assert verbose["1"]["queue"] == [direct]
    assert len(verbose["unassigned"]) == 3
    assert "0" not in verbose


def test_statistics_add_up(desk):
    d = desk(engines=1, hwm=1)
    ids = d.submit(3)
    d.task(after=m.Dependency(ids))
    d.turn()
    d.fail(d.engines[0], ids[0])
    numbers = questions.statistics(d.scheduler)
    assert numbers["submitted"] == 4
    assert numbers["ended"] == numbers["failed"] == 2
    assert numbers["unfinished"] == numbers["ready"] + numbers["assigned"] + numbers["waiting"] == 2
    msgspec.msgpack.encode(numbers)


@pytest.mark.parametrize("submitted", [False, True])
def test_why_of_what_is_not_here(desk, submitted):
    d = desk(engines=1)
    task = d.client.highest
    if submitted:
        d.submit(1)
        d.turn()
        d.finish(d.engines[0], task)
    assert ("has ended" in why(d, task)) == submitted
    assert ("not come" in why(d, task)) == (not submitted)


def test_why_a_task_waits_for_others(desk):
    d = desk(engines=1, hwm=1)
    ids = d.submit(7)
    task = d.task(after=m.Dependency(ids))
    d.turn()
    assert why(d, task).startswith("It waits for 7 unfinished tasks: …_0 (at engine 0), …_1 (ready)")
    assert "and 2 more" in why(d, task)


def test_why_a_task_is_ready(desk):
    d = desk(hwm=1)
    task = d.task()
    assert "no engines are registered" in why(d, task)
    d.join()
    d.turn()
    _, behind = d.submit(2)
    assert "number 2 in its client's queue; all 1 engines are busy" in why(d, behind)


def test_why_a_restricted_task_is_ready(desk):
    d = desk(engines=2, hwm=1)
    d.submit(2)
    d.turn()
    task = d.task(targets=[1, 7])
    assert "number 1 in the queue for engine 1, which is busy" in why(d, task)
    assert "engine 7 not registered" in why(d, task)


def test_why_a_task_has_not_ended_at_its_engine(desk):
    d = desk(engines=1, hwm=2)
    runs, queued = d.submit(2)
    d.turn()
    assert why(d, runs) == "It runs on engine 0 (pid 7 on node)."
    d.now += 60.0
    assert why(d, runs) == "It runs on engine 0 (pid 7 on node), for 60.0 s."
    assert "queued behind 1 other task at engine 0" in why(d, queued)
    d.scheduler.abort_requested(d.client, [queued])
    assert "asked to stop" in why(d, queued)


def test_why_and_story_tell_what_was_tried(desk):
    d = desk(engines=2)
    task = d.task(retries=2)
    d.turn()
    first = next(engine for engine in d.engines if engine.balanced)
    second = next(engine for engine in d.engines if engine is not first)
    d.fail(first, task)
    assert f"Tried before: engine {first.info.id} (ValueError: said so)." in why(d, task)
    assert story(d, task)[0] == f"tried on engine {first.info.id} (ValueError: said so)"
    d.finish(second, task)
    assert story(d, task)[-1] == f"ended well on engine {second.info.id}"


def test_the_story_of_a_plain_life_is_short(desk):
    d = desk(engines=1)
    task = d.task()
    d.turn()
    d.finish(d.engines[0], task)
    assert len(story(d, task)) == 1
    assert "engine 0" in story(d, task)[0]
    assert story(d, task + 5) == ["never came to the controller"]
