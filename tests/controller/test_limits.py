"""Limits of one peer: what they are, and that a port keeps to them."""

from __future__ import annotations

import dataclasses
import errno
import os
import socket
import tempfile
from pathlib import Path

import pytest

from enginery.controller.limits import Limits, half_of_memory
from enginery.controller.ports import Port
from enginery.net.sockets import listen_on_path


def test_half_of_the_memory_there_is(monkeypatch):
    assert half_of_memory() > 64 << 20
    monkeypatch.setattr(os, "sysconf", lambda name: (_ for _ in ()).throw(ValueError))
    assert half_of_memory.__wrapped__() == 4 << 30


def test_what_a_stream_has_to_know():
    limits = Limits(header=1, frames=2, message=3)
    assert limits.bounds == (1, 2, 3)
    with pytest.raises(dataclasses.FrozenInstanceError):
        limits.header = 2


@pytest.fixture
def make_port():
    ports = []
    with tempfile.TemporaryDirectory(prefix="eng-") as folder:

        def make(**limits):
            path = Path(folder, str(len(ports)))
            ports.append(Port("clients", [], listen_on_path(path), None, Limits(**limits)))
            return ports[-1], path

        yield make
        for port in ports:
            port.close(0.0)


@pytest.fixture
def dial():
    ends = []

    def dial(path):
        ends.append(socket.socket(socket.AF_UNIX))
        ends[-1].settimeout(20)
        ends[-1].connect(str(path))
        return ends[-1]

    yield dial
    for end in ends:
        end.close()


def test_no_more_connections_than_allowed(make_port, dial, caplog):
    port, path = make_port(connections=2)
    ends = [dial(path) for _ in range(4)]
    assert len(list(port.accept())) == 2
    assert [end.recv(1) for end in ends[2:]] == [b"", b""]
    assert "1 connections turned away" in caplog.text


def test_no_descriptor_is_left(make_port, dial, monkeypatch, caplog):
    """Who knocks is turned away: else the listener would be ready for ever, and the loop would never rest."""
    port, path = make_port()
    end = dial(path)
    listener, failures = port.listener, [OSError(errno.EMFILE, "Too many open files")]

    class Full:
        def accept(self):
            if failures:
                raise failures.pop()
            return listener.accept()

        def close(self):
            listener.close()

    monkeypatch.setattr(port, "listener", Full())
    assert list(port.accept()) == []
    assert end.recv(1) == b""
    assert "turned away" in caplog.text


def test_strangers(make_port, dial):
    port, path = make_port(hello=10.0, strangers=2)
    ends = [dial(path) for _ in range(4)]
    peers = list(port.accept())
    assert len(ends) == len(peers) == 4
    peers[0].role = "client"
    now = peers[0].heard
    assert port.overdue(now) == [peers[1]]
    assert port.overdue(now + 11) == peers[1:]


def test_who_does_not_read(make_port, dial, caplog):
    port, path = make_port(queue=1_000_000)
    dial(path)
    (peer,) = port.accept()
    sent = 0
    while port.send(peer, bytes(1000), [bytes(100_000)]):
        sent += 101_000
        assert sent < 100_000_000
    assert peer.stream.unsent > 1_000_000
    assert "has not read" in caplog.text
