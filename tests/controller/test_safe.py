"""What depends on a page waits until it is saved."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from enginery.controller.safe import Receipt, Safe
from enginery.core.actions import Action, To
from enginery.core.logbook import Taken
from enginery.wire.messages import Assign, Received

PAGE = [(Taken([1]), [])]


class Place:
    """Saves when it is told to."""

    def __init__(self):
        self.saved = self.count = 0
        self.grown = False

    def put(self, _page):
        self.count += 1
        return self.count

    begin_anew = put


@pytest.fixture
def place():
    return Place()


def released(safe):
    done = []
    safe.release(done.append)
    return done


def test_nothing_waits_where_nothing_was_written(place):
    safe = Safe(place)
    safe.write([])
    safe.hold("action")
    assert released(safe) == ["action"]


def test_what_was_held_is_let_go_in_order(place):
    safe = Safe(place)
    safe.write(PAGE)
    safe.hold("first")
    safe.write(PAGE)
    safe.hold("second")
    assert released(safe) == []
    place.saved = 1
    assert released(safe) == ["first"]
    safe.begin_anew(PAGE)
    safe.hold("third")
    place.saved = 3
    assert released(safe) == ["second", "third"]


def test_what_was_meant_for_an_engine_can_be_dropped(place):
    safe = Safe(place)
    safe.write(PAGE)
    mine, other = (Action(To.ENGINE, number, Assign([]), []) for number in (3, 4))
    receipt = Receipt(SimpleNamespace(number=3), Received(1))
    for what in (mine, other, receipt):
        safe.hold(what)
    safe.drop_for(3)
    place.saved = 1
    assert released(safe) == [other, receipt]
