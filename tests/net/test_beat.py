"""Beats of an owner: heard for as long as the file changes, and missed when it does not."""

from __future__ import annotations

import os
import select
import threading

import pytest

from enginery.net.beat import LEASE, LOOKS, PERIOD, BeatWatch, beat

PATIENCE = 20


@pytest.fixture
def path(tmp_path):
    return tmp_path / "owner"


class Turns:
    """Stands for the time between two looks: one passes when the test says so."""

    def __init__(self) -> None:
        self.may_look, self.waits = threading.Semaphore(0), threading.Semaphore(0)
        self.is_over = False

    def wait(self, _timeout):
        self.waits.release()
        assert self.may_look.acquire(timeout=PATIENCE)
        return self.is_over

    def set(self):
        self.is_over = True

    def pass_(self, times):
        for _ in range(times):
            assert self.waits.acquire(timeout=PATIENCE)
            self.may_look.release()


@pytest.fixture
def watch(path):
    watch = BeatWatch(path)
    watch.turns = watch._over = Turns()
    watch.start()
    assert watch.turns.waits.acquire(timeout=PATIENCE)  # it has looked for the first time
    watch.turns.waits.release()
    yield watch
    watch.close()
    watch.turns.may_look.release()
    watch._thread.join(PATIENCE)
    assert not watch._thread.is_alive()


def is_silent(watch):
    return bool(select.select([watch.fileno()], [], [], 0)[0])


def touch(path, when):
    beat(path)
    os.utime(path, (when, when))


def test_an_owner_that_beats_is_there(path, watch):
    for when in range(5):
        touch(path, when)
        watch.turns.pass_(LOOKS - 1)
    assert watch.turns.waits.acquire(timeout=PATIENCE)
    assert not is_silent(watch)
    watch.close()
    assert path.exists()


def test_one_that_is_silent_for_a_lease_is_gone(path, watch):
    touch(path, 1)
    watch.turns.pass_(LOOKS)  # the first of them finds it changed
    assert not is_silent(watch)
    watch.turns.pass_(1)
    assert select.select([watch.fileno()], [], [], PATIENCE)[0]
    watch.close()
    assert not path.exists()


def test_one_that_never_came_is_gone_as_well(path):
    watch = BeatWatch(path, lease=0.06)
    watch.start()
    assert select.select([watch.fileno()], [], [], PATIENCE)[0]


def test_a_beat_changes_the_file_and_bears_that_it_cannot(path):
    beat(path)
    assert path.exists()
    os.utime(path, (0, 0))
    beat(path)
    assert path.stat().st_mtime > 0
    beat(path / "no folder")
    assert PERIOD < LEASE / 2
