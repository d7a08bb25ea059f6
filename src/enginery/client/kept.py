"""Results that stay on their engines: KeptValue, the handle that a client has of one."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any, Final, NoReturn, Self

from enginery.client.metadata import message_id
from enginery.client.result import AsyncResult
from enginery.wire.kept import Description, load, name_of
from enginery.wire.messages import Action, Task

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from enginery.client.client import Client
    from enginery.client.link import Link


class KeptValue:
    """A value that stays on the engine that made it. What ``keep=True`` gives in place of a result. Thread-safe.

    As an argument of a task it means the value itself, and the task goes to an engine that has it. Others that need it get
    it from there, not by way of the client. It is forgotten when nobody here has its handle any more; with it goes the
    value, which should not be changed by those who use it, for there may be several copies.
    """

    __slots__ = ("__weakref__", "_client", "_id", "description", "engine")

    def __init__(self, client: Client, task: int, engine: int, description: Description) -> None:
        """Not to be called by users."""
        self._client = client
        self._id = task
        self.engine = engine  #: id of the engine that made it
        self.description = description

    @property
    def msg_id(self) -> str:
        """The message id of the request that made it."""
        return message_id(self._client.session, self._id)

    @property
    def nbytes(self) -> int:
        """About how many bytes it takes."""
        return self.description.size

    def get_async(self) -> AsyncResult:
        """Fetch the value: an AsyncResult, for which the engine is not kept from its task."""
        client = self._client
        result = AsyncResult(client, client.link.take_ids(1), "fetch", [self.engine])
        result._method = "fetch"
        client.remember(result, 0)
        task = Task(result._first, Action.FETCH, b"", b"%d" % self._id)
        client.link.submit_direct([self.engine], task, [], result)
        return result

    def get(self, timeout: float | None = None) -> Any:
        """Fetch the value; it stays there as well.

        Raises EngineError if the engines that had it are gone, TimeoutError after ``timeout`` seconds.
        """
        return self.get_async().get(timeout)

    def where(self) -> list[int]:
        """Ids of the engines that have it."""
        found: list[int] = self._client.where(self)
        return found

    def __reduce__(self) -> tuple[Callable[[bytes], Any], tuple[bytes]]:
        return load, (name_of(self._id),)

    def __copy__(self) -> Self:
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        return self

    def __iter__(self) -> NoReturn:
        raise TypeError(f"{self!r} is on its engine; get() fetches it.")

    def __repr__(self) -> str:
        kind, size, text = self.description
        what = ", ".join(part for part in (kind, text, f"{size} bytes") if part)
        return f"<KeptValue on engine {self.engine}: {what}>"

    def __del__(self) -> None:
        self._client.link.forget([self._id])


class Lease:
    """The values of one request, until each has a handle of its own. Ends with the request's result."""

    __slots__ = ("_handles", "_ids", "_link", "_lock")

    def __init__(self, link: Link, ids: Sequence[int]) -> None:
        self._link = link
        self._ids = ids
        self._handles: dict[int, KeptValue] = {}
        self._lock = threading.Lock()

    def handle(self, client: Client, index: int, engine: int, description: Description) -> KeptValue:
        """The handle of one value: the same for all who ask, since the end of any would be the end of the value."""
        with self._lock:
            found = self._handles.get(index)
            if found is None:
                found = self._handles[index] = KeptValue(client, self._ids[index], engine, description)
            return found

    def __del__(self) -> None:
        left = [task for index, task in enumerate(self._ids) if index not in self._handles]
        for at in range(0, len(left), _AT_ONCE):
            self._link.forget(left[at : at + _AT_ONCE])


def keep(result: AsyncResult, ids: Sequence[int]) -> None:
    """Have the values of a request, which stay on their engines, become handles. ``ids`` may still grow."""
    result._lease = Lease(result.client.link, ids)
    result._convert = _as_handle


def _as_handle(result: AsyncResult, index: int, value: Any, engine: int) -> Any:
    if type(value) is not Description:
        return value
    return result._lease.handle(result.client, index, engine, value)


#: Values forgotten by one message.
_AT_ONCE: Final = 5_000
