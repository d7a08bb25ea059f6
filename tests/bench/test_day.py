"""A short form of the simulated day: whoever came and went has left nothing in the minds of those who stay."""

from __future__ import annotations

import importlib.util
import random
from pathlib import Path

import pytest

PATH = Path(__file__).parents[2] / "bench" / "day.py"
VISITS = 12


@pytest.fixture(scope="module")
def day():
    spec = importlib.util.spec_from_file_location("bench_day", PATH)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_visitors_leave_nothing_behind(day, seed):
    course = day.Day(random.Random(f"{seed} day").randrange(1 << 31))
    course.pass_hour(VISITS)
    before = course.weigh()
    for _ in range(2):
        course.pass_hour(VISITS)
    after = course.weigh()
    assert all(after[mind] <= 1.25 * before[mind] for mind in before), (before, after)


def test_what_is_kept_is_seen(day):
    course = day.Day(1)
    course.pass_hour(1)
    before = course.weigh()
    course.engine.member.aborted.update(range(100_000))
    course.simulation.scheduler.counts["extra"] = bytes(200_000)
    after = course.weigh()
    assert after["engine"] > before["engine"] + 1_000_000
    assert after["controller"] > before["controller"] + 200_000
