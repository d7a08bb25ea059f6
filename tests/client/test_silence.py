"""Waits that take long say what they wait for."""

from __future__ import annotations

import sys

import pytest

from enginery.client import silence
from enginery.client.silence import AGAIN, FIRST, Silence, has_listener, wait_for


class Clock:
    """Time that passes only while somebody waits."""

    def __init__(self, done_at=float("inf")):
        self.now = 100.0
        self.done_at = 100.0 + done_at
        self.waits = []

    def wait(self, timeout):
        self.waits.append(timeout)
        left = self.done_at - self.now
        if timeout is not None and timeout < left:
            self.now += timeout
            return False
        self.now = self.done_at
        return True


@pytest.fixture
def clock(monkeypatch):
    clock = Clock()
    monkeypatch.setattr(silence, "monotonic", lambda: clock.now)
    monkeypatch.setenv(silence.VARIABLE, "1")
    return clock


def test_short_waits_are_silent(clock, capsys):
    clock.done_at = clock.now + 4.9
    assert Silence(lambda: "never asked" + 1).wait(clock.wait, None)
    assert clock.waits == [FIRST]
    assert capsys.readouterr().err == ""


def test_long_waits_say_so_once_and_then_rarely(clock, capsys):
    clock.done_at = clock.now + 70
    assert Silence(lambda: "the result of f: It runs.").wait(clock.wait, None)
    assert clock.waits == [FIRST, AGAIN, AGAIN, AGAIN]
    assert capsys.readouterr().err.splitlines() == [
        f"enginery: waiting for {seconds:.0f} s for the result of f: It runs."
        for seconds in (FIRST, FIRST + AGAIN, FIRST + 2 * AGAIN)
    ]


@pytest.mark.parametrize(("timeout", "waits"), [(3, [3]), (5, [5]), (12, [5, 7]), (35, [5, 30]), (36, [5, 30, 1])])
def test_a_timeout_is_kept(clock, timeout, waits):
    assert not Silence(lambda: "it").wait(clock.wait, timeout)
    assert clock.waits == waits
    assert clock.now == 100 + timeout


def test_nothing_is_said_where_nobody_listens(clock, capsys, monkeypatch):
    monkeypatch.setenv(silence.VARIABLE, "0")
    clock.done_at = clock.now + 70
    assert Silence(lambda: "never asked" + 1).wait(clock.wait, None)
    assert capsys.readouterr().err == ""


def test_who_listens(monkeypatch):
    monkeypatch.delenv(silence.VARIABLE, raising=False)
    monkeypatch.delenv(silence.NONINTERACTIVE, raising=False)
    monkeypatch.delattr(sys, "ps1", raising=False)
    monkeypatch.setattr(sys, "stderr", None)
    assert not has_listener()
    monkeypatch.setattr(sys, "ps1", ">>> ", raising=False)
    assert has_listener()
    monkeypatch.setenv(silence.NONINTERACTIVE, "1")
    assert not has_listener()
    monkeypatch.setenv(silence.VARIABLE, "1")
    assert has_listener()


def test_short_timeouts_go_straight_to_the_link(link):
    assert not wait_for(link, lambda: False, 0.0, lambda: "never asked" + 1)
    assert wait_for(link, lambda: True, None, lambda: "never asked" + 1)


# --- what is said ---------------------------------------------------------------------------------------------------


@pytest.fixture
def impatient(monkeypatch):
    monkeypatch.setattr(silence, "FIRST", 0.01)
    monkeypatch.setenv(silence.VARIABLE, "1")


@pytest.mark.usefixtures("impatient")
def test_a_result_says_which_and_why(lview, link, capsys):
    link.held = True
    ar = lview.apply_async(abs, -1)
    assert not ar.wait(0.1)
    said = capsys.readouterr().err.splitlines()
    assert len(said) == 1
    assert said[0].endswith(f"for the result of abs (message id {ar.msg_id}): It runs on engine 0.")
    link.held = False
    assert ar.get() == 1


@pytest.mark.usefixtures("impatient")
def test_an_iteration_says_so(lview, link, capsys):
    link.held = True
    results = lview.imap(abs, [-1, -2])
    with pytest.raises(TimeoutError):
        results.next(0.1)
    assert "for result 0 of abs (message id s0_0): It runs on engine 0." in capsys.readouterr().err
    link.held = False


@pytest.mark.usefixtures("impatient")
def test_waiting_for_jobs_and_engines_says_so(client, lview, link, capsys):
    link.held = True
    first, second = (lview.apply_async(abs, -1) for _ in range(2))
    assert not client.wait([first, second], 0.1)
    assert "for 2 of 2 jobs. The last: the result of abs" in capsys.readouterr().err
    assert not client.wait(timeout=0.1)
    assert "for 2 requests. The first: It runs on engine 0." in capsys.readouterr().err
    with pytest.raises(TimeoutError):
        client.wait_for_engines(5, timeout=0.1)
    assert "for 5 engines; 2 are there (0, 1)." in capsys.readouterr().err
    told = ""
    while "for the result of abs" not in told:  # it is said between two looks, of which a busy machine leaves few
        assert not first.wait_interactive(interval=0.01, timeout=0.1)
        told += capsys.readouterr().err
    link.held = False
