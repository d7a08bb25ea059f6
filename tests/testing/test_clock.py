"""A clock that moves when told."""

from __future__ import annotations

import pytest

from enginery.testing.clock import Clock


def test_it_stands_still():
    clock = Clock(5.0)
    assert [clock(), clock.now] == [5.0, 5.0]
    assert not clock.step()


def test_what_falls_due_is_done_in_order_and_at_its_time():
    clock, seen = Clock(), []
    clock.call_at(3.0, lambda: seen.append(("late", clock.now)))
    clock.call_after(1.0, lambda: seen.append(("early", clock.now)))
    clock.call_at(1.0, lambda: seen.append(("as early", clock.now)))
    assert clock.next_due() == 1.0
    assert clock.advance(2.0) == 2
    assert clock.advance(2.0) == 1
    assert seen == [("early", 1.0), ("as early", 1.0), ("late", 3.0)]
    assert clock.now == 4.0


def test_what_is_asked_for_on_the_way_is_done_on_the_way():
    clock, seen = Clock(), []
    clock.call_after(1.0, lambda: clock.call_after(1.0, lambda: seen.append(clock.now)))
    clock.advance(5.0)
    assert seen == [2.0]


def test_an_appointment_can_be_cancelled():
    clock, seen = Clock(), []
    appointment = clock.call_after(1.0, lambda: seen.append(1))
    appointment.cancel()
    assert clock.next_due() is None
    assert clock.advance(5.0) == 0
    appointment.cancel()
    assert seen == []
    assert repr(appointment) == "<Appointment at 1 cancelled>"


def test_what_is_asked_for_too_late_is_done_at_once():
    clock, seen = Clock(10.0), []
    clock.call_at(3.0, lambda: seen.append(clock.now))
    clock.step()
    assert seen == [10.0]


def test_time_goes_forward_only():
    with pytest.raises(ValueError, match="forward"):
        Clock().advance(-1.0)
