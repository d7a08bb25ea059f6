"""Time limits and interrupts of the task that runs, without waiting for them."""

from __future__ import annotations

import signal
import threading
from types import SimpleNamespace

import pytest

from enginery.engine import limits
from enginery.engine.begun import BegunCell
from enginery.engine.interrupts import PRIVATE, Interrupts, wake_main_thread
from enginery.engine.limits import GRACE, NEVER, TimeLimit


class Case:
    """A limit, whose actions are noted."""

    def __init__(self, monkeypatch):
        self.now = 50.0
        self.member = SimpleNamespace(running=-1)
        self.cell = BegunCell()
        self.done = []
        monkeypatch.setattr(limits, "monotonic", lambda: self.now)
        monkeypatch.setattr(limits.os, "_exit", lambda code: self.done.append(("exit", code)))
        self.limit = TimeLimit(self.member, self.cell, lambda task: self.done.append(("interrupt", task)))

    def start(self, task, seconds):
        self.member.running = task
        return self.limit.start(task, seconds)

    def tick(self, later=0.0):
        self.now += later
        self.limit.tick(self.now, lambda: self.done.append(("flush",)))


@pytest.fixture
def case(monkeypatch):
    return Case(monkeypatch)


def test_nothing_is_due_at_first(case):
    assert case.limit.next_deadline() == NEVER
    case.tick(1000.0)
    assert case.done == []


def test_at_the_limit_the_task_is_interrupted_once(case):
    assert case.start(7, 2.0) == case.limit.next_deadline() == case.cell.limit == 52.0
    case.tick(1.9)
    assert case.done == []
    case.tick(0.2)
    case.tick()
    assert case.done == [("interrupt", 7)]
    assert case.limit.overdue == 7
    assert case.limit.next_deadline() == case.now + GRACE


def test_a_task_that_ended_in_time_is_left_alone(case):
    case.start(7, 2.0)
    case.limit.end()
    assert case.cell.limit == 0.0
    case.member.running = 8  # without a limit
    case.tick(3.0)
    assert case.done == []
    assert case.limit.next_deadline() == NEVER


def test_who_does_not_heed_ends_with_its_process(case):
    case.start(7, 2.0)
    case.tick(2.0)
    case.tick(GRACE)
    assert case.done == [("interrupt", 7), ("flush",), ("exit", 1)]
    assert case.cell.overdue == 7


def test_who_heeds_in_the_last_moment_is_spared(case):
    case.start(7, 2.0)
    case.tick(2.0)

    def end():
        case.member.running = -1

    case.now += GRACE
    case.limit.tick(case.now, end)
    assert ("exit", 1) not in case.done
    assert case.limit.next_deadline() == NEVER


def test_the_next_task_has_its_own_limit(case):
    case.start(7, 2.0)
    case.tick(2.0)
    case.start(8, 5.0)
    assert case.limit.overdue == -1
    assert case.limit.next_deadline() == 57.0
    case.tick(1.0)
    assert case.done == [("interrupt", 7)]
    case.tick(5.0)
    assert case.done[1:] == [("interrupt", 8)]


# --- interrupts -----------------------------------------------------------------------------------------------------


@pytest.fixture
def interrupted():
    """What was interrupted; ``running`` is what runs."""
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, PRIVATE)}
    state = SimpleNamespace(running=7, acts=0)

    def act(_frame):
        state.acts += 1

    state.interrupts = Interrupts(lambda task: task == state.running, act)
    yield state
    for number, handler in before.items():
        signal.signal(number, handler)


def in_thread(call, *arguments):
    thread = threading.Thread(target=call, args=arguments)
    thread.start()
    thread.join()


def test_the_task_that_is_meant(interrupted):
    in_thread(interrupted.interrupts.send, 7)
    assert interrupted.acts == 1


@pytest.mark.skipif(signal.SIGINT == PRIVATE, reason="no signal to spare here")
def test_and_no_other(interrupted):
    interrupted.running = 8
    in_thread(interrupted.interrupts.send, 7)
    assert interrupted.acts == 0


def test_from_outside_it_is_whatever_runs(interrupted):
    interrupted.running = 8
    in_thread(wake_main_thread)
    assert interrupted.acts == 1
