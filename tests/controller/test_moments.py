"""When tasks came: exact for the newest, and never much of it."""

from __future__ import annotations

from array import array

from enginery.controller import moments as room
from enginery.controller.moments import Moments


def test_each_task_has_the_time_of_its_message():
    moments = Moments()
    for first, when in ((0, 10.0), (5, 11.0), (9, 11.0001), (4096, 12.0), (10, 13.0), (4097, 14.0)):
        moments.note(first, when)
    assert [moments.of(task) for task in (0, 4, 5, 9, 10, 11, 4096, 4097)] == [10, 10, 11, 11, 13, 13, 12, 14]


def test_a_request_right_after_a_task_does_not_take_the_time_of_the_next_task():
    moments = Moments()
    for first, when in ((0, 10.0), (4096, 10.0002), (1, 11.0)):
        moments.note(first, when)
    assert [moments.of(task) for task in (0, 1, 4096, 4097)] == [10.0, 11.0, 10.0002, 10.0002]


def test_before_anything_came_nothing_is_known():
    assert Moments().of(5) == 0.0


def test_there_are_so_many_and_the_newest_are_exact(monkeypatch):
    monkeypatch.setattr(room, "MOMENTS", 100)
    moments = Moments()
    for number in range(1000):
        moments.note(number, float(number))
    assert len(moments._points[0]) <= 101
    assert [moments.of(number) for number in range(960, 1000)] == [float(number) for number in range(960, 1000)]
    assert all(0 <= number - moments.of(number) < 1000 for number in range(1000))
    assert type(moments._points[0]) is array


def test_of_many_each_has_its_own():
    moments = Moments()
    assert moments.of_each([3, 4]) == [0.0, 0.0]
    for first, when in ((2, 10.0), (5, 11.0), (4096, 12.0), (10, 13.0), (4097, 14.0)):
        moments.note(first, when)
    tasks = [*range(12), 4095, 4096, 4097, 9000, 3, 10, 0]
    assert moments.of_each(tasks) == [moments.of(task) for task in tasks]
