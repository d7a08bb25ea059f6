"""Results of a map whose input is read only as engines become free: LazyMapIterator.

    input ──► reader thread ──► link ──► engines ──► Stream (sink) ──► the user's next()
                 ▲                                                          │
                 └────────── room for more: a reply came, one was taken ────┘

Rules of the room:

1. At most ``window`` requests are outstanding, and at most ``KEPT`` results wait to be taken: endless input needs no
   endless memory, however slow the consumer.
2. The reader refers to the ``Stream``, never to the iterator: an iterator that nobody holds is collected, which stops
   the reader.
"""

from __future__ import annotations

import threading
import weakref
from collections import deque
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Final

from enginery.client.handle import seconds
from enginery.client.replies import Failed, open_fault, open_value
from enginery.wire.messages import Action, Options, Task
from enginery.wire.serialize import pack_call

if TYPE_CHECKING:
    from enginery.client.client import Client
    from enginery.wire.callables import PackedFunction
    from enginery.wire.messages import Output, Result

#: How many results may wait to be taken before reading pauses.
KEPT: Final = 10_000
#: With max_outstanding="auto": work to keep with the engines, in seconds, and the largest window that may take.
AHEAD: Final = 0.02
WIDEST: Final = 4_096
#: Requests per engine to begin with, and always: one that runs and one that waits behind it.
PER_ENGINE: Final = 2
#: Weight of the newest request in the running mean of durations.
FRESH: Final = 0.1

Reply = tuple["Result", int, "list[memoryview]"]


class Stream:
    """What reader, link and consumer of one lazy map share."""

    def __init__(self, client: Client, function: PackedFunction, options: Options | None, limit: int | None) -> None:
        self.client = client
        self.function = function
        self.options = options
        #: Fixed size of the window; 0: no limit; None: found by looking at how long requests take.
        self.limit = limit
        self.room = threading.Condition(threading.Lock())
        #: Position in the input by id, of requests that are outstanding.
        self.places: dict[int, int] = {}
        #: Replies by position that wait to be taken, and positions in the order of arrival.
        self.replies: dict[int, Reply] = {}
        self.arrivals: deque[int] = deque()
        self.read = 0
        self.exhausted = False
        self.stopped = False
        self.error: BaseException | None = None
        self.mean = 0.0

    # --- as a sink ------------------------------------------------------------------------------------------------

    def arrived(self, result: Result, engine: int, buffers: list[memoryview], when: float) -> bool:  # noqa: ARG002 - the shape of a sink
        """Keep a reply. Under the link's lock."""
        spent = result.finished - result.started
        self.mean = spent if not self.mean else self.mean + FRESH * (spent - self.mean)
        with self.room:
            place = self.places.pop(result.id, None)
            if place is not None and not self.stopped:
                self.replies[place] = (result, engine, buffers)
                self.arrivals.append(place)
            self.room.notify_all()
        return False

    def said(self, output: Output, engine: int) -> None:
        """Output of the items of a lazy map is not kept: there may be no end of it."""

    def settled(self) -> None:
        """Nothing is to be done at the end."""

    # --- the reader's side ----------------------------------------------------------------------------------------

    def window(self) -> int:
        """How many requests may be outstanding now."""
        if self.limit is not None:
            return self.limit or KEPT
        engines = max(1, len(self.client.link.engines))
        wanted = engines * AHEAD / self.mean if self.mean > 0 else 0
        return max(PER_ENGINE * engines, min(WIDEST, int(wanted)))

    def has_room(self) -> bool:
        """Whether the reader may read one more item, or is to stop."""
        return self.stopped or (len(self.places) < self.window() and len(self.replies) < KEPT)

    def stop(self) -> None:
        """Read no more, and take back what has not begun."""
        with self.room:
            if self.stopped:
                return
            self.stopped = True
            ids = list(self.places)
            self.replies.clear()
            self.room.notify_all()
        if ids and not self.client.link.closed:
            self.client.link.abort(ids)

    def feed(self, items: Iterator[tuple[Any, ...]]) -> None:
        """Read and submit, item by item, until the input ends or nobody wants more. The reader thread's work."""
        try:
            while True:
                with self.room:
                    self.room.wait_for(self.has_room)
                    if self.stopped:
                        return
                item = next(items, None)
                if item is None:
                    return
                self.submit(item)
        except BaseException as error:  # of the user's input, or of the link: the consumer gets it
            self.error = error
        finally:
            with self.room:
                self.exhausted = True
                # The consumer may be waiting for a reply that will never come.
                self.room.notify_all()

    def submit(self, item: tuple[Any, ...]) -> None:
        """Send the request for one item."""
        payload, buffers = pack_call(item, {})
        link = self.client.link
        task = link.take_id()
        with self.room:
            self.places[task] = self.read
            self.read += 1
        request = Task(task, Action.APPLY, self.function.digest, payload, len(buffers), self.options)
        link.submit(request, buffers, self, self.function)


class LazyMapIterator(Iterator[Any]):
    """Iterates over results of ``imap``; ``cancel`` ends it early. For one consumer at a time."""

    def __init__(
        self, stream: Stream, items: Iterator[tuple[Any, ...]], *, ordered: bool, return_exceptions: bool
    ) -> None:
        self._stream = stream
        self._ordered = ordered
        self._return_exceptions = return_exceptions
        self._taken = 0
        self._finalizer = weakref.finalize(self, stream.stop)
        # A daemon: input may block for ever, and that must not keep the interpreter from ending.
        reader = threading.Thread(target=stream.feed, args=(items,), name="enginery-imap", daemon=True)
        reader.start()

    def __iter__(self) -> LazyMapIterator:
        return self

    def __next__(self) -> Any:
        return self.next()

    def next(self, timeout: float | None = None) -> Any:
        """The next result, waiting at most ``timeout`` seconds for it.

        Raises StopIteration at the end, TimeoutError, and what the item's function (or the input) raised.
        """
        stream = self._stream
        with stream.room:
            # Not through the link: the end of the input wakes us as well, and that is no message.
            if not stream.room.wait_for(self._ready, _left(timeout)):
                raise TimeoutError(f"Waited {timeout:g} s for result {self._taken} of {stream.function.name}.")
            place = self._pick()
            if place is None:
                return self._finish()
            reply = stream.replies.pop(place)
            stream.room.notify_all()
        self._taken += 1
        return self._open(reply)

    def cancel(self) -> None:
        """Read no more input, take back what has not begun, and end the iteration."""
        self._stream.stop()

    def _ready(self) -> bool:
        stream = self._stream
        if stream.stopped or (stream.exhausted and self._taken >= stream.read):
            return True
        return self._taken in stream.replies if self._ordered else bool(stream.replies)

    def _pick(self) -> int | None:
        """The position to take next. Under the stream's lock."""
        stream = self._stream
        if self._ordered:
            return self._taken if self._taken in stream.replies else None
        return stream.arrivals.popleft() if stream.replies else None

    def _finish(self) -> Any:
        error, self._stream.error = self._stream.error, None
        if error is not None and not self._stream.stopped:
            raise error
        raise StopIteration

    def _open(self, reply: Reply) -> Any:
        result, engine, buffers = reply
        client = self._stream.client
        if result.status:
            outcome: object = open_fault(result.status, result.fault, client.engine_info(engine, "map"))
        else:
            outcome = open_value(result.payload, buffers)
        if isinstance(outcome, Failed):
            if self._return_exceptions:
                return outcome.error
            raise outcome.error
        return outcome


def _left(timeout: float | None) -> float | None:
    # A deadline that has passed gives a negative number here, which means "now", not "for ever".
    return None if timeout is None else seconds(max(0.0, timeout))


def lazy_map(
    client: Client,
    function: PackedFunction,
    sequences: tuple[Any, ...],
    *,
    options: Options | None,
    ordered: bool,
    max_outstanding: int | str | None,
    return_exceptions: bool,
) -> LazyMapIterator:
    """Begin a lazy map. Raises ValueError for a ``max_outstanding`` that is no count."""
    if max_outstanding in {"auto", None}:
        limit = None
    elif isinstance(max_outstanding, int) and max_outstanding >= 0:
        limit = max_outstanding
    else:
        raise ValueError(f"max_outstanding must be 'auto', 0 (no limit) or a count, not {max_outstanding!r}.")
    stream = Stream(client, function, options, limit)
    items = zip(*sequences, strict=False)
    return LazyMapIterator(stream, items, ordered=ordered, return_exceptions=return_exceptions)
