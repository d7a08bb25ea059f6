"""A wakeup is readable exactly while something is announced, whatever the order in which threads come by."""

from __future__ import annotations

import gc
import os
import select
import threading

import pytest

from enginery.net.wakeup import Wakeup


def is_readable(wakeup, timeout=0.0):
    return bool(select.select([wakeup], [], [], timeout)[0])


@pytest.fixture(params=["eventfd", "pipe"])
def wakeup(request, monkeypatch):
    if request.param == "pipe":
        monkeypatch.delattr(os, "eventfd", raising=False)
    elif not hasattr(os, "eventfd"):
        pytest.skip("this system has no eventfd")
    return Wakeup()


def test_it_is_readable_while_set(wakeup):
    assert not is_readable(wakeup)
    wakeup.set()
    wakeup.set()
    assert wakeup.is_set
    assert is_readable(wakeup)
    wakeup.clear()
    assert not wakeup.is_set
    assert not is_readable(wakeup)


def test_clearing_what_is_clear_does_nothing(wakeup):
    wakeup.clear()
    wakeup.set()
    assert is_readable(wakeup)


def test_a_set_in_the_middle_of_clear_is_not_lost_for_good(wakeup, monkeypatch):
    # The order that once left the flag up with nothing to read: every later `set` was lost.
    read = os.read

    def interrupted(fd, size):
        data = read(fd, size)
        wakeup.set()
        return data

    wakeup.set()
    monkeypatch.setattr(os, "read", interrupted)
    wakeup.clear()
    monkeypatch.undo()
    wakeup.set()
    assert is_readable(wakeup)


def test_nothing_is_lost_between_threads(wakeup):
    announced, heard, count = 0, 0, 20_000
    over = threading.Event()

    def announce():
        nonlocal announced
        for _ in range(count):
            announced += 1
            wakeup.set()
        over.set()

    thread = threading.Thread(target=announce)
    thread.start()
    while heard < count:
        assert is_readable(wakeup, 10), f"{announced} announced, {heard} heard, flag {wakeup.is_set}"
        wakeup.clear()
        heard = announced
    thread.join()
    assert over.is_set()


def test_a_muted_one_is_silent(wakeup):
    wakeup.mute()
    wakeup.set()
    assert not is_readable(wakeup)


def test_its_descriptor_goes_with_it(wakeup):
    other = Wakeup()
    fd = other.fileno()
    os.fstat(fd)
    del other
    gc.collect()
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(fd)
