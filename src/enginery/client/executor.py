"""A view as a concurrent.futures.Executor: ViewExecutor."""

from __future__ import annotations

import threading
import time
import weakref
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from enginery.client.result import AsyncResult
    from enginery.client.view import View


class ViewExecutor(Executor):
    """Runs calls on a view. Shutting it down waits for its calls; engines stay. Thread-safe."""

    def __init__(self, view: View) -> None:
        self.view = view
        self._closed = False
        self._pending: weakref.WeakSet[AsyncResult] = weakref.WeakSet()
        self._lock = threading.Lock()

    @property
    def _max_workers(self) -> int:
        return len(self.view)

    def _check_open(self) -> None:
        if self._closed:
            raise RuntimeError("This executor was shut down; ask the view for a new one (view.executor).")

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> AsyncResult:
        """Call ``fn(*args, **kwargs)`` on an engine; returns its AsyncResult, which is a Future."""
        self._check_open()
        result = self.view.apply_async(fn, *args, **kwargs)
        with self._lock:
            self._pending.add(result)
        return result

    def map(
        self,
        fn: Callable[..., Any],
        *iterables: Iterable[Any],
        timeout: float | None = None,
        chunksize: int = 1,  # noqa: ARG002 - of the interface
    ) -> Iterator[Any]:
        """Iterate over results in order. Input is read as engines become free, so it may be endless.

        ``timeout`` counts from this call, as in the standard library; then TimeoutError is raised. ``chunksize`` is not
        needed: requests travel in batches anyway.
        """
        self._check_open()
        results = self.view.imap(fn, *iterables)
        return results if timeout is None else _until(results, time.monotonic() + timeout)

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Take no more calls. Engines are not stopped.

        Args:
            wait: Return when the calls submitted so far are done.
            cancel_futures: Take back those that have not begun.
        """
        self._closed = True
        with self._lock:
            pending = [result for result in self._pending if not result.done()]
        if cancel_futures:
            for result in pending:
                result.cancel()
        if wait:
            self.view.client.wait(pending)


def _until(results: Any, deadline: float) -> Iterator[Any]:
    """The same results; TimeoutError when the next one is not there at ``deadline``."""
    while True:
        try:
            yield results.next(deadline - time.monotonic())
        except StopIteration:
            return
