"""Ready tasks come out fair between clients, highest priority first, one function at a time."""

from __future__ import annotations

from enginery.core.ready import SWEEP_AT, Lane
from enginery.wire.messages import CLIENT_SHIFT, Options, Task


def task(client, number, function=b"", priority=0):
    options = Options(priority=priority) if priority else None
    return Task((client << CLIENT_SHIFT) + number, 0, function, b"", options=options)


def numbers(tasks):
    return [(one.id >> CLIENT_SHIFT, one.id & 0xFFFF) for one in tasks]


def lane_of(*tasks):
    lane = Lane()
    for one in tasks:
        lane.push(one)
    return lane


def test_one_client_is_served_in_order():
    lane = Lane()
    lane.extend(1, [task(1, at) for at in range(5)])
    assert numbers(lane.take(3)) == [(1, 0), (1, 1), (1, 2)]
    assert numbers(lane.take(10)) == [(1, 3), (1, 4)]
    assert lane.live == 0


def test_nothing_added_is_nothing_there():
    lane = Lane()
    lane.extend(1, [])
    assert (lane.live, lane.ids()) == (0, [])


def test_clients_take_turns():
    lane = lane_of(*[task(client, at) for client in (1, 2) for at in range(3)])
    order = [numbers(lane.take(1))[0] for _ in range(6)]
    assert order == [(1, 0), (2, 0), (1, 1), (2, 1), (1, 2), (2, 2)]


def test_a_turn_is_a_fair_part_of_what_is_asked_for():
    lane = lane_of(*[task(client, at) for client in (1, 2) for at in range(10)])
    assert len(lane.take(10)) == 5


def test_a_batch_calls_one_function():
    lane = lane_of(task(1, 0, b"f"), task(1, 1, b"f"), task(1, 2, b"g"), task(1, 3, b"f"))
    assert numbers(lane.take(10)) == [(1, 0), (1, 1)]
    assert numbers(lane.take(10)) == [(1, 2)]
    assert numbers(lane.take(10)) == [(1, 3)]


def test_the_highest_priority_goes_first():
    lane = lane_of(task(1, 0, priority=-2), task(1, 1), task(1, 2, priority=7), task(1, 3, priority=1), task(1, 4))
    order = []
    while lane.live:
        order += numbers(lane.take(10))
    assert order == [(1, 2), (1, 3), (1, 1), (1, 4), (1, 0)]


def test_a_task_that_has_waited_before_stands_in_front():
    lane = lane_of(task(1, 1))
    lane.push(task(1, 0), front=True)
    assert numbers(lane.take(5)) == [(1, 0), (1, 1)]


def test_a_task_that_ended_is_passed_over():
    lane = lane_of(*[task(1, at) for at in range(4)])
    for at in (0, 2):
        lane.drop(task(1, at).id)
    assert lane.live == 2
    assert numbers([lane.peek()]) == [(1, 1)]
    assert numbers(lane.take(10)) == [(1, 1), (1, 3)]


def test_a_client_whose_tasks_have_all_ended_loses_its_turn():
    lane = lane_of(task(1, 0), task(2, 0))
    lane.drop(task(1, 0).id)
    assert numbers(lane.take(1)) == [(2, 0)]
    assert lane.live == 0


def test_entries_of_ended_tasks_are_swept():
    lane = lane_of(*[task(1, at, priority=at % 3 - 1) for at in range(2 * SWEEP_AT)])
    before = [one for one in lane.ids() if (one & 0xFFFF) > SWEEP_AT + 700]
    for at in range(SWEEP_AT + 701):
        lane.drop(task(1, at).id)
    assert lane.ids() == before
    assert lane.live == len(before)
    assert len(lane._dead) < SWEEP_AT / 2


def test_ahead_of_counts_the_same_client_only():
    lane = lane_of(task(1, 0), task(2, 0), task(1, 1), task(1, 2, priority=3))
    assert lane.ahead_of(task(1, 1).id) == 2
    assert lane.ahead_of(task(2, 0).id) == 0
    assert lane.ahead_of(99) == 0
