"""Which ids a client has used."""

from __future__ import annotations

from enginery.core import engines as room
from enginery.core.engines import ClientRecord, EngineRecord
from enginery.wire.messages import CLIENT_SHIFT, EngineInfo, Task

FIRST = 3 << CLIENT_SHIFT


def client():
    return ClientRecord(3, "someone", "token", 0.0)


def test_ids_are_used_once():
    one = client()
    assert one.claim(FIRST, 10)
    assert not one.claim(FIRST, 1)
    assert not one.claim(FIRST + 9, 2)
    assert one.claim(FIRST + 10, 1)
    assert one.highest == FIRST + 11


def test_ids_outside_the_range_are_refused():
    one = client()
    assert not one.claim(FIRST - 1, 1)
    assert not one.claim(0, 1)
    assert not one.claim(-5, 1)
    assert not one.claim(4 << CLIENT_SHIFT, 1)
    assert not one.claim((4 << CLIENT_SHIFT) - 1, 2)
    assert one.claim((4 << CLIENT_SHIFT) - 1, 1)


def test_nothing_is_no_claim():
    assert not client().claim(FIRST, 0) or client().highest == FIRST


def test_gaps_are_filled_once():
    one = client()
    assert one.claim(FIRST + 10, 5)
    assert not one.has_used(FIRST + 3)
    assert one.claim(FIRST + 3, 2)
    assert one.has_used(FIRST + 3)
    assert not one.claim(FIRST + 4, 1)
    assert not one.claim(FIRST + 2, 2)
    assert one.claim(FIRST, 3)
    assert one.claim(FIRST + 5, 5)
    assert one.gaps == []


def test_used_are_those_claimed():
    one = client()
    one.claim(FIRST, 2)
    one.claim(FIRST + 5, 1)
    assert [one.has_used(FIRST + at) for at in range(7)] == [True, True, False, False, False, True, False]


def test_gaps_are_bounded(monkeypatch):
    monkeypatch.setattr(room, "MAX_GAPS", 10)
    one = client()
    for at in range(100):
        assert one.claim(FIRST + 2 * at + 1, 1)
    assert len(one.gaps) == 10
    assert not one.claim(FIRST, 1), "the oldest gaps count as used"


def test_the_load_counts_all_an_engine_holds():
    engine = EngineRecord(EngineInfo(1, "uuid", 1, "host"), 0.0)
    engine.balanced[1] = engine.direct[2] = Task(1, 0, b"", b"")
    assert engine.load == 2


def test_they_show_themselves():
    assert repr(client()) == "<ClientRecord 3 someone>"
    assert repr(EngineRecord(EngineInfo(1, "uuid", 1, "host"), 0.0)) == "<EngineRecord 1 balanced=0 direct=0>"


def test_ranks_of_an_engine_set_get_ids_in_their_order(desk):
    desk = desk(2)
    first = [desk.join(engine_set="a", rank=rank).info for rank in (2, 0, 1)]
    assert [(info.id, info.engine_set) for info in first] == [(4, "a"), (2, "a"), (3, "a")]
    assert [desk.join(engine_set="b", rank=rank).info.id for rank in (1, 0)] == [6, 5]
    # Somebody who joins between them takes no place of theirs.
    assert desk.join(engine_set="c", rank=1).info.id == 8
    assert desk.join().info.id == 9
    assert desk.join(engine_set="c", rank=0).info.id == 7


def test_ranks_that_are_started_anew_keep_their_order(desk):
    desk = desk()
    for rank in (1, 0):
        desk.join(engine_set="a", rank=rank)
    for number in (0, 1):
        desk.scheduler.engine_left(number, "restart")
    assert [desk.join(engine_set="a", rank=rank).info.id for rank in (1, 0)] == [3, 2]


def test_ranks_of_a_set_that_is_started_anew_before_all_of_the_old_one_have_left(desk):
    desk = desk()
    old = [desk.join(engine_set="a", rank=rank) for rank in (0, 1)]
    desk.leave(old[0])
    assert [desk.join(engine_set="a", rank=rank).info.id for rank in (1, 0)] == [3, 2]
    desk.leave(old[1])
    assert desk.join(engine_set="a", rank=2).info.id == 4
