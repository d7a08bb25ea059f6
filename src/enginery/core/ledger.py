"""How a client's tasks ended, for tasks that depend on them later: bounded, a few bytes each. No I/O.

The last ``DEPTH`` endings are kept exactly (engine, success). Of older tasks only failures are remembered, the last
``FAILURES`` of them; any other old task counts as a success at an unknown place.
"""

from __future__ import annotations

from array import array
from collections import OrderedDict
from typing import Final, NamedTuple

DEPTH: Final = 1 << 16
FAILURES: Final = 100_000
MASK: Final = DEPTH - 1


class Ending(NamedTuple):
    """How a task ended: whether in success, and on which engine (-1: none or forgotten)."""

    ok: bool
    engine: int


class Ledger:
    """Endings of one client's tasks by id. ``highest`` is always one above the highest id the client has used.

    A slot holds engine + 2, negative for failures; 0 is empty, 1 means no engine.
    """

    __slots__ = ("_failed", "_ring")

    def __init__(self) -> None:
        self._ring: array[int] | None = None  # most clients never use theirs up, many not at all
        # Not a dict: finding its first entry takes the longer the more of the entries before it are gone.
        self._failed: OrderedDict[int, None] = OrderedDict()

    def note(self, task: int, ending: Ending, highest: int) -> None:
        """A task has ended."""
        if task >= highest - DEPTH:  # the slot of an older one belongs to a younger one by now
            self._slots()[task & MASK] = ending.engine + 2 if ending.ok else -(ending.engine + 2)
        if not ending.ok:
            self._failed[task] = None
            if len(self._failed) > FAILURES:
                self._failed.popitem(last=False)

    def note_successes(self, tasks: list[int], engine: int, highest: int) -> None:
        """Tasks have ended well, all on one engine."""
        # Hot: once per task. Bench: no-op tasks.
        if min(tasks) < highest - DEPTH:
            tasks = [task for task in tasks if task >= highest - DEPTH]
        ring, slot = self._slots(), engine + 2
        for task in tasks:
            ring[task & MASK] = slot

    def read(self, task: int, highest: int) -> Ending:
        """How a task that is known to have ended did so."""
        if task < highest - DEPTH:
            return Ending(task not in self._failed, -1)
        slot = self._slots()[task & MASK]
        return Ending(slot > 0, abs(slot) - 2)

    def written(self) -> tuple[bytes, list[int]]:
        """Everything, to be written down; ``recall`` reads it."""
        return (self._ring.tobytes() if self._ring is not None else b""), list(self._failed)

    def recall(self, endings: bytes, failed: list[int]) -> None:
        """What ``written`` gave."""
        if endings:
            self._ring = array("i", endings)
        self._failed = OrderedDict.fromkeys(failed)

    def _slots(self) -> array[int]:
        if self._ring is None:
            self._ring = array("i", bytes(4 * DEPTH))
        return self._ring
