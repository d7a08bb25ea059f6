"""The controller and shared memory: who may use it, what others get instead, and what is left behind."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import pytest

from enginery.controller.ports import Peer
from enginery.controller.sharing import GRACE, Sharing
from enginery.net.segments import Pool
from enginery.wire import messages as m

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="shared memory as files is Linux's")

SIZE = 200_000
FIRST = 3 << m.CLIENT_SHIFT


class Clock:
    def __init__(self):
        self.now = 5.0

    def __call__(self):
        return self.now


@pytest.fixture
def folder():
    with tempfile.TemporaryDirectory(dir="/dev/shm", prefix="enginery-test-") as name:
        yield Path(name)


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def told():
    return []


@pytest.fixture
def sharing(folder, clock, told):
    return Sharing(str(folder), clock=clock, release=lambda engine, names: told.append((engine, names)))


@pytest.fixture
def put(folder):
    pools = {owner: Pool(str(folder), owner) for owner in ("c3", "e1", "e11")}

    def put(owner, byte):
        return pools[owner].put(memoryview(bytes([byte]) * SIZE))

    yield put
    for pool in pools.values():
        pool.close()


def task(number, shared, frames=0):
    return m.Task(FIRST + number, m.Action.APPLY, b"", b"", frames, shared=shared)


def seen(frames):
    return [bytes(frame[:1]) for frame in frames]


def test_only_peers_on_this_host_are_told_the_folder(sharing, folder):
    class Local(Peer):
        is_local = True

    assert sharing.folder_for(Peer(None, b"somebody")) == ""
    assert sharing.folder_for(Local(None)) == str(folder)


def test_tasks_for_another_host_carry_frames(sharing, put):
    shared = [m.Segment(0, put("c3", 1), SIZE), m.Segment(2, put("c3", 3), SIZE)]
    plain, large = task(0, None, 1), task(1, shared, 1)
    message, frames = sharing.as_frames(m.Assign([plain, large, plain], direct=True), [b"x", b"\2", b"y"])
    assert seen(frames) == [b"x", b"\1", b"\2", b"\3", b"y"]
    assert [each.frames for each in message.tasks] == [1, 3, 1]
    assert [each.shared for each in message.tasks] == [None] * 3
    assert message.direct
    assert large.shared == shared, "the book's own copy stays as it is, for the next engine"


def test_results_for_another_host_carry_frames_and_are_given_back(sharing, put, told):
    names = [put("e1", 7), put("e1", 8)]
    results = [
        m.Result(FIRST, 0, b"", 1),
        m.Result(FIRST + 1, 0, b"", 0, shared=[m.Segment(at, name, SIZE) for at, name in enumerate(names)]),
    ]
    message, frames = sharing.as_frames(m.Results(1, results), [b"x"])
    assert seen(frames) == [b"x", b"\7", b"\x08"]
    assert [(each.frames, each.shared) for each in message.results] == [(1, None), (2, None)]
    assert told == [(1, names)]


def test_a_payload_comes_back_to_its_place(sharing, put, told):
    name = put("c3", 1)
    large = task(0, [m.Segment(-1, name, SIZE)])
    message, frames = sharing.as_frames(m.Assign([large]), [])
    assert (message.tasks[0].payload, frames) == (b"\1" * SIZE, [])
    name = put("e1", 2)
    results = [m.Result(FIRST, 0, b"", 0, shared=[m.Segment(-1, name, SIZE), m.Segment(0, name, SIZE)])]
    message, frames = sharing.as_frames(m.Results(1, results), [])
    assert message.results[0].payload == b"\2" * SIZE
    assert seen(frames) == [b"\2"]


def test_a_result_whose_data_are_gone_says_so(sharing, told):
    lost = m.Result(FIRST, 0, b"", 1, shared=[m.Segment(0, "e1-99", SIZE)])
    message, frames = sharing.as_frames(m.Results(1, [lost, m.Result(FIRST + 1, 0, b"", 1)]), [b"x", b"y"])
    assert frames == [b"y"]
    assert message.results[0].status == m.Status.LOST
    assert "e1-99" in message.results[0].fault.evalue


def test_a_task_whose_data_are_gone_is_left_to_its_engine(sharing):
    lost = task(0, [m.Segment(0, "c3-99", SIZE)], 1)
    message, frames = sharing.as_frames(m.Assign([lost]), [b"x"])
    assert (message.tasks, frames) == ([lost], [b"x"])


def test_messages_without_segments_pass_as_they_are(sharing):
    for message in (m.Assign([task(0, None, 1)]), m.Results(1, [m.Result(1, 0, b"", 1)]), m.Pong(1)):
        frames = [b"x"]
        assert sharing.as_frames(message, frames) == (message, frames)
        assert sharing.as_frames(message, frames)[0] is message


def test_released_names_reach_their_engines(sharing, told):
    sharing.released(["e1-1", "e11-1", "c3-1", "e1-2", "ex-1", "", "e-", "lock"])
    assert told == [(1, ["e1-1", "e1-2"]), (11, ["e11-1"])]


def test_results_of_a_dead_engine_stay_for_a_while(sharing, put, folder, clock):
    mine, other = put("e1", 1), put("e11", 1)
    sharing.engine_gone(1)
    clock.now += GRACE - 1
    sharing.tick({})
    assert (folder / mine).exists()
    clock.now += 2
    sharing.tick({})
    assert [path.name for path in folder.iterdir()] == [other]


def test_data_of_a_client_that_left_stay_while_its_tasks_run(sharing, put, folder):
    name = put("c3", 1)
    running = {FIRST: task(0, [m.Segment(0, name, SIZE)]), FIRST + 1: task(1, None)}
    sharing.client_gone(3, running)
    sharing.tick(running)
    assert (folder / name).exists()
    del running[FIRST]
    sharing.tick(running)
    assert not list(folder.iterdir())


def test_without_shared_memory_there_is_nothing_to_do():
    none = Sharing("", clock=lambda: 0.0, release=lambda *_: None)
    none.engine_gone(1)
    none.client_gone(1, {})
    none.tick({})
    message = m.Assign([task(0, [m.Segment(0, "c3-1", 1)])])
    assert none.as_frames(message, []) == (message, [])


def result(number, put, owner="e1", client=3):
    shared = [m.Segment(0, put(owner, number), SIZE)]
    return m.Result((client << m.CLIENT_SHIFT) + number, m.Status.OK, b"", shared=shared)


def test_what_a_client_has_not_taken_is_counted(sharing, put, told):
    results = [result(1, put), result(2, put), result(3, put, "e11")]
    sharing.results_come(results, {3})
    assert sharing.in_flight(3) == 3 * SIZE
    names = [each.shared[0].name for each in results]
    sharing.released_by(3, names[:1])
    assert (sharing.in_flight(3), told) == (2 * SIZE, [(1, names[:1])])
    sharing.client_gone(3, {})
    assert (sharing.in_flight(3), told[1:]) == (0, [(1, [names[1]]), (11, [names[2]])]), "nobody else will take them"


def test_results_for_nobody_are_given_back(sharing, put, told):
    late, transfer = result(1, put), result(2, put, client=0)
    sharing.results_come([late, transfer, m.Result(FIRST, m.Status.OK, b"")], {4})
    assert told == [(1, [late.shared[0].name])], "what goes to an engine is not for a client"
