"""Connections over tcp: encrypted, for those whose key opens the port, and gone when the other side is gone."""

from __future__ import annotations

import contextlib
import select
import socket
import threading

import pytest

from enginery.net.channel import ChannelClosed
from enginery.net.connection_file import ConnectionInfo
from enginery.net.curve import Doorkeeper, KeyPair, has_curve
from enginery.net.line import Line
from enginery.net.routed import RoutedChannel, Router, listen_for_zap, new_context

PATIENCE = 20
pytestmark = pytest.mark.skipif(not has_curve(), reason="this libzmq has no CURVE")


class House:
    """A router with its doorkeeper."""

    def __init__(self) -> None:
        self.context = new_context()
        self.keys = {name: KeyPair.make() for name in ("server", "client", "engine")}
        self.doorkeeper = Doorkeeper(listen_for_zap(self.context), {"client": {self.keys["client"].public}})
        self.router = Router(self.context, "tcp://127.0.0.1:*", domain="client", keys=self.keys["server"])
        self.open = True

    def info(self, who="client", server=None):
        mine = self.keys[who]
        return ConnectionInfo(
            kind="client",
            url=self.router.url,
            server_key=(server or self.keys["server"]).public,
            public_key=mine.public,
            secret_key=mine.secret,
        )

    def serve(self, count=0, until=lambda: False):
        """Answer the door until ``count`` messages are here, or ``until()`` holds."""
        got = []
        fds = [self.router.fileno(), self.doorkeeper.socket.FD]
        for _ in range(PATIENCE * 50):
            self.doorkeeper.answer()
            got += [(who, bytes(head), [bytes(f) for f in frames]) for who, head, frames in self.router.receive()]
            if (count and len(got) >= count) or until():
                return got
            select.select(fds, [], [], 0.02)
        pytest.fail(f"nothing came: {got}")

    def close(self):
        if self.open:
            self.open = False
            self.router.close(0)
            self.doorkeeper.close()
            self.context.term()


@pytest.fixture
def house():
    house = House()
    yield house
    house.close()


@contextlib.contextmanager
def dialled(house, info=None):
    channel = RoutedChannel(info or house.info(), house.router.url)
    try:
        yield channel
    finally:
        channel.close(0)


def receive(channel, count):
    got = []
    while len(got) < count:
        if not channel.has_unseen():
            assert select.select([channel], [], [], PATIENCE)[0], "nothing came"
        for header, frames in channel.receive():
            got.append((bytes(header), [bytes(frame) for frame in frames]))
            if len(got) == count:
                break
    return got


def test_there_and_back(house):
    with dialled(house) as channel:
        channel.send(b"hello", [])
        channel.send(b"head", [b"frame", b"", bytes(1 << 20)])
        (who, *first), second = house.serve(2)
        assert first == [b"hello", []]
        assert second == (who, b"head", [b"frame", b"", bytes(1 << 20)])
        assert house.router.send(who, b"welcome", [b"x", bytearray(b"y")])
        assert house.router.send(who, b"more", [])
        assert receive(channel, 2) == [(b"welcome", [b"x", b"y"]), (b"more", [])]
        channel.write()
        assert not channel.wants_write


def test_sending_to_nobody_is_said(house):
    assert not house.router.send(b"nobody", b"head", [b"frame"])


def ended(channel, serve=None):
    """Wait for the end of a channel; what was said about it."""
    while True:
        if serve is not None:
            serve()
        if not channel.has_unseen():
            select.select([channel], [], [], 0.02 if serve else PATIENCE)
        try:
            list(channel.receive())
        except ChannelClosed as error:
            return str(error)


def test_the_end_of_the_other_side_is_noticed_at_once(house):
    with dialled(house) as channel:
        channel.send(b"hello", [])
        house.serve(1)
        house.close()
        assert ended(channel) == "the connection was closed by the other side"


def test_what_came_before_the_end_is_not_lost(house):
    with dialled(house) as channel:
        channel.send(b"hello", [])
        ((who, *_),) = house.serve(1)
        house.router.send(who, b"last words", [])
        house.router.close(1)
        assert receive(channel, 1) == [(b"last words", [])]
        house.close()
        assert "closed" in ended(channel)


def test_a_key_of_another_kind_does_not_open_the_port(house):
    with dialled(house, house.info("engine")) as channel:
        channel.send(b"hello", [])
        assert "does not accept the keys" in ended(channel, house.doorkeeper.answer)
        assert house.doorkeeper.refused == 1
        assert house.serve(until=lambda: True) == []


def test_another_controller_in_the_same_place_is_found_out(house):
    with dialled(house, house.info(server=KeyPair.make())) as channel:
        channel.send(b"hello", [])
        assert ended(channel, house.doorkeeper.answer)
        assert house.serve(until=lambda: True) == []


def test_without_keys_nobody_comes_in(house):
    with dialled(house, ConnectionInfo(kind="client", url=house.router.url)) as channel:
        with contextlib.suppress(ChannelClosed):  # and does not wait for ever, as libzmq would
            channel.send(b"hello", [])
        assert ended(channel, house.doorkeeper.answer)


@pytest.mark.parametrize(
    "data", [b"GET / HTTP/1.1\r\n\r\n", b"\xff" * 64, b"\xff\x00\x00\x00\x00\x00\x00\x00\x01\x7f\x03" + bytes(53)]
)
def test_garbage_harms_nobody(house, data):
    host, port = "127.0.0.1", int(house.router.url.rpartition(":")[2])
    with socket.create_connection((host, port)) as stranger, dialled(house) as channel:
        stranger.sendall(data)
        channel.send(b"hello", [])
        assert [head for _, head, _ in house.serve(1)] == [b"hello"]


def test_a_taken_port_is_named(house):
    with pytest.raises(OSError, match=f"Cannot listen on {house.router.url}.*another port"):
        Router(house.context, house.router.url, domain="client", keys=None)


class Mind:
    """Notes what it hears."""

    def __init__(self) -> None:
        self.got = []
        self.outgoing = []
        self.why = None

    def next_message(self):
        return (self.outgoing[0], []) if self.outgoing else None

    def sent(self):
        self.outgoing.pop(0)

    def heard(self, header, frames):
        self.got.append(bytes(header))

    def lost(self, why):
        self.why = why

    def tick(self, now):
        pass

    def next_deadline(self):
        return float("inf")

    def after_turn(self):
        pass

    def forked(self):
        pass


def test_a_line_over_it(house):
    """Its descriptor tells of changes only: nothing may be overlooked after any use of the socket."""
    over = threading.Event()

    def echo():
        house.doorkeeper.answer()
        while not over.is_set():
            for who, head, frames in house.router.receive():
                house.router.send(who, bytes(head), frames)
            house.doorkeeper.answer()
            select.select([house.router.fileno(), house.doorkeeper.socket.FD], [], [], 0.02)

    mind = Mind()
    line = Line(RoutedChannel(house.info(), house.router.url), mind, name="line")
    line.start()
    thread = threading.Thread(target=echo)
    thread.start()
    for n in range(300):
        mind.outgoing.append(b"%d" % n)
        assert line.wait_for(lambda n=n: len(mind.got) > n, PATIENCE)
    over.set()
    thread.join()
    house.close()
    assert line.wait_for(lambda: mind.why, PATIENCE)
    line.close()
