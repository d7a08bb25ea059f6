"""When to dial again."""

from __future__ import annotations

import itertools

from enginery.net import away as room
from enginery.net.away import Away


def test_it_dials_at_once_and_then_less_and_less_often():
    away = Away()
    assert away.lost("cut", 100.0, 30.0)
    assert away.may_dial(100.0)
    assert not away.may_dial(100.0)
    times = []
    for _ in range(8):
        now = away.next_deadline()
        assert away.may_dial(now)
        times.append(now)
    pauses = [later - sooner for sooner, later in itertools.pairwise(times)]
    assert pauses == sorted(pauses)
    assert pauses[-1] == room.LONGEST_PAUSE


def test_a_hello_without_an_answer_leads_to_another_one():
    away = Away()
    away.lost("cut", 0.0, 30.0)
    away.dialled(0.0)
    assert away.next_deadline() == room.ANSWER
    assert away.is_unanswered(room.ANSWER)
    assert away.lost("nobody answers", room.ANSWER, 30.0)
    assert away.why == "cut"
    assert away.next_deadline() > room.ANSWER


def test_it_has_an_end():
    away = Away()
    away.lost("cut", 0.0, 2.0)
    assert not away.is_over(1.9)
    assert away.is_over(2.0)
    assert not away.lost("again", 2.0, 2.0)


def test_it_says_what_is_wrong_only_while_it_is():
    away = Away()
    assert not away
    away.lost("cut", 0.0, 10.0)
    assert away.describe(4.0) == "The connection to the controller was lost 4 s ago (cut). It is waited for 6 s more."
    away.back()
    assert not away
    assert away.next_deadline() == float("inf")
