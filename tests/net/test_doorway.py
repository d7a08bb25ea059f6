"""Connections of a zmq port that have not said anything: found, cut off, and told from others with the same number."""

from __future__ import annotations

import socket

import pytest
import zmq

from enginery.net.doorway import EVENTS, Doorway

PATIENCE = 20


@pytest.fixture
def port():
    """A ROUTER, its doorway, and how to knock."""
    with zmq.Context() as context:
        router = context.socket(zmq.ROUTER)
        router.linger = 0
        doorway = Doorway(router.get_monitor_socket(EVENTS))
        number = router.bind_to_random_port("tcp://127.0.0.1")
        ends = []

        def knock():
            ends.append(socket.create_connection(("127.0.0.1", number), timeout=PATIENCE))
            return ends[-1]

        yield doorway, router, knock, context, number
        for end in ends:
            end.close()
        router.disable_monitor()
        doorway.close()
        router.close()


def wait_for(doorway, text, now=0.0):
    for _ in range(PATIENCE * 20):
        doorway._monitor.poll(50)
        doorway.hear(now)
        if text in repr(doorway):
            return
    pytest.fail(f"{doorway!r} never became {text}")


def is_closed(end):
    try:
        while end.recv(100):
            pass
    except ConnectionResetError:
        pass
    return True


def test_those_who_take_too_long(port):
    doorway, _, knock, *_ = port
    end = knock()
    wait_for(doorway, "waiting=1", now=5.0)
    assert doorway.overdue(14.0, patience=10.0, most=10) == []
    late = doorway.overdue(16.0, patience=10.0, most=10)
    assert len(late) == 1
    doorway.cut(late)
    assert is_closed(end)
    wait_for(doorway, "waiting=0")


def test_the_oldest_of_too_many(port):
    doorway, _, knock, *_ = port
    first = knock()
    wait_for(doorway, "waiting=1")
    knock()
    wait_for(doorway, "waiting=2")
    doorway.cut(doorway.overdue(0.0, patience=10.0, most=1))
    assert is_closed(first)


def test_one_who_has_spoken(port):
    doorway, router, _, context, number = port
    with context.socket(zmq.DEALER) as dealer:
        dealer.linger = 0
        dealer.connect(f"tcp://127.0.0.1:{number}")
        dealer.send(b"hello")
        identity = router.recv()
        fd = router.recv(copy=False).get(zmq.SRCFD)
        doorway.spoke(fd, identity, 0.0)
        assert repr(doorway) == "<Doorway waiting=0 known=1>"
        assert doorway.whose(identity) == fd
        assert doorway.whose(b"somebody else") == -1
        assert doorway.overdue(1000.0, patience=1.0, most=0) == []
        doorway.cut_known(fd, b"somebody else", 0.0)
        assert "known=1" in repr(doorway)
        doorway.cut_known(fd, identity, 0.0)
        assert doorway.whose(identity) == -1


def test_one_who_has_gone(port):
    doorway, _, knock, *_ = port
    end = knock()
    wait_for(doorway, "waiting=1")
    late = doorway.overdue(100.0, patience=1.0, most=10)
    end.close()
    wait_for(doorway, "waiting=0")
    doorway.cut(late)  # and nobody else's connection, which may have that number by now
