"""A view as a concurrent.futures.Executor: ViewExecutor.

What the standard library documents for executors holds here: futures raise the exceptions themselves that were raised
in the engine (with the RemoteError as their cause), ``map`` raises TimeoutError when its time is over, and ``shutdown``
can cancel what has not begun. What differs is what cannot be otherwise: engines outlive the executor.
"""

from __future__ import annotations

import threading
import time
import weakref
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor, Future
from typing import TYPE_CHECKING, Any

from enginery.client.handle import CANCELLED
from enginery.client.lazy_map import LazyMapIterator, lazy_map
from enginery.errors import SerializationError
from enginery.wire.callables import pack_function
from enginery.wire.messages import Status

if TYPE_CHECKING:
    from enginery.client.result import AsyncResult
    from enginery.client.view import View
    from enginery.wire.messages import Output, Result


class ViewExecutor(Executor):
    """Runs calls on a view. Shutting it down waits for its calls; engines stay. Thread-safe."""

    def __init__(self, view: View) -> None:
        self.view = view
        self.closed = False
        self._pending: weakref.WeakSet[AsyncResult] = weakref.WeakSet()
        self._maps: weakref.WeakSet[LazyMapIterator] = weakref.WeakSet()
        self._lock = threading.Lock()

    @property
    def _max_workers(self) -> int:
        return len(self.view)

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        """Call ``fn(*args, **kwargs)`` on an engine; returns its AsyncResult, which is a Future.

        Raises RuntimeError after ``shutdown``. Arguments that cannot be sent fail the future, not this call.
        """
        with self._lock:
            self._check_open()
            try:
                result = self.view.apply_async(fn, *args, **kwargs)
            except SerializationError as error:
                failed: Future[Any] = Future()
                failed.set_exception(error)
                return failed
            result._bare = True
            self._pending.add(result)
        return result

    def map(
        self,
        fn: Callable[..., Any],
        *iterables: Iterable[Any],
        timeout: float | None = None,
        chunksize: int = 1,
    ) -> Iterator[Any]:
        """Iterate over results in the order of the input, which is read as engines become free: it may be endless.

        Args:
            fn: What to call.
            iterables: Where its arguments come from.
            timeout: Seconds from this call on, after which asking for a result that is not there raises TimeoutError.
            chunksize: Items per request. One is right unless items take microseconds; an item that raises fails its
                chunk.

        Raises ValueError for a ``chunksize`` below 1, RuntimeError after ``shutdown``.
        """
        if chunksize < 1:
            raise ValueError("chunksize must be >= 1.")
        end = None if timeout is None else time.monotonic() + timeout
        with self._lock:
            self._check_open()
            if not self.view.is_balanced:
                return iter(self.view.map_async(fn, *iterables))
            results = lazy_map(
                self.view.client,
                pack_function(fn),
                iterables,
                options=self.view._options(),  # type: ignore[attr-defined]  # balanced views have them
                chunksize=chunksize,
                bare=True,
            )
            self._maps.add(results)
        return _each(results, end)

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Take no more calls. Engines are not stopped.

        Args:
            wait: Return when all calls are done, those of maps included, whose input is read to its end.
            cancel_futures: Cancel what has not begun.
        """
        with self._lock:
            self.closed = True
            pending = [result for result in self._pending if not result.done()]
            maps = list(self._maps)
        if cancel_futures:
            for each in maps:
                each.withdraw()
            self._cancel(pending)
        if wait:
            for each in maps:
                each.drain()
            self.view.client.wait(pending)

    def _cancel(self, results: list[AsyncResult]) -> None:
        """Take back what has not begun; only when that has worked are its futures cancelled, as the contract has it."""
        link = self.view.client.link
        ids: list[int] = []
        for result in results:
            if result._many is not None:
                result.cancel()
                continue
            ids.append(result._first)
            link.divert([result._first], _Withdrawn(result))
        if ids:
            link.abort(ids)

    def _check_open(self) -> None:
        if self.closed:
            raise RuntimeError("cannot schedule new futures after shutdown: ask the view for another executor")

    def __repr__(self) -> str:
        return f"<ViewExecutor on {self.view!r}{' (shut down)' if self.closed else ''}>"


class _Withdrawn:
    """The sink of a request that is being taken back."""

    def __init__(self, owner: AsyncResult) -> None:
        self._owner = owner

    def arrived(self, result: Result, engine: int, buffers: list[memoryview], when: float) -> bool:
        """The answer. Under the link's lock."""
        if result.status == Status.ABORTED and self._owner._end(CANCELLED):
            return True
        return self._owner.arrived(result, engine, buffers, when)

    def said(self, output: Output, engine: int) -> None:
        """It has begun after all."""
        self._owner.said(output, engine)

    def settled(self) -> None:
        """See ``Sink``."""
        self._owner.settled()


def _each(results: LazyMapIterator, end: float | None) -> Iterator[Any]:
    """The same results, each of which has to be there at ``end``. No more are wanted when this one is closed."""
    try:
        while True:
            yield results.next(None if end is None else end - time.monotonic())
    except StopIteration:
        return
    finally:
        results.cancel()
