"""Callbacks: one after another, in a thread of their own, whatever one of them does."""

from __future__ import annotations

import threading
import time

import pytest

from enginery.client.callbacks import Callbacks

PATIENCE = 20


@pytest.fixture
def callbacks():
    callbacks = Callbacks("callbacks")
    yield callbacks
    callbacks.close(PATIENCE)


def test_in_order_and_in_one_thread(callbacks):
    made = []
    for n in range(100):
        callbacks.put(lambda n=n: made.append((n, threading.current_thread().name)))
    callbacks.close(PATIENCE)
    assert made == [(n, "callbacks") for n in range(100)]


def test_no_thread_before_it_is_needed():
    before = threading.active_count()
    callbacks = Callbacks("callbacks")
    assert threading.active_count() == before
    callbacks.close(PATIENCE)


def test_one_may_wait_for_what_another_thread_does(callbacks):
    event, over = threading.Event(), threading.Event()
    callbacks.put(lambda: event.wait(PATIENCE))
    callbacks.put(over.set)
    event.set()
    assert over.wait(PATIENCE)


@pytest.mark.parametrize("error", [ValueError, SystemExit, KeyboardInterrupt])
def test_one_that_raises_does_not_end_the_others(callbacks, caplog, error):
    def fail():
        raise error("mine")

    over = threading.Event()
    callbacks.put(fail)
    callbacks.put(over.set)
    assert over.wait(PATIENCE)
    assert "mine" in caplog.text


def test_closing_by_one_of_them(callbacks):
    over = threading.Event()
    callbacks.put(lambda: (callbacks.close(PATIENCE), over.set()))
    assert over.wait(PATIENCE)


def test_closing_does_not_wait_for_ever(callbacks):
    event = threading.Event()
    callbacks.put(lambda: event.wait(PATIENCE))
    began = time.monotonic()
    callbacks.close(0.05)
    assert time.monotonic() - began < PATIENCE / 2
    event.set()


def test_they_come_from_many_threads(callbacks):
    made = []
    threads = [threading.Thread(target=lambda: callbacks.put(lambda: made.append(1))) for _ in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    callbacks.close(PATIENCE)
    assert len(made) == 20
