"""Ctrl-C that is held back comes later, once, and to whoever handles it."""

from __future__ import annotations

import os
import signal
import threading

import pytest

from enginery.cluster.ctrl_c import held_back


def interrupt():
    os.kill(os.getpid(), signal.SIGINT)


def test_it_comes_at_the_end():
    done = []
    with pytest.raises(KeyboardInterrupt), held_back():
        interrupt()
        interrupt()
        done.append(1)
    assert done == [1]
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_nothing_comes_of_nothing():
    with held_back():
        pass
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_it_follows_what_went_wrong():
    with pytest.raises(KeyboardInterrupt) as caught, held_back():
        interrupt()
        raise ValueError
    assert isinstance(caught.value.__context__, ValueError)


def test_handlers_of_others_are_kept():
    called = []
    before = signal.signal(signal.SIGINT, lambda *args: called.append(args))
    try:
        with held_back():
            interrupt()
            assert not called
        assert len(called) == 1
    finally:
        signal.signal(signal.SIGINT, before)


def test_who_ignores_it_goes_on_ignoring_it():
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with held_back():
            interrupt()
        assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGINT, before)


def test_other_threads_have_nothing_to_hold_back():
    def work():
        with held_back():
            seen.append(signal.getsignal(signal.SIGINT))

    seen = []
    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [signal.default_int_handler]
