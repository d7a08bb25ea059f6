"""Each scheme picks open engines only, in its own way."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise
from random import Random

import pytest

from enginery.core import placement
from enginery.core.engines import EngineRecord
from enginery.core.placement import SCHEMES, least_loaded
from enginery.wire.messages import EngineInfo, Task


def engine(number, load=0):
    record = EngineRecord(EngineInfo(number, "uuid", 1, "host"), 0.0)
    record.balanced = {at: Task(at, 0, b"", b"") for at in range(load)}
    return record


def opened(name, *engines):
    scheme = SCHEMES[name](Random(1))
    for one in engines:
        scheme.open(one)
    return scheme


@pytest.mark.parametrize("name", SCHEMES)
def test_only_open_engines_are_picked(name):
    engines = [engine(number, load=number) for number in range(5)]
    scheme = opened(name, *engines)
    assert len(scheme) == 5
    for number in (0, 3):
        scheme.close(engines[number])
        scheme.close(engines[number])
    assert len(scheme) == 3
    assert {scheme.pick().info.id for _ in range(100)} <= {1, 2, 4}


@pytest.mark.parametrize("name", SCHEMES)
def test_an_engine_may_close_and_open_again_while_it_has_tasks(name):
    one = engine(0)
    scheme = opened(name, one)
    for load in (1, 2, 0):
        assert scheme.pick() is one
        one.balanced = dict.fromkeys(range(load), Task(0, 0, b"", b""))
        scheme.close(one)
        scheme.open(one)
    assert scheme.pick() is one


def test_leastload_follows_the_load():
    busy, idle = engine(0, load=3), engine(1, load=1)
    scheme = opened("leastload", busy, idle)
    assert scheme.pick() is idle
    idle.balanced = engine(1, load=5).balanced
    scheme.open(idle)
    assert scheme.pick() is busy


def test_leastload_counts_requests_too():
    busy, idle = engine(0), engine(1)
    busy.direct = {1: Task(1, 0, b"", b"")}
    assert opened("leastload", busy, idle).pick() is idle


@pytest.mark.parametrize("name", ["lru", "pure"])
def test_engines_take_turns(name):
    scheme = opened(name, *[engine(number) for number in range(3)])
    assert [scheme.pick().info.id for _ in range(6)] == [0, 1, 2, 0, 1, 2]


@pytest.mark.parametrize("name", ["plainrandom", "weighted", "twobin"])
def test_schemes_of_chance_reach_everybody(name):
    scheme = opened(name, *[engine(number) for number in range(4)])
    assert len({scheme.pick().info.id for _ in range(200)}) == 4


def test_weighted_prefers_those_with_less_to_do():
    scheme = opened("weighted", engine(0, load=9), engine(1))
    counts = Counter(scheme.pick().info.id for _ in range(1000))
    assert counts[1] > 2 * counts[0]


def test_twobin_prefers_those_that_waited_longer():
    scheme = opened("twobin", *[engine(number) for number in range(2)])
    picks = [scheme.pick().info.id for _ in range(1000)]
    again = sum(one == other for one, other in pairwise(picks))
    assert again < 400  # by pure chance it would be 500


def test_twobin_does_not_remember_engines_that_left_for_ever(monkeypatch):
    monkeypatch.setattr(placement, "FORGOTTEN", 10)
    scheme = opened("twobin")
    for number in range(1000):
        one = engine(number, load=1)
        scheme.open(one)
        scheme.pick()
        scheme.close(one)
    assert len(scheme._given) < 20


def test_equal_seeds_give_equal_choices():
    for name in SCHEMES:
        one, other = (opened(name, engine(0), engine(1)) for _ in range(2))
        assert [one.pick().info.id for _ in range(50)] == [other.pick().info.id for _ in range(50)]


def test_least_loaded_of_a_few():
    idle = engine(2)
    assert least_loaded([engine(0, 2), engine(1, 1), idle]) is idle
    assert least_loaded([]) is None
