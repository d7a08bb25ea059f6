"""Messages over a Unix socket come out as they went in, however the bytes are cut; what is no message ends it."""

from __future__ import annotations

import select
import socket
import struct
import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from enginery.net.channel import ChannelClosed
from enginery.net.stream import BLOCK, LARGEST_KEPT, MAGIC, MAX_BUFFERS, PAGES, USUAL, Stream

PREFIX = struct.Struct("<HII")


@pytest.fixture
def pair():
    one, other = socket.socketpair()
    streams = Stream(one), Stream(other)
    yield streams
    for stream in streams:
        stream.close(0.0)


@pytest.fixture
def raw():
    """A stream, and the bare socket at its other end."""
    one, other = socket.socketpair()
    stream = Stream(one)
    yield stream, other
    stream.close(0.0)
    other.close()


def packed(header, *frames):
    lengths = struct.pack(f"<{len(frames)}Q", *map(len, frames))
    return PREFIX.pack(MAGIC, len(frames), len(header)) + lengths + header + b"".join(frames)


def taken(stream):
    """What is there, as bytes."""
    return [(bytes(header), [bytes(frame) for frame in frames]) for header, frames in stream.receive()]


def carry(sender, receiver, messages):
    """Send all, and receive as many."""
    for message in messages:
        sender.send(*message)
    got = []
    while len(got) < len(messages):
        writers = [sender] if sender.wants_write else []
        readable, writable, _ = select.select([receiver], writers, [], 10)
        assert readable or writable, f"stuck after {len(got)} of {len(messages)} messages"
        if writable:
            sender.write()
        if readable:
            got += taken(receiver)
    return got


def test_a_message_without_frames(pair):
    assert carry(*pair, [(b"hello", [])]) == [(b"hello", [])]


@pytest.mark.parametrize(
    "frames",
    [
        [b"a"],
        [b""],
        [b"", b"x", b""],
        [b"x" * 4096, b"y" * 8192],
        [bytes(PAGES - 1), bytes(PAGES), bytes(PAGES + 1)],
        [bytes([n % 251]) * 5 for n in range(3 * MAX_BUFFERS + 1)],
        [b"z" * (5 << 20)],
    ],
    ids=["one", "empty", "empties", "two", "around a page", "more than one call takes", "larger than the kernel keeps"],
)
def test_frames_arrive_whole_and_writable(pair, frames):
    sender, receiver = pair
    assert carry(sender, receiver, [(b"head", frames)]) == [(b"head", frames)]


def test_more_frames_than_two_bytes_can_count(pair):
    frames = [b"f"] * 70_000
    assert carry(*pair, [(b"head", frames), (b"next", [])]) == [(b"head", frames), (b"next", [])]


def test_frames_can_be_written(pair):
    sender, receiver = pair
    for size in (10, PAGES):
        sender.send(b"h", [bytes(size)])
        ((_, (frame,)),) = receiver.receive()
        frame[0] = 7
        assert frame[0] == 7


def test_buffers_of_other_types_go_as_their_bytes(pair):
    array = memoryview(struct.pack("4d", 1, 2, 3, 4)).cast("d")
    assert carry(*pair, [(b"h", [array, bytearray(b"ab")])]) == [(b"h", [bytes(array), b"ab"])]


def test_many_messages_in_one_read(pair):
    messages = [(b"%d" % n, []) for n in range(1000)]
    assert carry(*pair, messages) == messages


def test_headers_are_good_until_the_next_read(pair):
    sender, receiver = pair
    for n in range(100):
        sender.send(b"header %d" % n, [b"frame"] if n % 3 == 0 else [])
    messages = receiver.receive()
    assert [bytes(header) for header, _ in messages] == [b"header %d" % n for n in range(100)]


def test_a_header_larger_than_the_block_and_back_to_normal(pair):
    sender, receiver = pair
    large = bytes(range(256)) * (20 * LARGEST_KEPT // 256)
    assert carry(sender, receiver, [(b"a", []), (large, []), (b"b", [b"c"])]) == [
        (b"a", []),
        (large, []),
        (b"b", [b"c"]),
    ]
    carry(sender, receiver, [(b"x", [])])
    assert len(receiver._block) == BLOCK


def test_a_large_header_is_not_moved_with_each_read(pair, monkeypatch):
    # Moving what is there before each read made 100 MB take 8 s.
    sender, receiver = pair
    views = []
    monkeypatch.setattr(
        Stream,
        "_parse",
        lambda self, messages, original=Stream._parse: (original(self, messages), views.append(self._view))[0],
    )
    carry(sender, receiver, [(bytes(8 << 20), [])])
    assert len({id(view) for view in views}) <= 3


class TestCut:
    """The bytes may come in any pieces."""

    STREAM = b"".join(
        [
            packed(b"one"),
            packed(b"two", b"frame", b"", b"x" * 5000),
            packed(b""),
            packed(b"three" * 9000, b"y" * 70_000),
            packed(b"four"),
        ]
    )
    MESSAGES = (
        (b"one", []),
        (b"two", [b"frame", b"", b"x" * 5000]),
        (b"", []),
        (b"three" * 9000, [b"y" * 70_000]),
        (b"four", []),
    )

    @given(st.lists(st.integers(0, len(STREAM)), max_size=30))
    def test_anywhere(self, cuts):
        one, other = socket.socketpair()
        stream = Stream(one)
        try:
            got = []
            for begin, end in zip([0, *sorted(cuts)], [*sorted(cuts), len(self.STREAM)], strict=True):
                other.sendall(self.STREAM[begin:end])
                while select.select([stream], [], [], 0)[0]:
                    got += taken(stream)
            assert tuple(got) == self.MESSAGES
        finally:
            stream.close(0.0)
            other.close()

    def test_byte_by_byte(self, raw):
        stream, other = raw
        got = []
        for byte in packed(b"head", b"frame", b"") + packed(b"next"):
            other.send(bytes([byte]))
            got += taken(stream)
        assert got == [(b"head", [b"frame", b""]), (b"next", [])]


class TestGarbage:
    @pytest.mark.parametrize(
        "data",
        [
            b"GET / HTTP/1.1\r\n\r\n",
            PREFIX.pack(MAGIC ^ 1, 0, 3) + b"abc",
            PREFIX.pack(MAGIC, 0, 0xFFFFFFFF),
            PREFIX.pack(MAGIC, 0xFFFFFFFF, 3),
            PREFIX.pack(MAGIC, 1, 3) + struct.pack("<Q", USUAL.size + 1) + b"abc",
            PREFIX.pack(MAGIC, 2, 3) + struct.pack("<2Q", 3, 2**64 - 1) + b"abc",
        ],
        ids=["http", "wrong magic", "gigantic header", "gigantic number of frames", "gigantic frame", "second frame"],
    )
    def test_it_ends_the_connection(self, raw, data):
        stream, other = raw
        other.sendall(data)
        with pytest.raises(ChannelClosed):
            stream.receive()

    def test_what_memory_cannot_hold_ends_it_too(self, raw, monkeypatch):
        stream, other = raw

        def no_memory(size):
            raise OSError(12, "Cannot allocate memory")

        monkeypatch.setattr("enginery.net.stream._memory", no_memory)
        other.sendall(PREFIX.pack(MAGIC, 1, 3) + struct.pack("<Q", 1 << 39) + b"abc")
        with pytest.raises(ChannelClosed, match="no memory"):
            stream.receive()

    def test_good_messages_before_the_end_are_not_lost(self, raw):
        stream, other = raw
        other.sendall(packed(b"good") + packed(b"bad", b"x" * 100)[:-1])
        other.shutdown(socket.SHUT_WR)
        assert taken(stream) == [(b"good", [])]
        with pytest.raises(ChannelClosed, match="in the middle"):
            stream.receive()

    def test_half_a_message_and_the_end(self, raw):
        stream, other = raw
        other.sendall(packed(b"header")[:-1])
        assert taken(stream) == []
        other.close()
        with pytest.raises(ChannelClosed, match="closed by the other side"):
            stream.receive()


class TestTheEnd:
    def test_of_the_other_side(self, pair):
        sender, receiver = pair
        sender.send(b"last", [])
        sender.close(1.0)
        assert taken(receiver) == [(b"last", [])]
        with pytest.raises(ChannelClosed):
            receiver.receive()
        with pytest.raises(ChannelClosed):
            for _ in range(3):
                receiver.send(b"x" * 100, [])

    def test_closing_lets_out_what_was_sent(self, pair):
        sender, receiver = pair
        frames = [bytes(3 << 20)]
        sender.send(b"h", frames)
        assert sender.wants_write
        closing = threading.Thread(target=sender.close, args=(10.0,))
        closing.start()
        got = []
        while not got:
            select.select([receiver], [], [], 10)
            got = taken(receiver)
        closing.join()
        assert got == [(b"h", frames)]

    def test_closing_does_not_wait_for_those_who_do_not_read(self, pair):
        sender, _ = pair
        sender.send(b"h", [bytes(8 << 20)])
        sender.close(0.01)

    def test_writing_to_who_has_gone(self, pair):
        sender, receiver = pair
        sender.send(b"h", [bytes(8 << 20)])
        receiver.close(0.0)
        with pytest.raises(ChannelClosed):
            sender.write()

    def test_abandoning_leaves_the_other_copy_alone(self, pair):
        sender, receiver = pair
        copy = Stream(sender._socket.dup())
        copy.abandon()
        assert carry(sender, receiver, [(b"still here", [])]) == [(b"still here", [])]


def test_it_shows_itself(pair):
    assert repr(pair[0]) == f"<Stream fd={pair[0].fileno()} unsent=0>"
    assert not pair[0].has_unseen()
