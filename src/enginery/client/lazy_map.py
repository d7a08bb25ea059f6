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
from concurrent.futures import CancelledError
from itertools import islice
from time import monotonic
from typing import TYPE_CHECKING, Any, Final, NoReturn

from enginery.client import explain
from enginery.client.handle import seconds
from enginery.client.kept import KeptValue
from enginery.client.metadata import message_id
from enginery.client.needs import MENTION, with_needs
from enginery.client.progress import INTERVAL, Progress
from enginery.client.replies import Failed, as_raised, open_fault, open_value
from enginery.client.silence import Silence
from enginery.wire.kept import Description
from enginery.wire.messages import Action, Options, Task
from enginery.wire.serialize import pack, pack_call

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

    def __init__(
        self,
        client: Client,
        function: PackedFunction,
        options: Options | None,
        limit: int | None,
        chunksize: int = 1,
        *,
        ordered: bool = True,
    ) -> None:
        self.client = client
        self.function = function
        self.options = options
        #: Fixed size of the window; 0: no limit; None: found by looking at how long requests take.
        self.limit = limit
        #: Items of each request.
        self.chunksize = chunksize
        # Reentrant: the collector may run the finalizer of an iterator while this very thread holds it.
        self.room = threading.Condition()
        #: Position of a request in the input by its id, of those that are outstanding.
        self.places: dict[int, int] = {}
        #: Replies by position that wait to be taken, and where they are taken as they come, positions in that order.
        self.replies: dict[int, Reply] = {}
        self.arrivals: deque[int] | None = None if ordered else deque()
        self.kept: float = KEPT
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
                if self.arrivals is not None:
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
        return self.stopped or (len(self.places) < self.window() and len(self.replies) < self.kept)

    def stop(self, error: BaseException | None = None) -> None:
        """Read no more, and take back what has not begun. ``error`` is what the consumer gets; none ends the iteration."""
        with self.room:
            if self.stopped:
                return
            self.stopped = True
            self.error = error
            ids = list(self.places)
            self.replies.clear()
            self.room.notify_all()
        if ids and not self.client.link.closed:
            self.client.link.abort(ids)

    def drain(self) -> None:
        """Read on to the end, whatever the consumer takes, and wait until every reply is there."""
        with self.room:
            self.kept = float("inf")
            self.room.notify_all()
            self.room.wait_for(lambda: self.stopped or (self.exhausted and not self.places))

    def feed(self, items: Iterator[tuple[Any, ...]]) -> None:
        """Read and submit, item by item, until the input ends or nobody wants more. The reader thread's work."""
        try:
            while True:
                with self.room:
                    self.room.wait_for(self.has_room)
                    if self.stopped:
                        return
                chunk = list(islice(items, self.chunksize))
                if not chunk:
                    return
                self.submit(chunk)
        except BaseException as error:  # of the user's input, or of the link: the consumer gets it
            self.error = error
        finally:
            with self.room:
                self.exhausted = True
                # The consumer may be waiting for a reply that will never come.
                self.room.notify_all()

    def submit(self, chunk: list[tuple[Any, ...]]) -> None:
        """Send the request for one item, or for a chunk of them."""
        if self.chunksize == 1:
            action = Action.APPLY
            payload, buffers = pack_call(chunk[0], {})
        else:
            action = Action.MAP
            payload, buffers = pack({"items": chunk, "return_exceptions": False})
        options = self.options
        if MENTION in payload:
            options = with_needs(options, payload, [value for item in chunk for value in item])
        link = self.client.link
        task = link.take_id()
        with self.room:
            self.places[task] = self.read
            self.read += 1
        request = Task(task, action, self.function.digest, payload, len(buffers), options)
        try:
            link.submit(request, buffers, self, self.function)
        except BaseException:
            # Nobody will reply: the consumer must not wait for it, but get what went wrong.
            with self.room:
                if self.places.pop(task, None) is not None:
                    self.read -= 1
            raise


class LazyMapIterator(Iterator[Any]):
    """Iterates over results of ``imap``; ``cancel`` ends it early. For one consumer at a time."""

    def __init__(
        self,
        stream: Stream,
        items: Iterator[tuple[Any, ...]],
        *,
        return_exceptions: bool,
        bare: bool = False,
        total: int | None = None,
    ) -> None:
        """``bare``: errors of user code are raised as they are, not as RemoteError."""
        #: How many items there will be; None where the input does not say.
        self.total = total
        self._stream = stream
        self._return_exceptions = return_exceptions
        self._bare = bare
        self._taken = 0
        self._opened: deque[Any] = deque()  #: items of the chunk that is being handed out
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
        while not self._opened:
            self._opened.extend(self._open(self._take(timeout)))
        return self._opened.popleft()

    @property
    def progress(self) -> int:
        """How many items are done, whether they were taken or not."""
        stream = self._stream
        with stream.room:
            return (stream.read - len(stream.places)) * stream.chunksize

    def with_progress(self, widget: bool | None = None) -> Iterator[Any]:
        """The same results, with a progress bar: ``for result in view.imap(f, items).with_progress(): …``.

        It counts items that are done, and knows how many there will be if the input has a length.
        """
        with Progress(
            self._stream.function.name, lambda: self.total, self._done_of_total, 0.0, widget=widget
        ) as progress:
            look = monotonic() + INTERVAL
            while True:
                while not (self._opened or self._ready() or self._wait(INTERVAL)):
                    progress.update()
                if monotonic() > look:
                    progress.update()
                    look = monotonic() + INTERVAL
                try:
                    result = self.next()
                except StopIteration:
                    return
                yield result

    def _done_of_total(self) -> int:
        # What is counted as a chunk may be less than one at the end.
        return self.progress if self.total is None else min(self.progress, self.total)

    def cancel(self) -> None:
        """Read no more input, take back what has not begun, and end the iteration."""
        self._stream.stop()

    def withdraw(self) -> None:
        """As ``cancel``; but the consumer, if it asks for more, gets CancelledError."""
        self._stream.stop(CancelledError("The executor was shut down, and what had not begun was cancelled."))

    def drain(self) -> None:
        """Wait until the results of all input are here, which is read to its end."""
        self._stream.drain()

    def _take(self, timeout: float | None) -> Reply:
        stream = self._stream
        # Not through the link: the end of the input wakes us as well, and that is no message.
        if not self._ready() and not Silence(self._tell).wait(self._wait, _left(timeout)):
            raise TimeoutError(f"Waited {timeout:g} s for result {self._taken} of {stream.function.name}.")
        with stream.room:
            place = self._pick()
            if place is None:
                self._finish()
            reply = stream.replies.pop(place)
            stream.room.notify_all()
        self._taken += 1
        return reply

    def _wait(self, timeout: float | None) -> bool:
        with self._stream.room:
            return self._stream.room.wait_for(self._ready, timeout)

    def _ready(self) -> bool:
        stream = self._stream
        if stream.stopped or (stream.exhausted and self._taken >= stream.read):
            return True
        return self._taken in stream.replies if stream.arrivals is None else bool(stream.replies)

    def _tell(self) -> str:
        """What the consumer waits for, in words."""
        stream = self._stream
        what = f"result {self._taken} of {stream.function.name}"
        with stream.room:
            first = min(stream.places.items(), key=lambda entry: entry[1], default=None)
        if first is None:
            return f"{what}: its input has not come yet"
        name = message_id(stream.client.session, first[0])
        return f"{what} (message id {name}): {explain.in_short(stream.client, first[0])}"

    def _pick(self) -> int | None:
        """The position to take next. Under the stream's lock."""
        stream = self._stream
        if stream.arrivals is None:
            return self._taken if self._taken in stream.replies else None
        return stream.arrivals.popleft() if stream.replies else None

    def _finish(self) -> NoReturn:
        error, self._stream.error = self._stream.error, None
        if error is not None:
            raise error
        raise StopIteration

    def _open(self, reply: Reply) -> list[Any]:
        result, engine, buffers = reply
        client = self._stream.client
        if result.status:
            failed = open_fault(result.status, result.fault, client.engine_info(engine, "map"))
            outcome: object = as_raised(failed, result.payload) if self._bare else failed
        else:
            outcome = open_value(result.payload, buffers)
        if type(outcome) is Description:
            return [KeptValue(client, result.id, engine, outcome)]
        if isinstance(outcome, Failed):
            if self._return_exceptions:
                return [outcome.error]
            raise outcome.error
        return [outcome] if self._stream.chunksize == 1 else outcome  # type: ignore[return-value]  # a chunk's items


def _left(timeout: float | None) -> float | None:
    # A deadline that has passed gives a negative number here, which means "now", not "for ever".
    return None if timeout is None else seconds(max(0.0, timeout))


def lazy_map(
    client: Client,
    function: PackedFunction,
    sequences: tuple[Any, ...],
    *,
    options: Options | None,
    ordered: bool = True,
    max_outstanding: int | str | None = "auto",
    return_exceptions: bool = False,
    chunksize: int = 1,
    bare: bool = False,
) -> LazyMapIterator:
    """Begin a lazy map. Raises ValueError for a ``max_outstanding`` that is no count."""
    if max_outstanding in {"auto", None}:
        limit = None
    elif isinstance(max_outstanding, int) and max_outstanding >= 0:
        limit = max_outstanding
    else:
        raise ValueError(f"max_outstanding must be 'auto', 0 (no limit) or a count, not {max_outstanding!r}.")
    stream = Stream(client, function, options, limit, chunksize, ordered=ordered)
    items = zip(*sequences, strict=False)
    lengths = [len(each) for each in sequences if hasattr(each, "__len__")]
    return LazyMapIterator(
        stream,
        items,
        return_exceptions=return_exceptions,
        bare=bare,
        total=min(lengths, default=None),
    )
