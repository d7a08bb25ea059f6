"""How tasks ended, for tasks that depend on them later: bounded, a few bytes each. No I/O.

Of each client the last ``DEPTH`` endings are kept exactly (engine, success). Of older tasks only failures are
remembered, the last ``FAILURES`` of all clients; any other old task counts as a success at an unknown place.
"""

from __future__ import annotations

from array import array
from typing import Final, NamedTuple

from enginery.wire.messages import CLIENT_SHIFT

DEPTH: Final = 1 << 16
FAILURES: Final = 100_000
MASK: Final = DEPTH - 1


class Ending(NamedTuple):
    """How a task ended: whether in success, and on which engine (-1: none or forgotten)."""

    ok: bool
    engine: int


class Ledger:
    """Endings of tasks by id. A slot holds engine + 2, negative for failures; 0 is empty, 1 means no engine."""

    __slots__ = ("_failed", "_rings")

    def __init__(self) -> None:
        self._rings: dict[int, array[int]] = {}
        self._failed: dict[int, None] = {}

    def ring(self, client: int) -> array[int]:
        """The slots of a client, for the scheduler's inner loop."""
        ring = self._rings.get(client)
        if ring is None:
            ring = self._rings[client] = array("i", bytes(4 * DEPTH))
        return ring

    def write(self, task: int, engine: int, *, ok: bool) -> None:
        """A task has ended."""
        self.ring(task >> CLIENT_SHIFT)[task & MASK] = engine + 2 if ok else -(engine + 2)
        if not ok:
            self._failed[task] = None
            if len(self._failed) > FAILURES:
                del self._failed[next(iter(self._failed))]

    def read(self, task: int, highest: int) -> Ending:
        """How a task that is known to have ended did so. ``highest`` is one above its client's highest id."""
        if task < highest - DEPTH:
            return Ending(task not in self._failed, -1)
        slot = self.ring(task >> CLIENT_SHIFT)[task & MASK]
        return Ending(slot > 0, abs(slot) - 2)

    def forget(self, client: int) -> None:
        """A client is gone and nobody can name its tasks any more."""
        self._rings.pop(client, None)
