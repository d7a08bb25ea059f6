"""Which descriptors are ready: the same with epoll and with the standard library's selectors."""

from __future__ import annotations

import os
import select
import socket

import pytest

from enginery.controller.readiness import READ, WRITE, Readiness


@pytest.fixture(params=["epoll", "selectors"])
def readiness(request, monkeypatch):
    if request.param == "selectors":
        monkeypatch.delattr(select, "epoll", raising=False)
    elif not hasattr(select, "epoll"):
        pytest.skip("this system has no epoll")
    return Readiness()


@pytest.fixture
def pair():
    ends = socket.socketpair()
    yield ends
    for end in ends:
        end.close()


def test_who_watches_is_found_by_descriptor(readiness, pair):
    heard = []
    here, there = pair
    readiness.watch(here.fileno(), heard.append)
    assert readiness.poll(0.0) == []
    there.send(b"x")
    ((fd, events),) = readiness.poll(10.0)
    assert (fd, events) == (here.fileno(), READ)
    readiness.reactions[fd](events)
    assert heard == [READ]


def test_writing_is_looked_for_on_demand(readiness, pair):
    here = pair[0]
    readiness.watch(here.fileno(), print)
    readiness.modify(here.fileno(), READ | WRITE)
    assert readiness.poll(10.0) == [(here.fileno(), WRITE)]
    readiness.modify(here.fileno(), READ)
    assert readiness.poll(0.0) == []


def test_an_end_is_something_to_read(readiness, pair):
    here, there = pair
    readiness.watch(here.fileno(), print)
    there.close()
    ((_, events),) = readiness.poll(10.0)
    assert events & ~WRITE


def test_forgetting(readiness, pair):
    here, there = pair
    readiness.watch(here.fileno(), print)
    there.send(b"x")
    readiness.forget(here.fileno())
    readiness.forget(here.fileno())
    assert (readiness.poll(0.0), readiness.reactions) == ([], {})


def test_files_are_watched_like_sockets(readiness):
    reader, writer = os.pipe()
    readiness.watch(reader, print)
    os.close(writer)
    assert [fd for fd, _ in readiness.poll(10.0)] == [reader]
    readiness.forget(reader)
    os.close(reader)
