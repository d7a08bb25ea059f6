"""What must hold of a scheduler after every stimulus; for tests and debugging. No I/O."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from enginery.wire.messages import CLIENT_SHIFT

if TYPE_CHECKING:
    from enginery.core.scheduler import Scheduler


def check(scheduler: Scheduler) -> None:
    """Assert every invariant. Linear in the number of tasks.

    Raises:
        AssertionError: one does not hold; the message names the task, engine or lane.
    """
    scheduler.settle()
    _check_places(scheduler)
    _check_engines(scheduler)
    _check_lanes(scheduler)
    _check_waiting(scheduler)


def check_dealt(scheduler: Scheduler) -> None:
    """Assert that nobody idles who could work; to be called when the actions of a turn have just been taken.

    Raises:
        AssertionError: a task is ready and an engine it may go to has room; the message names them.
    """
    scheduler.settle()
    dealer = scheduler.dealer
    # When the queue is adaptive, what is learnt on one engine makes room on others, which is seen when they progress.
    with_room = {
        number
        for number, engine in scheduler.engines.items()
        if dealer.has_room(engine) and (dealer.hwm is not None or not engine.balanced)
    }
    assert not dealer.general.live or not with_room, f"{dealer.general.live} tasks are ready, room at {with_room}"
    for key, lane in dealer.lanes.items():
        assert not lane.live or not key & with_room, f"{lane.live} tasks are ready, room at {sorted(key & with_room)}"


def _check_places(scheduler: Scheduler) -> None:
    """Every known task stands in exactly one place."""
    book, dealer = scheduler.book, scheduler.dealer
    places = Counter(list(book.waiting))
    for engine in scheduler.engines.values():
        places.update(list(engine.balanced))
        places.update(list(engine.direct))
    for lane in (dealer.general, *dealer.lanes.values()):
        ids = lane.ids()
        places.update(ids)
        assert lane.live + lane.aside == len(ids), f"a lane counts {lane.live} and {lane.aside} tasks, holds {len(ids)}"
    twice = [task for task, count in places.items() if count > 1]
    assert not twice, f"tasks in two places: {twice}"
    assert set(places) == set(book.tasks), f"known but nowhere, or the other way: {set(places) ^ set(book.tasks)}"
    places_of = scheduler.places
    assert places_of.holders.keys() == places_of.sizes.keys(), "values without holders, or without a size"
    assert all(places_of.holders.values()), "a value that nobody has is still known"
    for table in (book.rare, book.frames):
        assert table.keys() <= book.tasks.keys(), f"left over: {table.keys() - book.tasks.keys()}"
    journal = scheduler.journal
    for noted in (journal.direct, journal.said) if journal is not None else ():
        assert book.tasks.keys() >= set(noted), f"noted of tasks that have ended: {set(noted) - book.tasks.keys()}"
    lacking = [number for number, task in book.tasks.items() if task.frames and number not in book.frames]
    addressed = {number for engine in scheduler.engines.values() for number in engine.direct}
    assert addressed.issuperset(lacking), f"frames are missing of tasks {lacking}"


def _check_engines(scheduler: Scheduler) -> None:
    dealer = scheduler.dealer
    assert dealer.idle.keys() <= scheduler.engines.keys(), "an engine that left is taken for idle"
    for number, engine in scheduler.engines.items():
        assert number == engine.info.id, f"engine {engine.info.id} is known as {number}"
        held_back = {task for task in engine.direct if task >> CLIENT_SHIFT in dealer.held_back}
        assert engine.paused <= held_back, f"engine {number}: taken for set aside {engine.paused - held_back}"
        busy = bool(engine.balanced) or len(engine.direct) > len(engine.paused)
        assert busy != (number in dealer.idle), f"engine {number}: idle set is wrong"
        counts = Counter(task.function for task in engine.balanced.values())
        assert counts == engine.counts, f"engine {number}: counts {engine.counts}, holds {counts}"
        load = len(engine.balanced)
        assert not dealer.hwm or load <= dealer.hwm, f"engine {number} holds {load}, hwm {dealer.hwm}"


def _check_lanes(scheduler: Scheduler) -> None:
    dealer, rare = scheduler.dealer, scheduler.book.rare
    for key, lane in dealer.lanes.items():
        assert key & scheduler.engines.keys(), f"lane {sorted(key)} has no engine left"
        for number in key & scheduler.engines.keys():
            assert key in scheduler.engines[number].lanes, f"engine {number} does not know lane {sorted(key)}"
        strangers = [task for task in lane.ids() if rare[task].lane != key]
        assert not strangers, f"lane {sorted(key)} holds tasks of other lanes: {strangers}"
    restricted = [task for task in dealer.general.ids() if task in rare and rare[task].lane is not None]
    assert not restricted, f"restricted tasks stand in the general lane: {restricted}"
    for number, engine in scheduler.engines.items():
        unknown = engine.lanes.keys() - dealer.lanes.keys()
        assert not unknown, f"engine {number} knows lanes that are gone: {unknown}"


def _check_waiting(scheduler: Scheduler) -> None:
    for task in scheduler.book.waiting:
        assert scheduler.book.rare[task].unmet > 0, f"task {task} waits for nothing"
        awaited = scheduler.admission.awaited_by(task)
        assert awaited or scheduler.places.awaits(task), f"task {task} waits for tasks that nobody will tell it of"
        unknown = [other for other in awaited if other not in scheduler.book.tasks]
        assert not unknown, f"task {task} waits for tasks that have ended: {unknown}"
