"""A port: connections in, messages out, and descriptors that are used again."""

from __future__ import annotations

import select
import socket
import tempfile
from pathlib import Path

import pytest

from enginery.controller import ports
from enginery.controller.ports import Peer, Port
from enginery.net.channel import ChannelClosed
from enginery.net.sockets import listen_on_path
from enginery.net.stream import Stream


@pytest.fixture
def path():
    with tempfile.TemporaryDirectory(prefix="eng-") as folder:
        yield Path(folder, "p")


@pytest.fixture
def port(path):
    port = Port("clients", [f"ipc://{path}"], listen_on_path(path), None)
    yield port
    port.close(0.0)


@pytest.fixture
def dial(path):
    ends = []

    def dial():
        end = socket.socket(socket.AF_UNIX)
        end.connect(str(path))
        ends.append(Stream(end))
        return ends[-1]

    yield dial
    for end in ends:
        end.close(0.0)


def test_peers_come_and_speak(port, dial):
    one, other = dial(), dial()
    first, second = port.accept()
    assert list(port.accept()) == []
    port.introduced(first)
    one.send(b"hello", [b"frame"])
    other.send(b"hi", [])
    ((header, frames),) = first.stream.receive()
    assert (bytes(header), [bytes(frame) for frame in frames]) == (b"hello", [b"frame"])
    assert port.send(second, b"welcome", [])
    assert bytes(other.receive()[0][0]) == b"welcome"
    assert first.is_local
    assert repr(first) == "<Peer unknown -1>"


def test_a_peer_that_takes_nothing_is_stuck_until_it_does(port, dial):
    end = dial()
    (peer,) = port.accept()
    assert port.send(peer, b"h", [bytes(8 << 20)])
    assert port.stuck == {peer.stream.fileno()}
    got = []
    while not got:
        port.write(peer)
        select.select([end], [], [], 1)
        got = end.receive()
    assert port.write(peer)
    assert port.stuck == set()
    assert len(got[0][1][0]) == 8 << 20


def test_a_peer_that_is_gone(port, dial):
    end = dial()
    (peer,) = port.accept()
    end.close(0.0)
    with pytest.raises(ChannelClosed):
        peer.stream.receive()
    assert not port.send(peer, b"x", [])
    fd = port.forget(peer)
    assert fd == peer.stream.fileno()
    assert port.forget(peer) == -1
    peer.stream.close(0.0)
    assert not port.send(peer, b"x", [])


def test_a_descriptor_that_is_used_again_is_not_taken_for_the_old_one(port, dial):
    dial(), dial()
    old = next(port.accept())
    fd = port.forget(old)
    old.stream.close(0.0)
    new = next(port.accept())
    assert new.stream.fileno() == fd
    assert port.forget(old) == -1
    assert port.streams == {fd: new}


def test_other_users_are_turned_away(port, dial, monkeypatch):
    monkeypatch.setattr(ports, "_is_own", lambda socket: False)
    end = dial()
    assert list(port.accept()) == []
    with pytest.raises(ChannelClosed):
        select.select([end], [], [], 5)
        end.receive()


def test_the_kernel_is_asked_who_it_is():
    one, other = socket.socketpair()
    with one, other:
        assert ports._is_own(one)


def test_nobody_on_a_router_that_is_not_there(port):
    stranger = Peer(port, b"identity")
    assert not port.send(stranger, b"x", [])
    assert not stranger.is_local
    assert port.forget(stranger) == -1
