"""How engines leave: two signs in either order, put together, in words, and never waited for too long."""

from __future__ import annotations

import random

import pytest

from enginery.controller import departures
from enginery.controller.departures import PATIENCE, REPORT_PATIENCE, Departures, describe_exit
from enginery.core.scheduler import Scheduler
from enginery.wire.messages import EngineExited


class World:
    def __init__(self) -> None:
        self.now = 50.0
        self.left = []
        self.scheduler = Scheduler(random=random.Random(0))
        self.departures = Departures(self.scheduler, self.leave, lambda: self.now)

    def leave(self, number, reason, *, balanced=None, **how):
        self.left.append((number, reason, balanced))
        self.scheduler.engine_left(number, reason, balanced=balanced, **how)

    def engine(self, uuid="e", nanny=0):
        engine = self.scheduler.engine_joined(uuid, 1, "here", -1, self.now)
        engine.nanny = nanny
        return engine.info.id


@pytest.fixture
def world():
    return World()


DEATH = EngineExited("e", 1, -9, balanced=77)


def test_both_signs_in_either_order(world):
    first, second = world.engine("e"), world.engine("f")
    world.departures.hung_up(first)
    assert world.left == []
    world.departures.exited(DEATH)
    assert world.left == [(first, "killed by SIGKILL", 77)]
    world.departures.exited(EngineExited("f", 2, 0))
    assert len(world.left) == 1
    world.departures.hung_up(second)
    assert world.left[1] == (second, "exited with code 0", -1)
    assert world.departures.next_deadline() == float("inf")


def test_the_second_sign_does_not_come(world):
    first, second = world.engine("e"), world.engine("f")
    world.departures.hung_up(first)
    world.departures.exited(EngineExited("f", 2, 1))
    assert world.departures.next_deadline() == world.now + PATIENCE
    world.departures.tick(world.now + PATIENCE / 2)
    assert world.left == []
    world.departures.tick(world.now + PATIENCE)
    assert [(number, reason) for number, reason, _ in world.left] == [(second, "exited with code 1")]
    assert world.departures.next_deadline() == world.now + REPORT_PATIENCE
    world.departures.tick(world.now + REPORT_PATIENCE)
    assert [(number, reason) for number, reason, _ in world.left[1:]] == [(first, "its connection broke")]


def test_without_a_nanny_nothing_is_waited_for(world):
    number = world.engine(nanny=-1)
    world.departures.hung_up(number)
    assert world.left == [(number, "its connection broke", None)]


def test_an_engine_that_has_hung_up_is_given_nothing_more(world):
    number = world.engine()
    world.departures.hung_up(number)
    assert world.scheduler.engines[number].leaving


def test_one_that_left_meanwhile_is_no_trouble(world):
    number = world.engine()
    world.departures.hung_up(number)
    world.scheduler.engine_left(number, "another way")
    world.departures.tick(world.now + 1)
    world.departures.hung_up(number)
    world.departures.hung_up(99)
    world.departures.exited(EngineExited("unknown", 1, 0))
    assert world.left == []


def test_late_hellos_are_known_by_what_ended(world, monkeypatch):
    monkeypatch.setattr(departures, "REMEMBERED", 3)
    for n in range(5):
        world.departures.exited(EngineExited(f"e{n}", 1, 0))
    assert [world.departures.has_ended(f"e{n}") for n in range(5)] == [False, False, True, True, True]


@pytest.mark.parametrize(
    ("code", "note", "words"),
    [
        (0, "", "exited with code 0"),
        (3, "", "exited with code 3"),
        (-11, "", "killed by SIGSEGV"),
        (-200, "", "killed by signal 200"),
        (-9, "out of memory, it seems", "out of memory, it seems"),
    ],
)
def test_in_words(code, note, words):
    assert describe_exit(EngineExited("e", 1, code, note=note)) == words


class TestStillborn:
    def test_an_engine_that_died_before_its_hello_is_told(self, world):
        world.departures.exited(EngineExited("early", 7, 4, note="ended with exit code 4"))
        (crash,) = world.scheduler.crashes
        assert (crash.id, crash.uuid, crash.reason, crash.code) == (-1, "early", "ended with exit code 4", 4)

    @pytest.mark.parametrize(
        "exited",
        [EngineExited("e", 1, 0), EngineExited("e", 1, -15, expected=True)],
        ids=["left well", "was told to"],
    )
    def test_others_are_not(self, world, exited):
        world.departures.exited(exited)
        assert not world.scheduler.crashes

    def test_one_that_had_come_is_not_told_twice(self, world):
        world.departures.joined("e")
        number = world.engine("e")
        world.departures.hung_up(number)
        world.departures.exited(DEATH)
        world.departures.exited(DEATH)
        assert [crash.id for crash in world.scheduler.crashes] == [number]
