"""Buffers leave a message for shared memory and come back to their places."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from enginery.core.sharing import WORTH, put_together, set_aside
from enginery.wire import messages as m


class Shelf:
    """Segments in a dictionary; ``room`` says which of them find room."""

    def __init__(self, room=None):
        self.room = room
        self.contents = {}
        self.released = []
        self.leases = set()

    def put(self, data, lease=float("inf")):
        self.leases.add(lease)
        if self.room is not None and not (self.room and self.room.pop()):
            return None
        name = f"c1-{len(self.contents)}"
        self.contents[name] = bytes(data)
        return name

    def release(self, names):
        self.released += names

    def read(self, name, size):
        assert len(self.contents[name]) == size
        return memoryview(bytearray(self.contents[name]))


def data(size, mark):
    return bytes([mark % 256]) * size


SIZES = st.sampled_from([0, 1, 4096, WORTH - 1, WORTH, WORTH + 1])


@given(SIZES, st.lists(SIZES, max_size=6), st.none() | st.lists(st.booleans(), max_size=7))
def test_all_comes_back_to_its_place(payload, sizes, room):
    shelf = Shelf(room)
    buffers = [data(size, mark + 1) for mark, size in enumerate(sizes)]
    task = m.Task(1, 0, b"", data(payload, 0), len(buffers))
    frames = set_aside(task, [memoryview(each) for each in buffers], shelf)
    assert task.frames == len(frames)
    assert len(frames) + len(shelf.contents) - (not task.payload and payload > 0) == len(buffers)
    if room is None:
        assert all(frame.nbytes < WORTH for frame in frames)
        assert len(task.payload) < WORTH
    message = m.decode_from_client(m.encode(m.Submit([task])))
    whole, together = put_together(message.tasks[0], frames, shelf.read)
    assert whole == data(payload, 0)
    assert [bytes(each) for each in together] == buffers


def test_nothing_large_nothing_shared():
    result = m.Result(1, 0, b"small", 1)
    frames = [memoryview(b"x" * 5000)]
    assert set_aside(result, frames, Shelf()) == frames
    assert (result.payload, result.frames, result.shared) == (b"small", 1, None)


def test_frames_are_what_was_in_the_buffers_then():
    data = bytearray(b"x" * 5000)
    frames = set_aside(m.Result(1, 0, b"", 1), [memoryview(data)], Shelf())
    data[:] = b"y" * 5000
    assert frames == [b"x" * 5000]


def test_the_lease_is_handed_on():
    shelf = Shelf()
    set_aside(m.Result(1, 0, data(WORTH, 1)), [memoryview(data(WORTH, 2))], shelf, 60.0)
    assert shelf.leases == {60.0}


def test_an_interrupted_sender_keeps_nothing():
    class Interrupted(Shelf):
        def put(self, data, lease=0.0):
            if len(self.contents) == 2:
                raise KeyboardInterrupt
            return super().put(data, lease)

    shelf = Interrupted()
    with pytest.raises(KeyboardInterrupt):
        set_aside(m.Task(1, 0, b"", data(WORTH, 0)), [memoryview(data(WORTH, mark)) for mark in range(3)], shelf)
    assert shelf.released == ["c1-0", "c1-1"]
