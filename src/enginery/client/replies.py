"""Where the replies to many requests are kept until somebody wants their values.

A million small objects would cost more than what they hold, so replies stand in columns: one list of payloads, which
turn into values when first looked at, and arrays of times and engines.
"""

from __future__ import annotations

import os
import threading
from array import array
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Final, Protocol, final

from enginery.errors import RemoteError, exception_from_fault
from enginery.wire.exceptions import unpack_exception
from enginery.wire.messages import Fault, Status
from enginery.wire.serialize import Buffer, unpack

if TYPE_CHECKING:
    from enginery.client.metadata import Metadata
    from enginery.wire.messages import Result

_ABSENT: Final = 0
_PACKED: Final = 1
_OPENED: Final = 2

#: Guards the step from packed to opened, a few bytecodes long, so that all threads see one value. No user code runs
#: under it: two threads may unpack the same payload, and one of the two values is thrown away.
_publishing = threading.Lock()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_publishing._at_fork_reinit)  # type: ignore[attr-defined]  # see client.handle

_STATUS_WORDS: Final = {Status.OK: "ok", Status.ERROR: "error", Status.ABORTED: "aborted"}


@final
class Failed:
    """An outcome that is an error, not a value. (A value may well be an exception object.)"""

    __slots__ = ("error",)

    def __init__(self, error: Exception) -> None:
        self.error = error


#: How a result turns the parts of one reply into an outcome: index, status, payload, buffers, fault, engine.
Opener = Callable[[int, int, bytes, "Sequence[memoryview]", "Fault | None", int], object]


def open_value(payload: bytes, buffers: Sequence[Buffer]) -> object:
    """The value of a good reply. A payload that cannot be unpacked here is a failure, too."""
    try:
        return unpack(payload, buffers)
    except Exception as error:  # whatever the pickled classes of the user raise
        error.add_note("This happened on the client, while it unpacked a result that had arrived safely.")
        return Failed(error)


def open_fault(status: int, fault: Fault | None, engine_info: dict[str, object]) -> Failed:
    """The error of a bad reply."""
    if fault is None:
        fault = Fault("KernelError", "KernelError", f"The request ended with status {status} and no explanation.")
    return Failed(exception_from_fault(fault.kind, fault.ename, fault.evalue, fault.traceback, engine_info))


def as_raised(failed: Failed, payload: bytes) -> Failed:
    """The exception that user code raised in place of its description, which becomes its cause; if it was sent."""
    if isinstance(failed.error, RemoteError) and payload:
        original = unpack_exception(payload)
        if original is not None and not isinstance(original, StopIteration):  # it would end the caller's generator
            original.__cause__ = failed.error
            return Failed(original)
    return failed


def status_word(status: int) -> str:
    """A status as ``metadata`` names it."""
    return _STATUS_WORDS.get(Status(status), "error")


class Replies(Protocol):
    """Replies by index. What ``AsyncResult`` needs to know of them."""

    def __len__(self) -> int: ...

    def has(self, index: int) -> bool:
        """Whether the reply with this index has arrived."""

    def outcome(self, index: int, opener: Opener, *, plain: bool = False) -> object:
        """Value or ``Failed`` of a reply that has arrived. All callers get the same object.

        ``plain`` says that ``opener`` is needed for errors only.
        """

    def times(self, index: int) -> tuple[float, float, float]:
        """When it was started, finished and received: seconds since the epoch, 0 for not yet."""

    def engine(self, index: int) -> int:
        """Who replied; -1 for nobody yet, or the controller."""

    def status(self, index: int) -> int:
        """How it ended."""


class Columns:
    """Replies that come in over the link. Only the thread that holds the link's lock stores; everybody may read."""

    __slots__ = ("_buffers", "_cells", "_engines", "_faults", "_finished", "_received", "_started", "_states")

    def __init__(self, count: int) -> None:
        self._cells: list[object] = [None] * count
        self._states = bytearray(count)
        self._engines = array("i", b"\xff" * (4 * count))
        zeros = bytes(8 * count)
        self._started = array("d", zeros)
        self._finished = array("d", zeros)
        self._received = array("d", zeros)
        self._buffers: dict[int, list[memoryview]] = {}
        self._faults: dict[int, tuple[int, Fault | None]] = {}

    def __len__(self) -> int:
        return len(self._states)

    def grow(self) -> int:
        """Make room for one more; return its index. Done by the thread that submits, before it submits."""
        index = len(self._states)
        self._cells.append(None)
        self._engines.append(-1)
        self._started.append(0.0)
        self._finished.append(0.0)
        self._received.append(0.0)
        self._states.append(_ABSENT)
        return index

    def store(self, index: int, result: Result, engine: int, buffers: list[memoryview], when: float) -> bool:
        """Keep a reply. False if there was one already: a request has exactly one outcome, later ones are dropped."""
        if self._states[index]:
            return False
        self._cells[index] = result.payload
        self._engines[index] = engine
        self._started[index] = result.started
        self._finished[index] = result.finished
        self._received[index] = when
        if buffers:
            self._buffers[index] = buffers
        if result.status:
            self._faults[index] = (result.status, result.fault)
        self._states[index] = _PACKED
        return True

    def has(self, index: int) -> bool:
        """Whether the reply with this index has arrived."""
        return self._states[index] != _ABSENT

    def outcome(self, index: int, opener: Opener, *, plain: bool = False) -> object:
        """Value or ``Failed`` of a reply that has arrived, unpacked by the first caller."""
        with _publishing:
            cell = self._cells[index]
            if self._states[index] == _OPENED:
                return cell
            buffers = self._buffers.get(index, ()) if self._buffers else ()
        if plain and index not in self._faults:
            value = open_value(cell, buffers)  # type: ignore[arg-type]  # packed cells hold payloads
        else:
            status, fault = self._faults.get(index, (0, None))
            value = opener(index, status, cell, buffers, fault, self._engines[index])  # type: ignore[arg-type]  # likewise
        with _publishing:
            if self._states[index] == _OPENED:
                return self._cells[index]
            self._cells[index] = value
            self._states[index] = _OPENED
            if buffers:
                self._buffers.pop(index, None)
        return value

    def outcomes(self, opener: Opener, *, plain: bool) -> list[object]:
        """All of them, in order. All must have arrived."""
        if plain and not self._faults and not self._buffers and (opened := self._open_all()):
            return opened
        outcome = self.outcome
        return [outcome(index, opener, plain=plain) for index in range(len(self._states))]

    def _open_all(self) -> list[object]:
        """Open everything at once, if nothing has been opened yet: a third of the cost. Else return an empty list."""
        with _publishing:
            if self._states.count(_PACKED) != len(self._states):
                return []
            cells = list(self._cells)
        opened = [open_value(cell, ()) for cell in cells]  # type: ignore[arg-type]  # packed cells hold payloads
        with _publishing:
            if self._states.count(_PACKED) != len(self._states):
                return []
            self._cells = opened
            self._states = bytearray([_OPENED]) * len(opened)
            return list(opened)

    def times(self, index: int) -> tuple[float, float, float]:
        """When it was started, finished and received: seconds since the epoch, 0 for not yet."""
        return self._started[index], self._finished[index], self._received[index]

    def engine(self, index: int) -> int:
        """Who replied; -1 for nobody yet, or the controller."""
        return self._engines[index]

    def status(self, index: int) -> int:
        """How it ended."""
        return self._faults.get(index, (0, None))[0]


class Joined:
    """Replies of several results seen as those of one."""

    __slots__ = ("_parts",)

    def __init__(self, parts: list[tuple[SingleReplies, int]]) -> None:
        self._parts = parts

    def __len__(self) -> int:
        return len(self._parts)

    def source(self, index: int) -> tuple[SingleReplies, int]:
        """The result that reply belongs to, and its index there."""
        return self._parts[index]

    def has(self, index: int) -> bool:
        """Whether the reply with this index has arrived."""
        part, inner = self._parts[index]
        return part.reply_arrived(inner)

    def outcome(self, index: int, opener: Opener, *, plain: bool = False) -> object:  # noqa: ARG002 - parts open their own
        """Value or ``Failed``, from the result it belongs to."""
        part, inner = self._parts[index]
        return part.reply_outcome(inner)

    def times(self, index: int) -> tuple[float, float, float]:
        """When it was started, finished and received: seconds since the epoch, 0 for not yet."""
        part, inner = self._parts[index]
        return part.reply_times(inner)

    def engine(self, index: int) -> int:
        """Who replied; -1 for nobody yet, or the controller."""
        part, inner = self._parts[index]
        return part.reply_engine(inner)

    def status(self, index: int) -> int:
        """How it ended."""
        part, inner = self._parts[index]
        return part.reply_status(inner)


class SingleReplies(Protocol):
    """A result as a source of replies."""

    def reply_arrived(self, index: int) -> bool:
        """As ``Replies.has``; likewise the others."""

    def reply_outcome(self, index: int) -> object:
        """See ``Replies``."""

    def reply_times(self, index: int) -> tuple[float, float, float]:
        """See ``Replies``."""

    def reply_engine(self, index: int) -> int:
        """See ``Replies``."""

    def reply_status(self, index: int) -> int:
        """See ``Replies``."""

    def reply_metadata(self, index: int) -> Metadata:
        """What is known about request ``index``."""
