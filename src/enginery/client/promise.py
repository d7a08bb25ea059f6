"""A Future for something this process waits for in a thread: it can be awaited, and cancelling it ends the waiting."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Generator
from concurrent.futures import Future
from typing import Any, TypeVar

_Value = TypeVar("_Value")


class Promise(Future[_Value]):
    """A Future that can be awaited as well."""

    def __await__(self) -> Generator[Any, None, _Value]:
        # Costs 40 ms to import; who awaits has it already.
        from asyncio import wrap_future

        return wrap_future(self).__await__()

    def _ipython_display_(self) -> None:
        """At the end of a notebook's cell it says something only as long as it is under way."""
        if not self.done():
            sys.stdout.write(f"{self!r}\n")


def promised(work: Callable[[Callable[[], bool]], _Value], wake: Callable[[], object], name: str) -> Promise[_Value]:
    """A promise of what ``work(is_unwanted)`` gives, which runs in a thread. ``wake`` has it look whether it is unwanted."""
    promise: Promise[_Value] = Promise()
    promise.add_done_callback(lambda each: wake() if each.cancelled() else None)

    def run() -> None:
        try:
            value = work(promise.cancelled)
        except Exception as error:  # handed on to whoever waits
            if promise.set_running_or_notify_cancel():
                promise.set_exception(error)
        else:
            if promise.set_running_or_notify_cancel():
                promise.set_result(value)

    threading.Thread(target=run, name=name, daemon=True).start()
    return promise


def kept() -> Promise[None] | None:
    """What a call that has waited already returns, so that it can be awaited in an event loop; None outside of one."""
    asyncio = sys.modules.get("asyncio")
    if asyncio is None or asyncio._get_running_loop() is None:
        return None
    promise: Promise[None] = Promise()
    promise.set_result(None)
    return promise
