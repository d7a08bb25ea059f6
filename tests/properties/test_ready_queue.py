"""A lane gives out what was put in: each task once, in its client's order, fair between clients."""

from __future__ import annotations

from collections import defaultdict

from hypothesis import given
from hypothesis import strategies as st

from enginery.core import ready
from enginery.core.ready import Lane
from enginery.wire.messages import CLIENT_SHIFT, Options, Task

STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("push"), st.integers(1, 3), st.integers(-1, 1), st.sampled_from([b"", b"f"]), st.booleans()),
        st.tuples(st.just("extend"), st.integers(1, 3), st.integers(0, 5)),
        st.tuples(st.just("take"), st.integers(1, 6)),
        st.tuples(st.just("drop"), st.integers(0, 100)),
        st.tuples(st.just("hold back"), st.integers(1, 3)),
        st.tuples(st.just("let on"), st.integers(1, 3)),
    ),
    max_size=60,
)


class Model:
    """The same in the plainest way: for each client a list for each priority."""

    def __init__(self):
        self.clients = defaultdict(lambda: defaultdict(list))

    def best(self, client):
        bands = {priority: tasks for priority, tasks in self.clients[client].items() if tasks}
        return bands[max(bands)]

    def ids(self):
        return {task.id for bands in self.clients.values() for tasks in bands.values() for task in tasks}


def priority_of(task):
    return 0 if task.options is None else task.options.priority


@given(STEPS)
def test_a_lane_is_like_its_model(steps):
    held = set()
    lane, model = Lane(held), Model()
    fresh = 0
    for step, *details in steps:
        if step == "push":
            client, priority, function, front = details
            options = Options(priority=priority) if priority else None
            task = Task((client << CLIENT_SHIFT) + fresh, 0, function, b"", options=options)
            fresh += 1
            lane.push(task, front=front)
            model.clients[client][priority].insert(0 if front else fresh, task)
        elif step == "extend":
            client, count = details
            tasks = [Task((client << CLIENT_SHIFT) + fresh + at, 0, b"", b"") for at in range(count)]
            fresh += count
            lane.extend(client, tasks)
            model.clients[client][0] += tasks
        elif step == "take" and lane.live:
            first = lane.peek()
            taken = lane.take(details[0])
            assert taken[0] is first
            assert len(taken) <= details[0]
            assert len({task.function for task in taken}) == 1
            client = first.id >> CLIENT_SHIFT
            assert client not in held
            band = model.best(client)
            assert taken == band[: len(taken)], "not in order, or not of the highest priority"
            del band[: len(taken)]
        elif step == "hold back":
            lane.hold_back(details[0])
            held.add(details[0])
        elif step == "let on":
            held.discard(details[0])
            lane.let_on(details[0])
        elif step == "drop" and lane.ids():
            gone = sorted(lane.ids())[details[0] % len(lane.ids())]
            lane.drop(gone)
            for tasks in model.clients[gone >> CLIENT_SHIFT].values():
                tasks[:] = [task for task in tasks if task.id != gone]
        assert set(lane.ids()) == model.ids()
        assert lane.live == len([number for number in model.ids() if number >> CLIENT_SHIFT not in held])
        assert lane.live + lane.aside == len(model.ids())


@given(st.lists(st.integers(1, 30), min_size=2, max_size=5), st.integers(1, 7))
def test_between_two_turns_of_a_client_everybody_else_has_one(counts, at_once):
    lane = Lane()
    for client, count in enumerate(counts, 1):
        lane.extend(client, [Task((client << CLIENT_SHIFT) + at, 0, b"", b"") for at in range(count)])
    left = dict(enumerate(counts, 1))
    since = defaultdict(set)
    while lane.live:
        taken = lane.take(at_once)
        client = taken[0].id >> CLIENT_SHIFT
        waiting = {other for other in left if left[other] and other != client}
        if client in since:
            assert waiting <= since[client], "a client was served twice while another waited"
        since[client] = set()
        for other in since:
            since[other].add(client)
        left[client] -= len(taken)
    assert not any(left.values())


@given(st.sets(st.integers(0, 299), max_size=300))
def test_sweeping_changes_nothing(dropped):
    swept, plain = Lane(), Lane()
    tasks = [Task(((at % 3) << CLIENT_SHIFT) + at, 0, b"", b"") for at in range(300)]
    before = ready.SWEEP_AT
    try:
        for lane, limit in ((swept, 5), (plain, 10**6)):
            ready.SWEEP_AT = limit
            for task in tasks:
                lane.push(task)
            for at in sorted(dropped):
                lane.drop(tasks[at].id)
    finally:
        ready.SWEEP_AT = before
    assert sorted(swept.ids()) == sorted(plain.ids())
    for client in range(3):
        mine = [[number for number in lane.ids() if number >> CLIENT_SHIFT == client] for lane in (swept, plain)]
        assert mine[0] == mine[1]
