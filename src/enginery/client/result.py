"""The result of a request that may not be there yet: AsyncResult."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from concurrent.futures import ALL_COMPLETED, FIRST_COMPLETED, FIRST_EXCEPTION, CancelledError
from contextlib import suppress
from typing import Any, Final
from warnings import warn

from enginery.client import explain
from enginery.client.described import Described
from enginery.client.execute_reply import ExecuteReply
from enginery.client.handle import CANCELLED, FINISHED, _guard, seconds
from enginery.client.metadata import KEYS, message_id
from enginery.client.replies import Columns, Failed, Joined
from enginery.errors import collect_exceptions

#: How many missing engines or messages an error names.
_NAMED: Final = 10


class AsyncResult(Described):
    """The result of one request, or of one request to each of several engines.

    It is a ``concurrent.futures.Future`` in every respect, can be awaited, has the methods of
    ``multiprocessing.pool.AsyncResult``, and tells about its requests: ``metadata``, output, timing. Thread-safe.

    ``ar.key`` and ``ar["key"]`` give entries of the metadata; a list of them when several engines were asked.
    """

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
        if self._ended != FINISHED:
            self._await(timeout, return_when)
        keep = self._return_exceptions if return_exceptions is None else return_exceptions
        if self._scalar:
            outcome = self.reply_outcome(0)
            if type(outcome) is Failed:
                if keep:
                    return outcome.error
                error = outcome.error
                # The traceback will hold this frame; see `throw`.
                del self, outcome
                try:
                    throw(error)
                finally:
                    del error
            return outcome
        return self._assemble(keep)

    def _await(self, timeout: float | None, return_when: str | None) -> None:
        """Wait for ``get``; raise what there is to raise before the result itself."""
        enough = self._is_settled
        if return_when == FIRST_EXCEPTION:
            enough = self._has_failed_or_ended
        elif return_when == FIRST_COMPLETED:
            warn("get() waits for all results; FIRST_COMPLETED is for wait().", stacklevel=3)
        if not self._wait_until(enough, timeout):
            raise TimeoutError(self._late(timeout))
        self._check_cancelled()
        if self._ended is None:
            self._raise_early()

    def result(self, timeout: float | None = None) -> Any:
        """As ``get(timeout)``."""
        return self.get(timeout)

    def exception(self, timeout: float | None = None) -> BaseException | None:
        """Wait for the result and return the error that ``get`` would raise, or None."""
        if self._ended is None and not self._wait_until(self._is_settled, timeout):
            raise TimeoutError(self._late(timeout))
        self._check_cancelled()
        if self._scalar:
            outcome = self.reply_outcome(0)
            return outcome.error if isinstance(outcome, Failed) else None
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

    def _assemble(self, keep: bool) -> Any:
        """The list of values. Raises CompositeError if there are errors among them, unless they are to be kept."""
        outcomes = self._outcomes()
        if Failed in set(map(type, outcomes)):
            errors = [outcome.error for outcome in outcomes if isinstance(outcome, Failed)]
            if not keep:
                self._throw_all(errors)
            return [outcome.error if isinstance(outcome, Failed) else outcome for outcome in outcomes]
        return outcomes

    def _outcomes(self) -> list[object]:
        if isinstance(self._many, Columns) and self._ended != CANCELLED:
            return self._many.outcomes(self._open, plain=self._convert is None)
        return [self.reply_outcome(index) for index in range(self._size())]

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
        return self._message_id_at(missing[0] if missing else 0)

    def why(self) -> str:
        """Why it is not done: a sentence for each request that has not ended. Asks the controller."""
        return explain.why(self)

    def _tell_wait(self) -> str:
        missing = self._open_ids()
        total = self._size()
        what = f"the result of {self._fname}" if total == 1 else f"{len(missing)} of {total} results of {self._fname}"
        if not missing:
            return f"{what}: they are all here, and their input has not ended."
        return f"{what} (message id {message_id(self.client.session, missing[0])}): " + explain.in_short(
            self.client, missing[0]
        )

    # --- giving up ------------------------------------------------------------------------------------------------

    def abort(self, interrupt: bool = False, *, kill_after: float | None = None, restart: bool = False) -> None:
        """Take back what has not begun; with ``interrupt`` also stop what has. Its result becomes TaskAborted.

        ``kill_after`` waits so many seconds, and then kills the engines that have not heeded the interrupt; with
        ``restart`` they are started anew. See ``Client.abort``.

        Raises RuntimeError if all results are there already.
        """
        if self._ended is not None:
            raise RuntimeError(f"{self!r} is done already: there is nothing left to abort.")
        if kill_after is not None:
            self.client.abort(self, block=False, kill_after=kill_after, restart=restart)
        else:
            self.client.link.abort(self._open_ids(), interrupt=interrupt)

    def _withdraw(self, *, interrupt: bool) -> None:
        ids = self._open_ids()
        for part in self._parts or ():
            part._ended_with(CANCELLED)
        self.client.link.abort(ids, interrupt=interrupt)
        for waker in self._wakers:
            waker()

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

    @staticmethod
    def join(*results: AsyncResult) -> AsyncResult:
        """One result for the requests of several; it is done when all of them are. Raises ValueError for none."""
        if not results:
            raise ValueError("join() needs at least one result.")
        return joined(AsyncResult, results)

    # --- as a collection ------------------------------------------------------------------------------------------

    def __iter__(self) -> Iterator[Any]:
        if self._scalar:
            raise TypeError(f"{self!r} stands for one result, which cannot be iterated; get() returns it.")
        return self._values()

    def _values(self) -> Iterator[Any]:
        for index in range(self._size()):
            self._check_cancelled()
            if not self.reply_arrived(index):
                self._wait_until(lambda index=index: self.reply_arrived(index) or self._ended is not None, None)  # type: ignore[misc]
                self._check_cancelled()
            yield from self._unfold(index)

    def _unfold(self, index: int) -> Sequence[Any]:
        """What reply ``index`` adds to an iteration."""
        outcome = self.reply_outcome(index)
        if type(outcome) is Failed:
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
            with suppress(RuntimeError):  # the loop is closed: nobody waits any more
                loop.call_soon_threadsafe(news.set)

        with _guard:
            self._wakers = (*self._wakers, wake)
        try:
            while not predicate():
                self._check_cancelled()
                await news.wait()
                news.clear()
        except asyncio.CancelledError:
            self._cancel(interrupt=True)
            raise
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

    def __repr__(self) -> str:
        if self._ended is None:
            state = "pending" if self._size() == 1 else f"{self.progress} of {len(self)} done"
        elif self._ended == CANCELLED:
            state = "cancelled"
        else:
            state = "failed" if self._has_failed() else "finished"
        return f"<{type(self).__name__}({self._fname}): {state}>"


def joined(kind: type[AsyncResult], results: Sequence[AsyncResult]) -> AsyncResult:
    """One result of some kind for the requests of several."""
    pairs = [(part, index) for part in results for index in range(part._size())]
    whole = kind(results[0].client, pairs[0][0]._id_at(pairs[0][1]) if pairs else 0, results[0]._fname)
    whole._scalar = False
    whole._many = Joined(list(pairs))
    whole._ids = [part._id_at(index) for part, index in pairs]
    whole._submitted = min(part._submitted for part in results)
    whole._targets = [part.reply_engine(index) for part, index in pairs]

    def check() -> None:
        for waker in whole._wakers:
            waker()
        if all(part._ended is not None for part in results):
            whole._ended_with(FINISHED)

    for part in results:
        part._hook(check)
    return whole


def throw(error: Exception) -> None:
    """Raise ``error`` without leaving a circle from its traceback through this frame back to it."""
    try:
        raise error.with_traceback(None)
    finally:
        del error


def as_execute_reply(result: AsyncResult, index: int, content: dict[str, Any], engine: int) -> ExecuteReply:
    """What ``execute`` gives in place of the plain mapping that the engine sends."""
    return ExecuteReply(engine, content, lambda: result.reply_metadata(index))
