"""Sets that died are started anew, a limited number of times; nothing is once it was cancelled."""

from __future__ import annotations

import logging
import queue

import pytest

from enginery.cluster import restarts
from enginery.cluster.launchers.base import EngineLauncher
from enginery.cluster.restarts import MOST, Restarts

PATIENCE = 30


@pytest.fixture
def world(monkeypatch):
    monkeypatch.setattr(restarts, "FIRST_PAUSE", 0.0)
    started = queue.SimpleQueue()
    return Restarts(started.put, lambda: logging.getLogger("enginery.cluster")), started


def test_a_set_that_dies_at_once_is_given_up(world):
    again, started = world
    launcher = EngineLauncher(engine_set_id="a")
    for _ in range(MOST):
        again.began(launcher)
        assert again.ended(launcher)
        assert started.get(timeout=PATIENCE) is launcher
    again.began(launcher)
    assert not again.ended(launcher)


def test_a_long_life_makes_up_for_short_ones(world, monkeypatch):
    again, started = world
    launcher = EngineLauncher(engine_set_id="a")
    monkeypatch.setattr(restarts, "LONG_LIFE", -1.0)
    for _ in range(MOST + 2):
        again.began(launcher)
        assert again.ended(launcher)
        started.get(timeout=PATIENCE)


def test_what_was_cancelled_does_not_come(world, monkeypatch):
    again, started = world
    monkeypatch.setattr(restarts, "FIRST_PAUSE", 3600.0)
    first, second = EngineLauncher(engine_set_id="a"), EngineLauncher(engine_set_id="b")
    assert again.ended(first)
    assert again.ended(second)
    timers = list(again._timers.values())
    again.cancel("a")
    again.cancel()
    for timer in timers:
        timer.join(PATIENCE)
    assert started.empty()


def test_a_start_that_fails_is_told(monkeypatch, caplog):
    monkeypatch.setattr(restarts, "FIRST_PAUSE", 0.0)
    launcher = EngineLauncher(engine_set_id="a")
    done = queue.SimpleQueue()

    def start(_launcher):
        done.put(None)
        raise OSError("no room")

    again = Restarts(start, lambda: logging.getLogger("enginery.cluster"))
    with caplog.at_level(logging.WARNING, "enginery.cluster"):
        assert again.ended(launcher)
        (timer,) = again._timers.values() or [None]
        done.get(timeout=PATIENCE)
        if timer is not None:
            timer.join(PATIENCE)
    assert "Engine set a could not be started anew: no room" in caplog.text
