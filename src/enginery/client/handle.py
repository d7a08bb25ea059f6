"""A Future that costs nothing until it is used as one.

``concurrent.futures.Future`` makes a lock, a condition and two lists per object: 7.7 µs, which alone would cap a client
at 130,000 tasks/s. A ``Handle`` is a real Future (a subclass, honouring the whole contract), but makes these parts
when somebody first asks for them, which for most results is never.

Rules of the room:

1. ``_ended`` is set once, under ``_guard``. What the standard library reads is ``_state``: it turns final only in
   ``settled``, and under the condition where there is one, because ``concurrent.futures.wait`` reads it several
   times under that condition and counts on its standing still.
2. ``_guard`` is one lock for all handles, held for a few bytecodes. Nothing is called and no other lock is taken under it.
3. Callbacks are the user's code: they run outside of all locks, in a thread of the link's that runs nothing else, and
   may wait for other results there. Hooks are our own code and quick: they run in the thread that brought the last reply.
"""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable, Generator
from concurrent.futures import CancelledError, Future, InvalidStateError
from functools import partial
from typing import TYPE_CHECKING, Any, Final, NoReturn

from enginery.client.silence import wait_for

if TYPE_CHECKING:
    import asyncio

    from enginery.client.client import Client

# The words of concurrent.futures._base for its states; `wait` and `as_completed` compare with them.
PENDING: Final = "PENDING"
RUNNING: Final = "RUNNING"
CANCELLED: Final = "CANCELLED_AND_NOTIFIED"
FINISHED: Final = "FINISHED"

_guard = threading.Lock()
if hasattr(os, "register_at_fork"):
    # Another thread of the parent may hold it in the moment of a fork, and would never let go of it in the child.
    os.register_at_fork(after_in_child=_guard._at_fork_reinit)  # type: ignore[attr-defined]  # as the standard library
_log = logging.getLogger(__name__)


class _OnDemand:
    """A part of a Future that is made when the standard library first touches it.

    A descriptor, not ``__getattr__``: a class that has the latter pays for it at every attribute.
    """

    def __set_name__(self, owner: type[Handle], name: str) -> None:
        self.name = name

    def __get__(self, handle: Handle | None, owner: type[Handle] | None = None) -> Any:
        if handle is None:
            return self
        with _guard:
            if not handle._watched:
                # Before `_watched`, which tells others that they are there.
                handle.__dict__["_waiters"] = []
                handle.__dict__["_condition"] = threading.Condition()
                handle._watched = True
        return handle.__dict__[self.name]


class Handle(Future[Any]):
    """Base of results: end, cancellation, waiting and callbacks. Thread-safe.

    A subclass calls ``_end`` when all it waits for is there, and says by ``_has_failed`` whether it is an error.
    """

    client: Client
    _condition = _OnDemand()
    _waiters = _OnDemand()
    _ended: str | None = None
    _told = False
    _watched = False
    _callbacks: list[Callable[[Any], object]] | None = None
    _hooks: list[Callable[[], object]] | None = None
    #: Handles that are part of this one and have ended since ``settled`` was last called.
    _unheard: list[Handle] | None = None

    # Future.__init__ is not called, on purpose: see the head of this file.

    def __bool__(self) -> bool:
        # Results have lengths; `if result:` must not mean `if it is not empty`.
        return True

    # --- how it ends ----------------------------------------------------------------------------------------------

    def _end(self, state: str) -> bool:
        """Note that nothing more is awaited. False if it had ended before. ``settled`` must follow."""
        with _guard:
            if self._ended is not None:
                return False
            self._ended = state
            return True

    def settled(self) -> None:
        """Tell waiters and have callbacks run, those of ended parts first. Called without locks, as often as need be."""
        callbacks = self._tell()
        if callbacks:
            self.client.link.call_back(partial(self._call_all, callbacks))

    def _tell(self) -> list[Callable[[Any], object]] | None:
        """Tell waiters, once. Returns the callbacks, which the caller sees to."""
        if self._unheard:
            self._complete_parts()
        with _guard:
            if self._ended is None or self._told:
                return None
            watched = self._watched
            if not watched:
                self._told = True
        if watched:
            with self._condition:
                if not self._claim():
                    return None
                self._tell_waiters()
        with _guard:
            callbacks, self._callbacks = self._callbacks, None
            hooks, self._hooks = self._hooks, None
        for hook in hooks or ():
            hook()
        return callbacks

    def _complete_parts(self) -> None:
        with _guard:
            unheard, self._unheard = self._unheard, []
        for part in unheard or ():
            part.settled()

    def _claim(self) -> bool:
        """Under the condition: whether this thread is the one to tell."""
        with _guard:
            first, self._told = not self._told, True
            return first

    def _tell_waiters(self) -> None:
        for waiter in self._waiters:
            if self._ended == CANCELLED:
                waiter.add_cancelled(self)
            elif self._has_failed():
                waiter.add_exception(self)
            else:
                waiter.add_result(self)
        self._condition.notify_all()

    def _call_all(self, callbacks: list[Callable[[Any], object]]) -> None:
        for callback in callbacks:
            self._call(callback)

    def _call(self, callback: Callable[[Any], object]) -> None:
        try:
            callback(self)
        except Exception:  # the user's code; what the standard library promises is that it is logged
            _log.exception("callback %r of %r raised", callback, self)

    def _has_failed(self) -> bool:
        """Whether the outcome is an error. Asked after the end only."""
        raise NotImplementedError

    def _withdraw(self, *, interrupt: bool) -> None:
        """Take back what has not begun: the other half of ``cancel``."""
        raise NotImplementedError

    # --- the Future contract --------------------------------------------------------------------------------------

    @property
    def _state(self) -> str:  # type: ignore[override]  # read by the standard library, never set
        if self._told:
            return self._ended or PENDING
        return RUNNING if self.running() else PENDING

    def cancel(self) -> bool:
        """Give up on the result, and take back what has not begun.

        Returns False if it is there already. Otherwise the result is cancelled from now on, for good: callbacks run,
        waiting threads get CancelledError, and a reply that comes after all is dropped. An engine that has
        begun the task finishes it; see ``abort(interrupt=True)`` for stopping it.
        """
        return self._cancel(interrupt=False)

    def _cancel(self, *, interrupt: bool) -> bool:
        """As ``cancel``; with ``interrupt`` what has begun is stopped, too."""
        if not self._end(CANCELLED):
            return self._ended == CANCELLED
        self._withdraw(interrupt=interrupt)
        callbacks = self._tell()
        self.client.link.wake()
        self._call_all(callbacks or [])
        return True

    def cancelled(self) -> bool:
        """Whether ``cancel`` came before the result."""
        return self._ended == CANCELLED

    def done(self) -> bool:
        """Whether it ended: with a value, an error, or by cancellation."""
        return self._ended is not None

    def running(self) -> bool:
        """Whether it is known to have begun and has not ended."""
        return False

    def add_done_callback(self, fn: Callable[[Any], object]) -> None:
        """Call ``fn(self)`` once this ended: at once if it has, else in a thread that runs callbacks one after another.

        It may wait for other results. What it raises is logged.
        """
        with _guard:
            if not self._told:
                if self._callbacks is None:
                    self._callbacks = []
                self._callbacks.append(fn)
                return
        self._call(fn)

    def _hook(self, hook: Callable[[], object]) -> None:
        """Call ``hook()``, which is quick and ours, once this ended; at once if it has."""
        with _guard:
            if not self._told:
                if self._hooks is None:
                    self._hooks = []
                self._hooks.append(hook)
                return
        hook()

    def set_running_or_notify_cancel(self) -> bool:
        """Whether it is still wanted. Handles are run by engines; there is nothing to set."""
        return self._ended != CANCELLED

    def set_result(self, result: Any) -> NoReturn:
        """Not possible: results come from engines."""
        raise InvalidStateError(f"{self!r} gets its result from engines; it cannot be set to {result!r}.")

    def set_exception(self, exception: BaseException | None) -> NoReturn:
        """Not possible: results come from engines."""
        raise InvalidStateError(f"{self!r} gets its result from engines; it cannot be set to {exception!r}.")

    def _get_snapshot(self) -> tuple[bool, bool, Any, BaseException | None]:
        # Python 3.14's asyncio reads futures through this.
        if self._ended is None or self._ended == CANCELLED:
            return self._ended is not None, self._ended == CANCELLED, None, None
        error = self.exception()
        return True, False, None if error else self.result(), error

    def __await__(self) -> Generator[Any, None, Any]:
        return self._awaited().__await__()

    async def _awaited(self) -> Any:
        # Costs 40 ms to import; who awaits has it already.
        import asyncio

        if self._ended is None:
            loop = asyncio.get_running_loop()
            news = loop.create_future()
            self._hook(partial(wake_loop, loop, news))
            try:
                await news
            except asyncio.CancelledError:
                # Nobody else is to have it: the work ends with the task that awaited it.
                self._cancel(interrupt=True)
                raise
        if self._ended == CANCELLED:
            raise asyncio.CancelledError(f"{self!r} was cancelled before its result came.")
        return self.result()

    # --- waiting --------------------------------------------------------------------------------------------------

    def _is_settled(self) -> bool:
        return self._ended is not None

    def _wait_until(self, predicate: Callable[[], bool], timeout: float | None) -> bool:
        """Wait for ``predicate``; this thread drives the link meanwhile. Negative or None: for ever."""
        if predicate():
            return True
        return wait_for(self.client.link, predicate, seconds(timeout), self._tell_wait)

    def _tell_wait(self) -> str:
        """What is awaited, in words, for a person who waits."""
        return repr(self)

    def _check_cancelled(self) -> None:
        if self._ended == CANCELLED:
            raise CancelledError(f"{self!r} was cancelled before its result came.")


def wake_loop(loop: asyncio.AbstractEventLoop, news: asyncio.Future[None]) -> None:
    """From another thread: have an event loop go on with who waits for ``news``."""

    def tell() -> None:
        if not news.done():
            news.set_result(None)

    try:
        loop.call_soon_threadsafe(tell)
    except RuntimeError:
        pass  # the loop is closed: nobody waits any more


def seconds(timeout: float | None) -> float | None:
    """A timeout as the standard library means it: None for ever. Here negative ones mean for ever, too."""
    return None if timeout is None or timeout < 0 else float(timeout)
