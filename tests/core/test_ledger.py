"""How tasks ended is remembered exactly for a while, and failures for longer."""

from __future__ import annotations

import pytest

from enginery.core import ledger as room
from enginery.core.ledger import DEPTH, Ending, Ledger

FIRST = 5 << 40


@pytest.mark.parametrize("ending", [Ending(True, 3), Ending(False, 3), Ending(True, -1), Ending(False, -1)])
def test_an_ending_is_read_as_it_was_noted(ending):
    ledger = Ledger()
    ledger.note(FIRST + 7, ending, FIRST + 8)
    assert ledger.read(FIRST + 7, FIRST + 100) == ending


def test_successes_are_noted_together():
    ledger = Ledger()
    ledger.note_successes([FIRST + 2, FIRST, FIRST + 1], 4, FIRST + 3)
    assert [ledger.read(FIRST + at, FIRST + 3) for at in range(3)] == [Ending(True, 4)] * 3


def test_of_old_tasks_failures_are_remembered():
    ledger = Ledger()
    ledger.note(FIRST, Ending(False, 3), FIRST + 2)
    ledger.note(FIRST + 1, Ending(True, 3), FIRST + 2)
    highest = FIRST + DEPTH + 2
    assert ledger.read(FIRST, highest) == Ending(False, -1)
    assert ledger.read(FIRST + 1, highest) == Ending(True, -1)


def test_an_old_task_that_ends_late_does_not_change_how_a_younger_one_ended():
    ledger = Ledger()
    highest = FIRST + DEPTH + 3
    ledger.note(FIRST + DEPTH, Ending(False, 1), highest)
    ledger.note_successes([FIRST + DEPTH + 1], 2, highest)
    ledger.note(FIRST, Ending(True, 7), highest)
    ledger.note(FIRST + 1, Ending(False, 7), highest)
    ledger.note_successes([FIRST + 2, FIRST], 7, highest)
    assert ledger.read(FIRST + DEPTH, highest) == Ending(False, 1)
    assert ledger.read(FIRST + DEPTH + 1, highest) == Ending(True, 2)
    assert ledger.read(FIRST, highest) == Ending(True, -1)
    assert ledger.read(FIRST + 1, highest) == Ending(False, -1)


def test_failures_are_bounded(monkeypatch):
    monkeypatch.setattr(room, "FAILURES", 10)
    ledger = Ledger()
    for number in range(20):
        ledger.note(number, Ending(False, 0), number + 1)
    assert len(ledger._failed) == 10


def test_a_client_that_submits_nothing_costs_nothing():
    assert Ledger()._ring is None
