"""Both ways to call one method: blocking, and awaited.

Bringing up a cluster is waiting for processes and pipes, so the blocking form does the work and its awaitable twin
runs it in a thread. The other way round, a blocking call could not be made where an event loop runs already, as in
every notebook.
"""

from __future__ import annotations

import functools
import inspect
import threading
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec, TypeVar

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine

P = ParamSpec("P")
S = TypeVar("S")
R = TypeVar("R")


def awaitable(method: Callable[Concatenate[S, P], R]) -> Callable[Concatenate[S, P], Coroutine[Any, Any, R]]:
    """The awaitable twin of a blocking method."""

    @functools.wraps(method)
    async def twin(self: S, /, *args: P.args, **kwargs: P.kwargs) -> R:
        # Whoever can await has loaded asyncio; nobody else shall pay the 70 ms.
        import asyncio

        return await asyncio.to_thread(method, self, *args, **kwargs)

    twin.__name__ = method.__name__.removesuffix("_sync")
    twin.__qualname__ = method.__qualname__.removesuffix("_sync")
    return twin


def finish(value: Any) -> Any:
    """``value`` itself, or what comes of awaiting it: methods of launchers may be coroutine functions."""
    if not inspect.isawaitable(value):
        return value
    # As above.
    import asyncio

    outcome: list[Any] = []
    failure: list[BaseException] = []

    async def await_it(something: Awaitable[Any]) -> Any:
        return await something

    def run() -> None:
        try:
            outcome.append(asyncio.run(await_it(value)))
        except BaseException as error:  # raised again by the caller's thread
            failure.append(error)

    # A thread of its own, because a loop may be running in this one.
    thread = threading.Thread(target=run, name="enginery-launcher")
    thread.start()
    thread.join()
    if failure:
        raise failure[0]
    return outcome[0]
