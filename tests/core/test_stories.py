"""What happened to tasks whose life was not plain is remembered for a while."""

from __future__ import annotations

from enginery.core import stories as room
from enginery.core.stories import Stories
from enginery.core.tasks import Rare
from enginery.wire.messages import Fault, Result, Status


def test_attempts_come_first_and_the_end_last():
    rare, stories = Rare(), Stories()
    rare.note_attempt("engine 1 (ValueError: x)")
    stories.keep(7, rare, Result(7, Status.OK, b""), 2)
    assert stories.of(7) == ["tried on engine 1 (ValueError: x)", "ended well on engine 2"]
    assert stories.of(8) is None


def test_errors_are_told_in_short():
    stories = Stories()
    stories.keep(7, None, Result(7, Status.ERROR, b"", fault=Fault("remote", "ValueError", "x" * 1000)), 2)
    (line,) = stories.of(7)
    assert line.startswith("ended on engine 2 with ValueError: xxx")
    assert len(line) < room.SHOWN + 50


def test_the_controller_may_end_a_task_itself():
    stories = Stories()
    stories.keep(7, None, Result(7, Status.LOST, b"", fault=Fault("EngineError", "EngineError", "gone")), -1)
    stories.keep(8, None, Result(8, Status.LOST, b""), -1)
    assert stories.of(7) == ["ended by the controller with EngineError: gone"]
    assert stories.of(8) == ["failed by the controller"]


def test_the_oldest_are_forgotten(monkeypatch):
    monkeypatch.setattr(room, "CAPACITY", 3)
    stories = Stories()
    for number in range(10):
        stories.keep(number, None, Result(number, Status.LOST, b""), -1)
    assert [number for number in range(10) if stories.of(number)] == [7, 8, 9]
