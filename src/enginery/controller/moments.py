"""When tasks came, in little room: one moment for all that came at about the same time. No I/O."""

from __future__ import annotations

from array import array
from bisect import bisect_right
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Sequence

#: Seconds between two moments that are told apart when tasks are submitted.
RESOLUTION: Final = 0.001
#: Binary digits of the number of ids that clients take ahead.
BLOCK: Final = 12
#: Moments remembered for each client; past that, the older half is thinned out.
MOMENTS: Final = 1 << 14


class Moments:
    """When the tasks of one client came, by id: exact for the newest, coarser for those of long ago.

    ``of`` and ``of_each`` may be called by any thread.
    """

    __slots__ = ("_points",)

    def __init__(self) -> None:
        self._points = (array("q"), array("d"))

    def note(self, first: int, when: float) -> bool:
        """Tasks from ``first`` on came now. Whether that is news."""
        ids, times = self._points
        at = len(ids) if not ids or first > ids[-1] else bisect_right(ids, first)
        # Clients take ids for single tasks ahead, so what comes later may have lower ones: each such block has its own.
        if at and when - times[at - 1] < RESOLUTION and first >> BLOCK == ids[at - 1] >> BLOCK:
            return False
        if at == len(ids):
            times.append(when)
            ids.append(first)
        else:
            # New arrays: another thread may look between two changes.
            self._points = ids, times = (
                ids[:at] + array("q", [first]) + ids[at:],
                times[:at] + array("d", [when]) + times[at:],
            )
        if len(ids) > MOMENTS:
            half = len(ids) // 2
            self._points = (ids[:half:2] + ids[half:], times[:half:2] + times[half:])
        return True

    def known(self) -> list[tuple[int, float]]:
        """What was noted: from which id on, and when."""
        return list(zip(*self._points, strict=True))

    def of(self, task: int) -> float:
        """When a task came; 0 if that is not known."""
        ids, times = self._points
        return times[max(0, bisect_right(ids, task) - 1)] if ids else 0.0

    def of_each(self, tasks: Sequence[int]) -> list[float]:
        """When each of some tasks came."""
        # Hot: once per task where a database is used. Bench: durable.
        ids, times = self._points
        found: list[float] = []
        if not ids:
            return [0.0] * len(tasks)
        low, high, when = 1, 0, 0.0  # most came with the one before
        for task in tasks:
            if not low <= task < high:
                at = bisect_right(ids, task)
                low, high = ids[at - 1] if at else 0, ids[at] if at < len(ids) else 1 << 63
                when = times[max(0, at - 1)]
            found.append(when)
        return found
