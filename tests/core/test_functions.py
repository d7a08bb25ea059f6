"""Bodies of functions: kept within a budget, sent to each engine once, asked for when missing."""

from __future__ import annotations

from enginery.core import functions as room
from enginery.core.actions import Outbox
from enginery.core.engines import EngineRecord
from enginery.core.functions import Bodies
from enginery.wire.messages import EngineInfo, Functions


def engine(number):
    return EngineRecord(EngineInfo(number, "uuid", 1, "host"), 0.0)


def sent(outbox):
    return [(action.number, action.message) for action in outbox.take()]


def test_a_body_is_sent_ahead_if_it_is_here():
    bodies, outbox = Bodies(), Outbox()
    bodies.store({b"f": b"body"}, outbox)
    bodies.introduce(engine(1), b"f", outbox)
    bodies.introduce(engine(2), b"g", outbox)
    assert sent(outbox) == [(1, Functions({b"f": b"body"}))]


def test_a_wanted_body_is_forwarded_when_it_comes():
    bodies, outbox = Bodies(), Outbox()
    one, other = engine(1), engine(2)
    for each in (one, other, one):
        assert not bodies.supply(each, b"f", outbox)
        bodies.want(each, b"f")
    bodies.unwant(other, b"f")
    bodies.unwant(other, b"never wanted")
    bodies.store({b"f": b"body"}, outbox)
    assert sent(outbox) == [(1, Functions({b"f": b"body"}))]
    assert bodies.wanted() == []
    assert bodies.supply(other, b"f", outbox)


def test_nothing_is_forwarded_to_an_engine_that_has_left():
    bodies, outbox = Bodies(), Outbox()
    for each in (engine(1), engine(2)):
        bodies.want(each, b"f")
    bodies.forget_engine(1)
    bodies.store({b"f": b"body"}, outbox)
    assert [number for number, _ in sent(outbox)] == [2]


def test_past_the_budget_the_oldest_go():
    bodies, outbox = Bodies(budget=10), Outbox()
    for name in (b"a", b"b", b"c"):
        bodies.store({name: b"12345"}, outbox)
    assert len(bodies) == 2
    assert not bodies.supply(engine(1), b"a", outbox)
    bodies.store({b"huge": b"x" * 100}, outbox)
    assert bodies.supply(engine(1), b"huge", outbox), "what was sent last is kept, whatever its size"


def test_the_same_body_counts_once():
    bodies, outbox = Bodies(budget=10), Outbox()
    for _ in range(5):
        bodies.store({b"a": b"12345"}, outbox)
    bodies.store({b"b": b"12345"}, outbox)
    assert len(bodies) == 2


def test_what_an_engine_was_sent_is_not_remembered_for_ever(monkeypatch):
    monkeypatch.setattr(room, "INTRODUCED", 3)
    bodies, outbox, one = Bodies(), Outbox(), engine(1)
    for at in range(10):
        bodies.store({b"%d" % at: b"body"}, outbox)
        bodies.introduce(one, b"%d" % at, outbox)
    assert len(one.functions) <= 3
