"""What must hold of a scheduler after every stimulus; for tests and debugging. No I/O."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from enginery.core.scheduler import Scheduler


def check(scheduler: Scheduler) -> None:
    """Assert every invariant. Linear in the number of tasks.

    Raises:
        AssertionError: one does not hold; the message names the task, engine or lane.
    """
    scheduler.settle()
    book, dealer = scheduler.book, scheduler.dealer
    places = Counter(book.waiting)
    for number, engine in scheduler.engines.items():
        places.update(engine.balanced)
        places.update(engine.direct)
        busy = bool(engine.balanced or engine.direct)
        assert busy != (number in dealer.idle), f"engine {number}: idle set is wrong"
        counts = Counter(task.function for task in engine.balanced.values())
        assert counts == engine.counts, f"engine {number}: counts {engine.counts}, holds {counts}"
        assert not dealer.hwm or engine.load <= dealer.hwm, f"engine {number} holds {engine.load}, hwm {dealer.hwm}"
    for lane in (dealer.general, *dealer.lanes.values()):
        ids = lane.ids()
        places.update(ids)
        assert lane.live == len(ids), f"a lane counts {lane.live} tasks and holds {len(ids)}"
    assert set(places) == set(book.tasks), f"known but nowhere, or the other way: {set(places) ^ set(book.tasks)}"
    twice = [task for task, count in places.items() if count > 1]
    assert not twice, f"tasks in two places: {twice}"
    for task in book.waiting:
        assert book.rare[task].unmet > 0, f"task {task} waits for nothing"
    for table in (book.rare, book.frames):
        assert table.keys() <= book.tasks.keys(), f"left over: {table.keys() - book.tasks.keys()}"
    for key in dealer.lanes:
        assert key & scheduler.engines.keys(), f"lane {sorted(key)} has no engine left"
        for number in key & scheduler.engines.keys():
            assert key in scheduler.engines[number].lanes, f"engine {number} does not know lane {sorted(key)}"
