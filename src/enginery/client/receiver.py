"""The receiving half of AsyncResult: what comes in over the link, and the replies by index.

Rules of the room:

1. ``arrived`` and ``said`` run under the link's lock: they keep what came, and call no user code.
2. Values are unpacked when somebody asks, once, in the thread that asks.
3. What only some results need (many replies, output, callbacks) are class attributes until needed: making the result of
   one request costs four stores and no lock.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from concurrent.futures import CancelledError
from typing import TYPE_CHECKING, Any, Final

import msgspec

from enginery.client.handle import CANCELLED, FINISHED, _guard
from enginery.client.outputs import Spoken
from enginery.client.replies import Columns, Failed, Joined, as_raised, open_fault, open_value
from enginery.client.timing import Timed
from enginery.wire.messages import Result, Status

if TYPE_CHECKING:
    from enginery.client.client import Client
    from enginery.wire.messages import Fault, Options, Output

_now = time.time
_OK: Final = int(Status.OK)
#: Stands for "not unpacked yet", since every other object may be a value.
_UNOPENED: Final = object()


class Arrival(msgspec.Struct, gc=False):
    """The reply to a single request: kept by the hundred thousand, and in no circle, so not for the garbage collector."""

    result: Result
    engine: int
    buffers: list[memoryview]
    when: float


class Receiver(Timed):
    """Replies and output of one request, or of several. The sink that the link knows."""

    _many: Columns | Joined | None = None
    _scalar = True
    _arrived: Arrival | None = None
    _value: object = _UNOPENED
    #: How many replies are here, and how many make it complete (-1 while that is not known).
    _count = 0
    _total = 1
    #: Indices in the order of arrival, where somebody wants to know.
    _arrivals: list[int] | None = None
    _failing = False
    _targets: Sequence[int] | None = None
    _options: Options | None = None
    _convert: Callable[[Any, int, Any, int], Any] | None = None
    _ids: Sequence[int] | None = None
    _spoken: Spoken | None = None
    _parts: list[Any] | None = None
    _wakers: tuple[Callable[[], object], ...] = ()
    _method = "apply"
    _return_exceptions = False
    #: Whether errors of user code are raised as they are, not as RemoteError.
    _bare = False
    #: Lets go of values that stay on their engines.
    _lease: Any = None
    _flavour: tuple[bool, bool] = (False, False)
    #: Kept for programs that set it. Nothing is cached outside of the result itself, so there is nothing to drop.
    owner = False

    def __init__(
        self, client: Client, first: int, fname: str, targets: Sequence[int] | None = None, count: int | None = None
    ) -> None:
        """A result of request ``first``, or of ``count`` requests with consecutive ids (a list of values)."""
        self.client = client
        self._first = first
        self._fname = fname
        self._submitted = _now()
        if targets is not None:
            self._targets = targets
        if count is not None:
            self._scalar = False
            self._many = Columns(count)
            self._total = count
            if not count:
                self._ended = FINISHED
                self._told = True

    # --- what the link calls --------------------------------------------------------------------------------------

    def arrived(self, result: Result, engine: int, buffers: list[memoryview], when: float) -> bool:
        """Keep a reply; whether ``settled`` is to be called. Under the link's lock."""
        if self._many is None:
            with _guard:
                if self._ended is None:
                    self._arrived = Arrival(result, engine, buffers, when)
                    self._ended = FINISHED
                    if self._callbacks is None and self._hooks is None and not self._watched:
                        # Nobody to be told, which is the rule: spares the link the call of `settled`.
                        self._told = True
                        return False
            return True
        return self._store(result.id - self._first, result, engine, buffers, when)

    def said(self, output: Output, engine: int) -> None:
        """Keep an output. Under the link's lock."""
        self._hear(0 if self._many is None else output.task - self._first, output, engine)

    def _store(self, index: int, result: Result, engine: int, buffers: list[memoryview], when: float) -> bool:
        # Hot: once per item of a map. Bench: map items at chunksize 1.
        columns = self._many
        if self._arrivals is not None and not columns.has(index):  # type: ignore[union-attr]  # sinks own their replies
            # Before it counts as arrived, so that who sees it counted finds it in this list.
            self._arrivals.append(index)
        if not columns.store(index, result, engine, buffers, when):  # type: ignore[union-attr]  # likewise
            return False
        if result.status:
            self._failing = True
        self._count += 1
        ended = self._count == self._total and self._end(FINISHED)
        if self._wakers or self._parts is not None:
            return self._tell_parts(index) or ended
        return ended

    def _hear(self, index: int, output: Output, engine: int) -> None:
        spoken = self._spoken
        if spoken is None:
            spoken = self._spoken_now()
        spoken.add(index, engine, output)

    def _spoken_now(self) -> Spoken:
        with _guard:
            if self._spoken is None:
                self._spoken = Spoken()
            return self._spoken

    # --- replies, by index ----------------------------------------------------------------------------------------

    def _size(self) -> int:
        """How many requests it stands for."""
        return 1 if self._many is None else len(self._many)

    def reply_arrived(self, index: int) -> bool:
        """Whether reply ``index`` is there."""
        return self._arrived is not None if self._many is None else self._many.has(index)

    def reply_outcome(self, index: int) -> object:
        """Value or ``Failed`` of reply ``index``."""
        many = self._many
        if many is None:
            return self._open_only() if self._value is _UNOPENED else self._value
        if self._ended == CANCELLED and not many.has(index):
            return Failed(CancelledError())
        return many.outcome(index, self._open, plain=self._convert is None)

    def _open_only(self) -> object:
        """The outcome of the only reply, which nobody has asked for yet."""
        if self._arrived is None:
            return Failed(CancelledError())
        result, buffers = self._arrived.result, self._arrived.buffers
        payload = result.payload
        # In this order: who publishes sets the value first, and then lets the payload go.
        if self._value is not _UNOPENED:
            return self._value
        if result.status == _OK and self._convert is None:
            value = open_value(payload, buffers)
        else:
            value = self._open(0, result.status, payload, buffers, result.fault, self._arrived.engine)
        with _guard:
            if self._value is _UNOPENED:
                self._value = value
                result.payload = b""
                if buffers:
                    self._arrived.buffers = []
            return self._value

    def reply_times(self, index: int) -> tuple[float, float, float]:
        """When request ``index`` was started, finished and received; 0 for not yet."""
        if self._many is not None:
            return self._many.times(index)
        if self._arrived is None:
            return 0.0, 0.0, 0.0
        result = self._arrived.result
        return result.started, result.finished, self._arrived.when

    def reply_engine(self, index: int) -> int:
        """Which engine request ``index`` went to, as far as known; else -1."""
        if self._many is not None:
            engine = self._many.engine(index)
        else:
            engine = self._arrived.engine if self._arrived is not None else -1
        if engine < 0 and self._targets is not None and index < len(self._targets):
            return self._targets[index]
        return engine

    def reply_status(self, index: int) -> int:
        """How request ``index`` ended; OK before it did."""
        if self._many is not None:
            return self._many.status(index)
        return self._arrived.result.status if self._arrived is not None else Status.OK

    def _open(
        self, index: int, status: int, payload: bytes, buffers: Sequence[memoryview], fault: Fault | None, engine: int
    ) -> object:
        """Turn the parts of a reply into its outcome."""
        if status == Status.OK:
            value = open_value(payload, buffers)
            if self._convert is not None and type(value) is not Failed:
                return self._convert(self, index, value, engine)
            return value
        info = self.client.engine_info(engine if engine >= 0 else self.reply_engine(index), self._method)
        failed = open_fault(status, fault, info)
        return as_raised(failed, payload) if self._bare else failed

    def _id_at(self, index: int) -> int:
        return self._first + index if self._ids is None else self._ids[index]

    def _all_ids(self) -> list[int]:
        return [self._id_at(index) for index in range(self._size())]

    def _all_times(self) -> list[tuple[float, float, float]]:
        return [self.reply_times(index) for index in range(self._size()) if self.reply_arrived(index)]

    def __len__(self) -> int:
        return self._size()

    @property
    def progress(self) -> int:
        """How many items are done."""
        if isinstance(self._many, Joined):
            return sum(self._many.has(index) for index in range(len(self._many)))
        return self._count if self._many is not None else int(self._arrived is not None)

    def _arrived_bytes(self) -> int:
        return sum(weight for index, weight in enumerate(self._weights or ()) if self.reply_arrived(index))

    def running(self) -> bool:
        """Whether an engine was heard working on it."""
        return self._ended is None and (self._count > 0 or (self._spoken is not None and self._spoken.has_any))

    def _has_failed(self) -> bool:
        if self._many is None:
            return self._arrived is not None and self._arrived.result.status != Status.OK
        return self._failing or any(self._many.status(index) for index in range(len(self._many)))

    def _has_failed_or_ended(self) -> bool:
        return self._failing or self._ended is not None

    def _open_ids(self) -> list[int]:
        return [self._id_at(index) for index in range(self._size()) if not self.reply_arrived(index)]

    def _tell_parts(self, index: int) -> bool:
        """Reply ``index`` has come: wake event loops, end the part. Whether ``settled`` is to be called."""
        for waker in self._wakers:
            waker()
        parts = self._parts
        if parts is None or index >= len(parts) or not parts[index]._end(FINISHED):
            return False
        with _guard:
            self._unheard = [*(self._unheard or ()), parts[index]]
        return True

    def _ended_with(self, state: str | None) -> None:
        if state is not None and self._end(state):
            self.settled()
