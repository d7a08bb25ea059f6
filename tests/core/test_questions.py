"""What the controller answers about tasks: one sentence for each state, and their stories."""

from __future__ import annotations

import pytest

from enginery.core import questions
from enginery.core.stories import CAPACITY, Stories
from enginery.wire import messages as m

LOCAL = (1 << m.CLIENT_SHIFT) - 1


def why(d, task):
    return questions.why(d.scheduler, task, d.now)


def story(d, task):
    return questions.story(d.scheduler, task, d.now)


@pytest.fixture
def d(desk):
    """Two engines that hold one task each at most, and take turns."""
    return desk(engines=2, hwm=1, scheme="lru")


# --- why ------------------------------------------------------------------------------------------------------------


def test_a_task_that_runs(d):
    task = d.task()
    d.turn()
    assert why(d, task) == "It runs on engine 0 (pid 7 on node)."
    d.now += 12.3
    assert why(d, task) == "It runs on engine 0 (pid 7 on node), for 12.3 s."


def test_a_task_that_is_queued_at_its_engine(desk):
    d = desk(engines=1, hwm=0)
    first, second, third = d.submit(3)
    d.turn()
    d.now += 2
    assert why(d, second).startswith(
        "It is queued behind 1 other task at engine 0 (pid 7 on node), which last ended one 2.0"
    )
    assert "behind 2 other tasks" in why(d, third)
    d.finish(d.engines[0], first)
    assert why(d, second) == "It runs on engine 0 (pid 7 on node)."


def test_where_two_queues_meet_both_may_run(desk):
    d = desk(engines=1, hwm=1)
    balanced = d.task()
    d.turn()
    (addressed,) = d.request([0])
    d.turn(3.0)
    said = "It runs, or is next, on engine 0 (pid 7 on node), which last ended a task 3.0 s ago."
    assert why(d, balanced) == why(d, addressed) == said


def test_an_engine_that_idled_is_not_said_to_have_run_for_so_long(desk):
    d = desk(engines=1)
    d.turn(3600.0)
    client = d.client
    request = m.Request([0], m.Task(client.highest, 0, b"", b""))
    d.scheduler.requests_submitted(client, [request], [], d.now)
    d.turn(1.0)
    assert why(d, request.task.id) == "It runs on engine 0 (pid 7 on node), for 1.0 s."


def test_ready_tasks(d):
    d.submit(2)
    third, fourth = d.submit(2)
    d.turn()
    assert why(d, third) == "It is ready to run, number 1 in its client's queue; all 2 engines are busy."
    assert "number 2 in its client's queue" in why(d, fourth)


def test_without_engines(desk):
    d = desk()
    assert why(d, d.task()) == "It is ready to run, but no engines are registered."


def test_restricted_tasks_say_by_what(d):
    blocker, _ = d.submit(2)
    d.turn()
    bound = d.task(targets=[0, 5])
    d.turn()
    assert why(d, bound) == (
        "It is ready to run, number 1 in the queue for engine 0, which is busy; its targets are engines 0, 5 "
        "(engine 5 not registered)."
    )
    d.finish(d.engines[0], blocker)
    assert "runs on engine 0" in why(d, bound)


def test_tasks_that_failed_somewhere_say_where(d):
    first, _ = d.task(retries=2), d.task()
    d.turn()
    d.fail(d.engines[0], first)
    said = why(d, first)
    assert said.startswith("It is ready to run, number 1 in the queue for engine 1, which is busy; engine 0 failed it.")
    assert said.endswith("Tried before: engine 0 (ValueError: said so).")


def test_waiting_tasks_name_what_they_wait_for(d):
    ids = d.submit(9)
    waiting = d.task(after=m.Dependency(ids))
    d.turn()
    said = why(d, waiting)
    assert said.startswith(f"It waits for 9 unfinished tasks: …_{ids[0] & LOCAL} (at engine 0), ")
    assert "(ready)" in said
    assert said.endswith("and 4 more.")
    other = d.join_client()
    foreign = d.task(client=other, after=m.Dependency(ids[:1]))
    assert f"…_{ids[0] & LOCAL} of client {d.client.number} (at engine 0)" in why(d, foreign)


def test_a_task_that_was_taken_back_but_runs(d):
    task = d.task()
    d.turn()
    d.scheduler.abort_requested(d.client, [task], interrupt=True)
    assert why(d, task) == "It runs on engine 0 (pid 7 on node). It was asked to stop."


def test_tasks_that_are_not_there(d):
    task = d.task()
    d.turn()
    d.finish(d.engines[0], task)
    assert why(d, task) == "It has ended; its result is on the way to its client."
    assert why(d, task + 1) == "It has not come to the controller."
    assert why(d, 5) == "It has not come to the controller."


# --- stories --------------------------------------------------------------------------------------------------------


def test_plain_lives_are_told_in_few_words(d):
    task = d.task()
    d.turn()
    assert story(d, task) == ["It runs on engine 0 (pid 7 on node)."]
    d.finish(d.engines[0], task)
    assert story(d, task) == ["ended well on engine 0"]
    assert story(d, task + 1) == ["never came to the controller"]


def test_a_task_that_was_tried_again(d):
    task = d.task(retries=3)
    d.turn()
    d.fail(d.engines[0], task)
    assert story(d, task) == ["tried on engine 0 (ValueError: said so)", "It runs on engine 1 (pid 7 on node)."]
    d.leave(d.engines[1])
    d.finish(d.engines[0], task)
    assert story(d, task) == [
        "tried on engine 0 (ValueError: said so)",
        "tried on engine 1 (killed by SIGKILL)",
        "ended well on engine 0",
    ]


def test_tasks_that_failed(d):
    task, lost = d.submit(2)
    d.turn()
    d.fail(d.engines[0], task)
    assert story(d, task) == ["ended on engine 0 with ValueError: said so"]
    d.task()  # takes the place at engine 0
    d.scheduler.abort_requested(d.client, [queued := d.task()])
    assert story(d, queued) == ["was taken back, or failed long ago"]
    d.leave(d.engines[1])
    assert story(d, lost)[0].startswith("ended on engine 1 with EngineError: Engine 1 (pid 7 on node) left")


def test_only_so_many_stories_are_kept():
    stories = Stories()
    for task in range(CAPACITY + 5):
        stories.keep(task, None, m.Result(task, m.Status.ERROR, b"", fault=m.Fault("remote", "E", "x" * 1000)), 3)
    assert stories.of(4) is None
    (told,) = stories.of(5)
    assert told.startswith("ended on engine 3 with E: xxx")
    assert len(told) < 300


# --- counts ---------------------------------------------------------------------------------------------------------


def test_statistics(d):
    ids = d.submit(4)
    d.task(after=m.Dependency(ids[:1]))
    d.turn()
    statistics = questions.statistics(d.scheduler)
    wanted = {"unfinished": 5, "waiting": 1, "ready": 2, "assigned": 2, "engines": 2, "clients": 1, "submitted": 5}
    assert wanted.items() <= statistics.items()
    assert (statistics["scheme"], statistics["hwm"]) == ("lru", 1)


def test_queue_status(d):
    ids = d.submit(3)
    waiting = d.task(after=m.Dependency(ids[:1]))
    d.turn()
    d.finish(d.engines[0], ids[0])
    status = questions.queue_status(d.scheduler, None, verbose=True)
    assert status["1"] == {"queue": [], "tasks": [ids[1]], "completed": 0}
    assert status["0"]["completed"] == 1
    assert status["unassigned"] == [waiting]
    assert questions.queue_status(d.scheduler, [0], verbose=False).keys() == {"0", "unassigned"}
