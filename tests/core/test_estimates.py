"""Run times are learnt, smoothed, and never nonsense."""

from __future__ import annotations

import pytest

from enginery.core import estimates as room
from enginery.core.estimates import FLOOR, LONGEST, UNKNOWN, Estimates


def test_a_function_nobody_has_run_is_taken_for_slow():
    assert Estimates().of(b"f") == UNKNOWN


def test_the_first_calls_say_all_there_is_to_know():
    estimates = Estimates()
    estimates.learn(b"f", 3.0, 3)
    assert estimates.of(b"f") == pytest.approx(1.0 + FLOOR)


def test_slow_calls_count_at_once_and_fast_ones_by_and_by():
    estimates = Estimates()
    estimates.learn(b"f", 0.0, 1)
    estimates.learn(b"f", 1.0, 1)
    assert estimates.of(b"f") > 0.4
    estimates.learn(b"f", 0.0, 1)
    assert estimates.of(b"f") > 0.3


@pytest.mark.parametrize("nonsense", [float("nan"), float("inf"), -float("inf"), -5.0, 1e300])
def test_nonsense_is_kept_within_limits(nonsense):
    estimates = Estimates()
    estimates.learn(b"f", nonsense, 2)
    assert FLOOR <= estimates.of(b"f") <= LONGEST + 1
    estimates.learn(b"f", 0.002, 2)
    assert FLOOR <= estimates.of(b"f") <= LONGEST + 1


def test_functions_are_forgotten_in_the_end(monkeypatch):
    monkeypatch.setattr(room, "CAPACITY", 3)
    estimates = Estimates()
    for name in (b"a", b"b", b"c", b"d"):
        estimates.learn(name, 0.1, 1)
    assert estimates.of(b"a") == UNKNOWN
    assert estimates.of(b"d") != UNKNOWN
