"""Where a task stands, and what only some tasks carry. No I/O.

A task inside the scheduler *is* the struct that came over the wire: no second object is made for it, because one
object and its eight attributes for each task were half of the cost of scheduling (bench: no-op tasks). Its state is
the one container that holds it::

    submitted ──► WAITING ──────► READY ──────► ASSIGNED ──────► gone, with one final result
                  Book.waiting    a Lane        EngineRecord.balanced or .direct
                     │               ▲ └───────────┐ │
                     │               └── handed back, engine died, failed with retries left
                     └──────────────────── ended by abort, dependency or timeout: from any of them

``core.invariants.check`` asserts that every known task is in exactly one of them.
"""

from __future__ import annotations

from enum import IntEnum
from typing import Final

from enginery.wire.messages import CLIENT_SHIFT

#: Attempts of one task that are remembered.
MOST_ATTEMPTS: Final = 20
_LOCAL: Final = (1 << CLIENT_SHIFT) - 1


class State(IntEnum):
    """Where a task stands. A task is in exactly one of these until it ends."""

    WAITING = 0  #: for tasks it depends on
    READY = 1  #: could run now; no engine has it
    ASSIGNED = 2  #: sent to an engine, queued or running there


class Rare:
    """What only some tasks have: options that restrict them, and what happened to them before."""

    __slots__ = (
        "attempts",
        "deaths",
        "excluded",
        "lane",
        "near",
        "place",
        "retries_left",
        "seeks",
        "stopping",
        "targets",
        "unmet",
        "unsuited",
        "values",
    )

    def __init__(self) -> None:
        self.targets: frozenset[int] | None = None  #: engines allowed by the user
        self.place: frozenset[int] | None = None  #: engines allowed by ``follow``
        self.near: frozenset[int] = frozenset()  #: engines that have what it needs, taken while any of them may be
        self.seeks = False  #: it needs what only some engines have
        self.values: list[int] = []  #: the kept values it uses
        self.excluded: set[int] = set()  #: engines that failed it, avoided while others are left
        self.unsuited: frozenset[int] = frozenset()  #: engines that do not meet its requirement, never tried again
        self.lane: frozenset[int] | None = None  #: the lane it stands in while READY
        self.retries_left = 0
        self.deaths = 0  #: engines that died while they ran it
        self.attempts: list[str] = []  #: what happened before, in words, the latest ``MOST_ATTEMPTS``
        self.unmet = 0  #: dependencies still open
        self.stopping = False  #: its client has taken it back

    def note_attempt(self, what: str) -> None:
        """It did not end well where it was."""
        self.attempts.append(what)
        del self.attempts[:-MOST_ATTEMPTS]


def name_of(task: int, beside: int) -> str:
    """A task as people know it: by the end of its message id. Those of other clients than that of ``beside`` say so."""
    owner = task >> CLIENT_SHIFT
    return f"…_{task & _LOCAL}" + ("" if owner == beside >> CLIENT_SHIFT else f" of client {owner}")
