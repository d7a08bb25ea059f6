"""What does not hold is found."""

from __future__ import annotations

import pytest

from enginery.core.invariants import check, check_dealt
from enginery.wire import messages as m


def busy(desk):
    d = desk(engines=2, hwm=2)
    first = d.submit(2)[0]
    d.submit(4, targets=[0])
    d.submit(2, retries=1, frames=[b"x"])
    d.task(after=m.Dependency([first]))
    d.request([1])
    d.turn()
    return d


def damage_place(d):
    d.scheduler.dealer.general.push(next(iter(d.engines[0].balanced.values())))


def damage_book(d):
    del d.scheduler.book.tasks[next(iter(d.engines[0].balanced))]


def damage_counts(d):
    d.engines[0].counts[b"f"] = 3


def damage_idle(d):
    d.scheduler.dealer.idle[0] = d.engines[0]


def damage_hwm(d):
    d.scheduler.dealer.hwm = 1


def damage_lane(d):
    d.engines[0].lanes.clear()


def damage_live(d):
    d.scheduler.dealer.general.live += 1


def damage_rare(d):
    d.scheduler.book.rare_of(12345)


def damage_waiting(d):
    for task in d.scheduler.book.waiting:
        d.scheduler.book.rare[task].unmet = 0


def damage_graph(d):
    d.scheduler.admission._graph._waits.clear()


def damage_frames(d):
    d.scheduler.book.frames.clear()


@pytest.mark.parametrize("damage", [value for name, value in globals().items() if name.startswith("damage_")])
def test_damage_is_found(desk, damage):
    d = busy(desk)
    check(d.scheduler)
    damage(d)
    with pytest.raises(AssertionError):
        check(d.scheduler)


def test_idleness_is_found(desk):
    d = desk(engines=1)
    d.turn()
    d.submit(1)
    d.submit(1)
    d.scheduler.engine_left(0, "gone")
    check_dealt(d.scheduler)
    d.join()
    with pytest.raises(AssertionError, match="ready"):
        check_dealt(d.scheduler)
