"""The result of a request that may not be there yet: AsyncResult.

Rules of the room:

1. A result is the link's sink: ``arrived`` and ``said`` run under the link's lock, keep what came, and call no user code.
2. Values are unpacked when somebody asks, once, in the thread that asks.
3. What only some results need (many replies, output, callbacks) are class attributes until needed: making the result of
   one request costs four stores and no lock.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from concurrent.futures import ALL_COMPLETED, FIRST_COMPLETED, FIRST_EXCEPTION, CancelledError
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Any, Final
from warnings import warn

from enginery.client import replies
from enginery.client.execute_reply import ExecuteReply
from enginery.client.handle import CANCELLED, FINISHED, _guard, seconds
from enginery.client.metadata import KEYS, Metadata, message_id, moment
from enginery.client.outputs import Spoken, display, live
from enginery.client.replies import Columns, Failed, Joined, open_reply
from enginery.client.timing import Timed
from enginery.errors import collect_exceptions
from enginery.wire.messages import Result, Status

if TYPE_CHECKING:
    from enginery.client.client import Client
    from enginery.wire.messages import Fault, Options, Output

_now = time.time
#: Stands for "not unpacked yet", since every other object may be a value.
_UNOPENED: Final = object()
#: How many missing engines or messages an error names.
_NAMED: Final = 10


class AsyncResult(Timed):
    """The result of one request, or of one request to each of several engines.

    It is a ``concurrent.futures.Future`` in every respect, can be awaited, has the methods of
    ``multiprocessing.pool.AsyncResult``, and tells about its requests: ``metadata``, output, timing. Thread-safe.

    ``ar.key`` and ``ar["key"]`` give entries of the metadata; a list of them when several engines were asked.
    """

    _many: Columns | Joined | None = None
    _scalar = True
    _arrived: tuple[Result, int, list[memoryview], float] | None = None
    _value: object = _UNOPENED
    _count = 0
    _failing = False
    _targets: Sequence[int] | None = None
    _options: Options | None = None
    _convert: Callable[[AsyncResult, int, Any, int], Any] | None = None
    _ids: Sequence[int] | None = None
    _spoken: Spoken | None = None
    _parts: list[AsyncResult] | None = None
    _unheard: list[AsyncResult] | None = None
    _wakers: tuple[Callable[[], object], ...] = ()
    _method = "apply"
    _return_exceptions = False
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
            if not count:
                self._ended = FINISHED
                self._told = True

    # --- what the link calls --------------------------------------------------------------------------------------

    def arrived(self, result: Result, engine: int, buffers: list[memoryview], when: float) -> bool:
        """Keep a reply; whether ``completed`` is to be called. Under the link's lock."""
        if self._many is None:
            with _guard:
                if self._ended is None:
                    self._arrived = (result, engine, buffers, when)
                    self._ended = FINISHED
            return True
        return self._store(result.id - self._first, result, engine, buffers, when)

    def said(self, output: Output, engine: int) -> None:
        """Keep an output. Under the link's lock."""
        self._hear(0 if self._many is None else output.task - self._first, output, engine)

    def completed(self) -> None:
        """Run callbacks and tell waiters, of this result and of the parts that were split off."""
        if self._unheard:
            with _guard:
                unheard, self._unheard = self._unheard, []
            for part in unheard:
                part.completed()
        super().completed()

    def _store(self, index: int, result: Result, engine: int, buffers: list[memoryview], when: float) -> bool:
        columns = self._many
        assert isinstance(columns, Columns), "only results that own their replies are sinks"
        if not columns.store(index, result, engine, buffers, when):
            return False
        if result.status:
            self._failing = True
        self._count += 1
        ended = self._count == self._expected() and self._end(FINISHED)
        for waker in self._wakers:
            waker()
        if self._parts is not None:
            return self._end_part(index) or ended
        return ended

    def _expected(self) -> int:
        """How many replies make it complete; -1 while that is not known."""
        return len(self._many) if self._many is not None else 1

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
        if self._many is not None:
            if self._ended == CANCELLED and not self._many.has(index):
                return Failed(CancelledError())
            return self._many.outcome(index, self._open)
        if self._value is _UNOPENED:
            if self._arrived is None:
                return Failed(CancelledError())
            result, engine, buffers, when = self._arrived
            value = self._open(0, result.status, result.payload, buffers, result.fault, engine)
            # One value for all threads; the packed form is let go.
            bare = Result(result.id, result.status, b"", 0, result.started, result.finished)
            with _guard:
                if self._value is _UNOPENED:
                    self._value = value
                    self._arrived = (bare, engine, [], when)
        return self._value

    def reply_times(self, index: int) -> tuple[float, float, float]:
        """When request ``index`` was started, finished and received; 0 for not yet."""
        if self._many is not None:
            return self._many.times(index)
        if self._arrived is None:
            return 0.0, 0.0, 0.0
        result, _, _, when = self._arrived
        return result.started, result.finished, when

    def reply_engine(self, index: int) -> int:
        """Which engine request ``index`` went to, as far as known; else -1."""
        if self._many is not None:
            engine = self._many.engine(index)
        else:
            engine = self._arrived[1] if self._arrived is not None else -1
        if engine < 0 and self._targets is not None and index < len(self._targets):
            return self._targets[index]
        return engine

    def reply_status(self, index: int) -> int:
        """How request ``index`` ended; OK before it did."""
        if self._many is not None:
            return self._many.status(index)
        return self._arrived[0].status if self._arrived is not None else Status.OK

    def _open(
        self, index: int, status: int, payload: bytes, buffers: list[memoryview], fault: Fault | None, engine: int
    ) -> object:
        """Turn the parts of a reply into its outcome."""

        def engine_info() -> dict[str, object]:
            found = engine if engine >= 0 else self.reply_engine(index)
            return self.client.engine_info(found, self._method)

        value = open_reply(status, payload, buffers, fault, engine_info)
        if self._convert is not None and not isinstance(value, Failed):
            return self._convert(self, index, value, engine)
        return value

    def _id_at(self, index: int) -> int:
        return self._first + index if self._ids is None else self._ids[index]

    def _all_ids(self) -> list[int]:
        return [self._id_at(index) for index in range(self._size())]

    def _all_times(self) -> list[tuple[float, float, float]]:
        return [self.reply_times(index) for index in range(self._size()) if self.reply_arrived(index)]

    # --- waiting and values ---------------------------------------------------------------------------------------

    def get(
        self, timeout: float | None = None, return_exceptions: bool | None = None, return_when: str | None = None
    ) -> Any:
        """Wait for the result and return it.

        Args:
            timeout: Seconds to wait at most; None or negative: as long as it takes.
            return_exceptions: Give exceptions in place of values instead of raising them.
            return_when: FIRST_EXCEPTION raises as soon as one engine failed.

        Raises:
            RemoteError: User code raised (or CompositeError, where several engines were asked).
            KernelError: One of its kinds: an engine died, the task was aborted …
            TimeoutError: The time is over. Nothing is lost: ask again.
            CancelledError: ``cancel`` was called before.
        """
        if self._ended is None:
            enough = self._is_settled
            if return_when == FIRST_EXCEPTION:
                enough = self._has_failed_or_ended
            elif return_when == FIRST_COMPLETED:
                warn("get() waits for all results; FIRST_COMPLETED is for wait().", stacklevel=2)
            if not self._wait_until(enough, timeout):
                raise TimeoutError(self._late(timeout))
        if self._ended == CANCELLED:
            self._check_cancelled()
        if self._ended is None:
            self._raise_early()
        keep = self._return_exceptions if return_exceptions is None else return_exceptions
        if self._scalar:
            outcome = self.reply_outcome(0)
            if isinstance(outcome, Failed):
                if keep:
                    return outcome.error
                throw(outcome.error)
            return outcome
        return self._assemble(keep)

    def result(self, timeout: float | None = None) -> Any:
        """As ``get(timeout)``."""
        return self.get(timeout)

    def exception(self, timeout: float | None = None) -> BaseException | None:
        """Wait for the result and return the error that ``get`` would raise, or None."""
        if self._ended is None and not self._wait_until(self._is_settled, timeout):
            raise TimeoutError(self._late(timeout))
        self._check_cancelled()
        try:
            self.get()
        except Exception as error:  # that is what was asked for
            return error
        return None

    def wait(self, timeout: float | None = -1, return_when: str | None = None) -> Any:
        """Wait until it is done, at most ``timeout`` seconds (None or negative: as long as it takes).

        Returns whether it is done; with ``return_when`` (FIRST_COMPLETED, FIRST_EXCEPTION, ALL_COMPLETED) the sets of
        results, one per request, that are done and that are not.
        """
        if return_when is None:
            return self._ended is not None or self._wait_until(self._is_settled, timeout)
        self._wait_until(self._enough_for(return_when), timeout)
        parts = self.split()
        done = {part for part in parts if part.done()}
        return done, set(parts) - done

    def _enough_for(self, return_when: str) -> Callable[[], bool]:
        tests: dict[str, Callable[[], bool]] = {
            ALL_COMPLETED: self._is_settled,
            FIRST_EXCEPTION: self._has_failed_or_ended,
            FIRST_COMPLETED: lambda: self._count > 0 or self._ended is not None,
        }
        if return_when not in tests:
            raise ValueError(f"return_when must be one of {', '.join(tests)}, not {return_when!r}.")
        return tests[return_when]

    def wait_interactive(
        self,
        interval: float = 0.1,
        timeout: float | None = -1,
        widget: bool | None = None,
        return_when: str = ALL_COMPLETED,
    ) -> Any:
        """Wait as ``wait`` does, showing a progress bar. ``widget=True`` shows it as a notebook widget."""
        done = self._wait_with_bar(interval, timeout, widget, self._enough_for(return_when))
        return done if return_when == ALL_COMPLETED else self.wait(0, return_when)

    def wait_for_output(self, timeout: float | None = -1) -> bool:
        """Wait until all output is here. Output comes before the result, always, so this waits for the result."""
        return bool(self.wait(timeout))

    def wait_for_send(self, timeout: float | None = -1) -> bool:
        """Wait until the arguments may be changed again: until engines have them, which the result proves."""
        return bool(self.wait(timeout))

    @property
    def sent(self) -> bool:
        """Whether the arguments may be changed again."""
        return self.done()

    def ready(self) -> bool:
        """Whether it is done."""
        return self._ended is not None

    def successful(self) -> bool:
        """Whether it ended without an error. Raises RuntimeError before it is done."""
        if self._ended is None:
            raise RuntimeError(f"{self!r} is not ready; wait() for it before asking whether it was successful.")
        return self._ended == FINISHED and not self._has_failed()

    def running(self) -> bool:
        """Whether an engine was heard working on it."""
        return self._ended is None and (self._count > 0 or self._spoken is not None)

    def _has_failed(self) -> bool:
        if self._many is None:
            return self._arrived is not None and self._arrived[0].status != Status.OK
        return self._failing or any(self._many.status(index) for index in range(len(self._many)))

    def _has_failed_or_ended(self) -> bool:
        return self._failing or self._ended is not None

    def _assemble(self, keep: bool) -> Any:
        """The list of values. Raises CompositeError if there are errors among them, unless they are to be kept."""
        outcomes = [self.reply_outcome(index) for index in range(self._size())]
        if any(type(outcome) is Failed for outcome in outcomes):
            errors = [outcome.error for outcome in outcomes if isinstance(outcome, Failed)]
            if not keep:
                self._throw_all(errors)
            return [outcome.error if isinstance(outcome, Failed) else outcome for outcome in outcomes]
        return outcomes

    def _throw_all(self, errors: list[Exception]) -> None:
        for error in errors:
            if isinstance(error, CancelledError):
                raise CancelledError("A part of this result was cancelled before it came.")
        collect_exceptions(errors, self._fname)
        # Not one of ours: a value that arrived safely and could not be unpacked here.
        throw(errors[0])

    def _raise_early(self) -> None:
        failed = [index for index in range(self._size()) if self.reply_arrived(index) and self.reply_status(index)]
        outcomes = [self.reply_outcome(index) for index in failed]
        self._throw_all([outcome.error for outcome in outcomes if isinstance(outcome, Failed)])

    def _check_ready(self) -> None:
        if self._ended is None:
            raise TimeoutError(f"Result not ready: {self._late(None)}")

    def _late(self, timeout: float | None) -> str:
        """What is still awaited, in a sentence."""
        limit = seconds(timeout)
        waited = "" if limit is None else f"Waited {limit:g} s; "
        total = self._size()
        missing = [index for index in range(total) if not self.reply_arrived(index)]
        engines = [self.reply_engine(index) for index in missing[:_NAMED]]
        more = " …" if len(missing) > _NAMED else ""
        if self._targets is not None:
            who = f"engine {engines[0]}" if total == 1 and engines else f"engines {engines}{more}"
        else:
            who = "the load-balanced engines"
        what = f"the result of {self._fname}" if total == 1 else f"{len(missing)} of {total} results of {self._fname}"
        return f"{waited}{what} still awaited from {who} (first message id: {self._name_of(missing)})."

    def _name_of(self, missing: list[int]) -> str:
        return message_id(self.client.session, self._id_at(missing[0] if missing else 0))

    # --- giving up ------------------------------------------------------------------------------------------------

    def abort(self, interrupt: bool = False) -> None:
        """Take back what has not begun; with ``interrupt`` also stop what has. Its result becomes TaskAborted.

        Raises RuntimeError if all results are there already.
        """
        if self._ended is not None:
            raise RuntimeError(f"{self!r} is done already: there is nothing left to abort.")
        self.client.link.abort(self._open_ids(), interrupt=interrupt)

    def _withdraw(self) -> None:
        self.client.link.abort(self._open_ids())
        for part in self._parts or ():
            part._ended_with(CANCELLED)
        for waker in self._wakers:
            waker()

    def _open_ids(self) -> list[int]:
        return [self._id_at(index) for index in range(self._size()) if not self.reply_arrived(index)]

    # --- parts ----------------------------------------------------------------------------------------------------

    def split(self) -> list[AsyncResult]:
        """One result per request. The same objects each time."""
        if self._many is None:
            return [self]
        with _guard:
            if self._parts is None:
                self._unheard = []
                self._parts = [self._part(index) for index in range(self._size())]
        # Replies that came between making the parts and keeping them.
        for index, part in enumerate(self._parts):
            if part._ended is None and (self._many.has(index) or self._ended is not None):
                part._ended_with(self._ended if not self._many.has(index) else FINISHED)
        return self._parts

    def _part(self, index: int) -> AsyncResult:
        part = AsyncResult(self.client, self._id_at(index), self._fname)
        part._many = Joined([(self, index)])
        part._submitted = self._submitted
        part._method = self._method
        part._options = self._options
        if self._targets is not None and index < len(self._targets):
            part._targets = [self._targets[index]]
        return part

    def _end_part(self, index: int) -> bool:
        parts = self._parts
        if parts is None or index >= len(parts) or not parts[index]._end(FINISHED):
            return False
        with _guard:
            if self._unheard is None:
                self._unheard = []
            self._unheard.append(parts[index])
        return True

    def _ended_with(self, state: str | None) -> None:
        if state is not None and self._end(state):
            self.completed()

    @staticmethod
    def join(*results: AsyncResult) -> AsyncResult:
        """One result for the requests of several; it is done when all of them are. Raises ValueError for none."""
        if not results:
            raise ValueError("join() needs at least one result.")
        pairs = [(part, index) for part in results for index in range(part._size())]
        joined = AsyncResult(results[0].client, pairs[0][0]._id_at(pairs[0][1]) if pairs else 0, results[0]._fname)
        joined._scalar = False
        joined._many = Joined(list(pairs))
        joined._ids = [part._id_at(index) for part, index in pairs]
        joined._submitted = min(part._submitted for part in results)
        joined._targets = [part.reply_engine(index) for part, index in pairs]

        def check(_: object) -> None:
            if all(part._ended is not None for part in results):
                joined._ended_with(FINISHED)

        for part in results:
            part.add_done_callback(check)
        return joined

    # --- as a collection ------------------------------------------------------------------------------------------

    def __len__(self) -> int:
        return self._size()

    def __iter__(self) -> Iterator[Any]:
        if self._scalar:
            raise TypeError(f"{self!r} stands for one result, which cannot be iterated; get() returns it.")
        return self._values()

    def _values(self) -> Iterator[Any]:
        for index in range(self._size()):
            if not self.reply_arrived(index):
                self._wait_until(lambda index=index: self.reply_arrived(index) or self._ended is not None, None)  # type: ignore[misc]
                self._check_cancelled()
            yield from self._unfold(index)

    def _unfold(self, index: int) -> Sequence[Any]:
        """What reply ``index`` adds to an iteration."""
        outcome = self.reply_outcome(index)
        if isinstance(outcome, Failed):
            if self._return_exceptions:
                return (outcome.error,)
            throw(outcome.error)
        return (outcome,)

    def __aiter__(self) -> AsyncIterator[Any]:
        if self._scalar:
            raise TypeError(f"{self!r} stands for one result, which cannot be iterated; await it.")
        return self._values_async()

    async def _values_async(self) -> AsyncIterator[Any]:
        for index in range(self._size()):
            await self._wait_async(lambda index=index: self.reply_arrived(index))  # type: ignore[misc]
            for value in self._unfold(index):
                yield value

    async def _wait_async(self, predicate: Callable[[], bool]) -> None:
        """Wait in an event loop for ``predicate``, which may turn true when a reply arrives."""
        if predicate():
            return
        # Costs 40 ms to import; who runs a loop has it already.
        import asyncio

        loop = asyncio.get_running_loop()
        news = asyncio.Event()

        def wake() -> None:
            loop.call_soon_threadsafe(news.set)

        with _guard:
            self._wakers = (*self._wakers, wake)
        try:
            while not predicate():
                self._check_cancelled()
                await news.wait()
                news.clear()
        finally:
            with _guard:
                self._wakers = tuple(each for each in self._wakers if each is not wake)

    def __getitem__(self, key: str | int | slice) -> Any:
        if isinstance(key, str):
            if key not in KEYS:
                raise KeyError(f"Metadata has no {key!r}. It has: {', '.join(sorted(KEYS))}.")
            return self._entry(key)
        if isinstance(key, int | slice):
            self._check_ready()
            values = self.get()
            return ([values] if self._scalar else values)[key]
        raise TypeError(f"A result is indexed by numbers, slices and names of metadata, not by {key!r}.")

    def __getattr__(self, name: str) -> Any:
        return self._entry(name) if name in KEYS else super().__getattr__(name)

    # --- what is known about the requests -------------------------------------------------------------------------

    @property
    def msg_ids(self) -> list[str]:
        """The message ids of its requests."""
        return [message_id(self.client.session, each) for each in self._all_ids()]

    @property
    def metadata(self) -> Any:
        """A ``Metadata``, or a list of them if several engines were asked. What is not known yet is None."""
        return self.reply_metadata(0) if self._scalar else [self.reply_metadata(index) for index in range(self._size())]

    def _entry(self, key: str) -> Any:
        found = self.metadata
        return found[key] if self._scalar else [each[key] for each in found]

    def reply_metadata(self, index: int) -> Metadata:
        """What is known about request ``index``."""
        if isinstance(self._many, Joined):
            part, inner = self._many.source(index)
            return part.reply_metadata(inner)
        started, finished, received = self.reply_times(index)
        engine = self.reply_engine(index)
        info = self.client.engine_info(engine, self._method)
        found = Metadata(
            msg_id=message_id(self.client.session, self._id_at(index)),
            submitted=moment(self._submitted),
            started=moment(started),
            completed=moment(finished),
            received=moment(received),
            engine_id=engine if engine >= 0 else None,
            engine_uuid=info["engine_uuid"] or None,
        )
        if self.reply_arrived(index):
            found["status"] = replies.status_word(self.reply_status(index))
        self._add_options(found)
        self._add_output(found, index)
        return found

    def _add_options(self, found: Metadata) -> None:
        found["is_broadcast"], found["is_coalescing"] = self._flavour
        options = self._options
        if options is not None:
            session = self.client.session
            found["label"] = options.label or None
            for key, wanted in (("after", options.after), ("follow", options.follow)):
                if wanted is not None:
                    found[key] = [message_id(session, each) for each in wanted.ids]

    def _add_output(self, found: Metadata, index: int) -> None:
        spoken = self._spoken
        if spoken is not None:
            found["stdout"] = spoken.text("stdout", index)
            found["stderr"] = spoken.text("stderr", index)
            found["error"] = spoken.text("error", index) or None
            found["outputs"] = spoken.bundles("display", index)
            found["execute_result"] = next(iter(spoken.bundles("result", index)), None)
            found["data"] = dict(spoken.data.get(index, {}))
        if self.reply_arrived(index) and found["error"] is None and self.reply_status(index):
            outcome = self.reply_outcome(index)
            if isinstance(outcome, Failed):
                found["error"] = str(outcome.error)

    @property
    def progress(self) -> int:
        """How many items are done."""
        if isinstance(self._many, Joined):
            return sum(self._many.has(index) for index in range(len(self._many)))
        return self._count if self._many is not None else int(self._arrived is not None)

    def get_dict(self, timeout: float | None = -1) -> dict[int, Any]:
        """Results by engine id. Raises what ``get`` raises, and ValueError if an engine ran more than one request."""
        values = self.get(timeout)
        if self._scalar:
            return {self.reply_engine(0): values}
        engines = [self.reply_engine(index) for index in range(self._size())]
        if len(set(engines)) < len(engines):
            twice = next(engine for engine in engines if engines.count(engine) > 1)
            raise ValueError(f"Engine {twice} ran more than one request, so results have no single place by engine id.")
        return dict(zip(engines, values, strict=True))

    @property
    def result_dict(self) -> dict[int, Any]:
        """As ``get_dict()``."""
        return self.get_dict()

    @property
    def r(self) -> Any:
        """As ``get()``."""
        return self.get()

    # --- output ---------------------------------------------------------------------------------------------------

    def stream_output(self) -> AbstractContextManager[None]:
        """While the block runs, show output as it comes, under the labels of its engines."""
        if isinstance(self._many, Joined):
            return nullcontext()
        return live(self._spoken_now())

    def display_outputs(self, groupby: str = "type", result_only: bool = False) -> None:
        """Show what the engines printed and displayed, once all of it is here.

        Args:
            groupby: ``"type"`` (all stdout, then all stderr …), ``"engine"``, or ``"order"`` (as it came).
            result_only: Show what expressions gave, not what was printed.
        """
        self.wait_for_output()
        display([(self.reply_engine(at), at) for at in range(self._size())], self._spoken, groupby, result_only)

    def __repr__(self) -> str:
        if self._ended is None:
            state = "pending" if self._size() == 1 else f"{self.progress} of {len(self)} done"
        elif self._ended == CANCELLED:
            state = "cancelled"
        else:
            state = "failed" if self._has_failed() else "finished"
        return f"<{type(self).__name__}({self._fname}): {state}>"


def throw(error: Exception) -> None:
    """Raise ``error`` without leaving a circle from its traceback through this frame back to it."""
    try:
        raise error.with_traceback(None)
    finally:
        del error


def as_execute_reply(result: AsyncResult, index: int, content: dict[str, Any], engine: int) -> ExecuteReply:
    """What ``execute`` gives in place of the plain mapping that the engine sends."""
    return ExecuteReply(engine, content, lambda: result.reply_metadata(index))
