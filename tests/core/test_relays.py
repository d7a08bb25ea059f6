"""What goes to a host once: who waits for it, in which order, and what becomes of it when something breaks."""

from __future__ import annotations

import pytest

from enginery.core.actions import Action, To
from enginery.core.relays import PORTION, WINDOW, Relays
from enginery.core.sharing import PAYLOAD, WORTH, put_together
from enginery.wire import messages as m

#: Nannies by engine: two hosts, and an engine that has none.
HOSTS = {0: 10, 1: 10, 2: 11, 3: 11, 4: -1}


class Bench:
    """Relays, the segments that clients have written, and what was read and sent."""

    def __init__(self) -> None:
        self.segments = {"c1-1": b"\1" * WORTH}
        self.relays = Relays(lambda engine: HOSTS.get(engine, -1), self.read)

    def read(self, name, size):
        if name not in self.segments:
            raise OSError(name)
        return memoryview(self.segments[name])

    def request(self, targets, frames=(), *, first=100, payload=b"small", shared=None, direct=True):
        """The actions that give each target a copy of a task."""
        wanted = m.Task(first, m.Action.APPLY, b"f", payload, len(frames), shared=shared)
        return [
            Action(To.ENGINE, target, m.Assign([m.Task(first + at, *copy_of(wanted))], direct), list(frames))
            for at, target in enumerate(targets)
        ]

    def arrive(self, actions, name="h1-1"):
        """Nannies answer what was sent to them until nothing more is; what is performed then."""
        out = []
        while actions:
            now = []
            for action in actions:
                if type(action.message) is m.Relay:
                    relay, end = action.message, action.message.at + action.frames[0].nbytes
                    now += self.relays.relayed(action.number, relay.number, end, name if end == relay.size else "")
                else:
                    out.append(action)
            actions = now
        return out


def copy_of(task):
    return task.action, task.function, task.payload, task.frames, task.options, task.shared


@pytest.fixture
def bench():
    return Bench()


def relayed(actions):
    return [action for action in actions if type(action.message) is m.Relay]


def assigned(actions):
    return {action.number: action for action in actions if type(action.message) is m.Assign}


def names(action):
    return [segment.name for segment in action.message.tasks[0].shared or ()]


def test_small_buffers_go_to_each_engine(bench):
    actions = bench.request([0, 1], [b"x" * 100])
    assert bench.relays.sift(actions) == actions


def test_a_large_buffer_goes_to_each_host_once(bench):
    frame = b"x" * (WORTH + 5)
    first = bench.relays.sift(bench.request([0, 1, 2, 3], [frame]))
    assert {action.number: bytes(action.frames[0]) for action in first} == {10: frame, 11: frame}
    assert not assigned(first)
    last = assigned(bench.arrive(first))
    assert sorted(last) == [0, 1, 2, 3]
    for action in last.values():
        (task,) = action.message.tasks
        assert (task.frames, action.frames) == (0, [])
        assert task.shared == [m.Segment(0, "h1-1", len(frame))]


def test_an_engine_alone_on_its_host_gets_its_own(bench):
    actions = bench.request([0, 2, 4], [b"x" * WORTH])
    assert bench.relays.sift(actions) == actions


def test_engines_without_a_nanny_do_not_wait(bench):
    actions = bench.request([0, 1, 4], [b"x" * WORTH])
    now = bench.relays.sift(actions)
    assert actions[2] in now
    assert sorted(assigned(now)) == [4]


def test_balanced_tasks_are_left_alone(bench):
    actions = bench.request([0, 1], [b"x" * WORTH], direct=False)
    assert bench.relays.sift(actions) == actions


@pytest.mark.parametrize("small", [0, 1, 2])
def test_buffers_come_together_in_their_order(bench, small):
    """Large and small frames, a client's segment and a large payload: engines see what was sent."""
    frames = [b"a" * WORTH, b"b" * WORTH]
    frames.insert(small, b"tiny")
    shared = [m.Segment(1, "c1-1", WORTH)]
    whole = [frames[0], bench.segments["c1-1"], *frames[1:]]
    payload = b"p" * (WORTH + 1)
    now = bench.relays.sift(bench.request([0, 1], frames, payload=payload, shared=shared))
    host = {}
    out = []
    actions = now
    while actions:
        action = actions.pop(0)
        if type(action.message) is m.Relay:
            name = f"h1-{action.message.number}"
            host[name] = bytes(action.frames[0])
            actions += bench.relays.relayed(10, action.message.number, action.message.size, name)
        else:
            out.append(action)
    assert len(host) == 4
    for action in out:
        (task,) = action.message.tasks
        assert put_together(task, action.frames, lambda name, _size: memoryview(host[name])) == (payload, whole)
    assert out[0].message.tasks[0].shared[0].index == PAYLOAD


def test_what_is_said_to_an_engine_keeps_its_order(bench):
    first = bench.relays.sift(bench.request([0, 1], [b"x" * WORTH]))
    abort = Action(To.ENGINE, 0, m.Abort([100]), [])
    other = Action(To.ENGINE, 2, m.Abort([5]), [])
    client = Action(To.CLIENT, 0, m.News(), [])
    assert bench.relays.sift([abort, other, client]) == [other, client]
    last = bench.arrive(first)
    assert [type(action.message) for action in last if action.number == 0] == [m.Assign, m.Abort]
    assert bench.relays.sift([abort]) == [abort]


def test_only_so_much_is_on_the_way_at_once(bench):
    frame = bytes(3 * WINDOW)
    now = bench.relays.sift(bench.request([0, 1], [frame]))
    assert sum(action.frames[0].nbytes for action in now) == WINDOW
    number = now[0].message.number
    more = bench.relays.relayed(10, number, PORTION, "")
    assert [action.message.at for action in more] == [WINDOW]
    assert [action.frames[0].nbytes for action in more] == [PORTION]


def test_a_segment_is_given_back_after_the_last_answer(bench):
    bench.arrive(bench.relays.sift(bench.request([0, 1], [b"x" * WORTH])))
    assert bench.relays.ended(0, [100]) == []
    assert bench.relays.ended(1, [7]) == []
    assert bench.relays.ended(1, [101]) == [Action(To.NANNY, 10, m.Release(["h1-1"]), [])]
    assert not bench.relays.uses
    assert bench.relays.engine_gone(1) == []


def test_an_array_that_is_sent_twice_in_a_task_is_given_back_once(bench):
    frame = b"x" * WORTH
    bench.arrive(bench.relays.sift(bench.request([0, 1], [frame, frame])))
    bench.relays.ended(0, [100])
    assert len(bench.relays.ended(1, [101])) == 1


def test_no_room_means_frames(bench):
    actions = bench.request([0, 1], [b"x" * WORTH])
    (relay,) = bench.relays.sift(actions)
    assert bench.relays.relayed(10, relay.message.number, -1, "") == actions
    assert bench.relays.ended(0, [100]) == bench.relays.ended(1, [101]) == []
    assert not bench.relays.uses


def test_one_buffer_without_room_means_frames_for_its_task(bench):
    actions = bench.request([0, 1], [b"x" * WORTH, b"y" * WORTH])
    one, other = bench.relays.sift(actions)
    assert bench.relays.relayed(10, one.message.number, WORTH, "h1-1") == []
    assert bench.relays.relayed(10, other.message.number, -1, "") == actions
    bench.relays.ended(0, [100])
    assert [action.message for action in bench.relays.ended(1, [101])] == [m.Release(["h1-1"])]


@pytest.mark.parametrize("gone", [True, False])
def test_a_nanny_that_does_not_answer_is_not_waited_for(bench, gone):
    actions = bench.request([0, 1, 2, 3], [b"x" * WORTH])
    relays = bench.relays.sift(actions)
    assert bench.relays.waits_for() == {10, 11}
    assert bench.relays.given_up(10, gone=gone) == actions[:2]
    assert bench.relays.waits_for() == {11}
    late = bench.relays.relayed(10, relays[0].message.number, WORTH, "h1-9")
    assert late == [Action(To.NANNY, 10, m.Release(["h1-9"]), [])]  # nobody reads it


def test_what_a_gone_nanny_had_stored_is_not_given_back_to_it(bench):
    bench.arrive(bench.relays.sift(bench.request([0, 1], [b"x" * WORTH])))
    assert bench.relays.given_up(10, gone=True) == []
    assert bench.relays.ended(0, [100]) == bench.relays.ended(1, [101]) == []


def test_engines_that_leave_take_along_what_waits_for_them(bench):
    (relay,) = bench.relays.sift(bench.request([0, 1], [bytes(2 * WINDOW)]))[:1]
    bench.relays.engine_gone(0)
    bench.relays.engine_gone(1)
    assert not bench.relays.uses
    rest = bench.relays.relayed(10, relay.message.number, PORTION, "")
    assert bench.arrive(rest) == [Action(To.NANNY, 10, m.Release(["h1-1"]), [])]
    assert "parcels=0 held=0" in repr(bench.relays)


def test_what_nobody_waits_for_any_more_is_not_begun(bench):
    now = bench.relays.sift(bench.request([0, 1], [bytes(WINDOW)]))
    assert bench.relays.sift(bench.request([0, 1], [bytes(WORTH)], first=200)) == []
    bench.relays.ended(0, [200])
    bench.relays.ended(1, [201])
    sent = {action.message.number for action in relayed(now)}
    more = bench.relays.relayed(10, min(sent), WINDOW, "h1-1")
    assert not relayed(more)
    assert "parcels=1" in repr(bench.relays)


def test_a_segment_that_is_gone_is_left_to_those_who_ask_for_it(bench):
    actions = bench.request([0, 1], shared=[m.Segment(0, "c9-9", WORTH)])
    assert bench.relays.sift(actions) == actions


def test_answers_of_others_do_not_count(bench):
    (relay,) = bench.relays.sift(bench.request([0, 1], [b"x" * WORTH]))
    assert bench.relays.relayed(11, relay.message.number, WORTH, "h9-9") == [
        Action(To.NANNY, 11, m.Release(["h9-9"]), [])
    ]
    assert bench.relays.waits_for() == {10}
