"""The client's memory of its requests: ids of the newest 10,000, and weak references to their results."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final
from weakref import ReferenceType

from msgspec import Struct

from enginery.client.metadata import message_id

if TYPE_CHECKING:
    from enginery.client.jobs import Jobs
    from enginery.client.result import AsyncResult

#: How many requests are remembered. A result that is forgotten here lives on wherever the user keeps it.
LENGTH: Final = 10_000


class Entry(Struct, gc=False):
    """One request: its first id, the count (-1: the result knows), the result, and the number of the view that made it.

    Not for the garbage collector to look at: there are thousands, and they are in no circle.
    """

    first: int
    count: int
    result: ReferenceType[AsyncResult]
    view: int


class Log:
    """Bounded memory of requests. Thread-safe: appending to a deque is atomic."""

    def __init__(self) -> None:
        self.entries: deque[Entry] = deque(maxlen=LENGTH)
        self._hidden: set[int] = set()  #: requests that were purged, while others of the same result are remembered

    def snapshot(self, view: int | None = None) -> list[Entry]:
        """Entries, oldest first: all, or those of one view."""
        while True:
            try:
                found = list(self.entries)
            except RuntimeError:  # another thread appended in between: look again
                continue
            return found if view is None else [entry for entry in found if entry.view == view]

    def ids(self, view: int | None = None) -> list[int]:
        """Ids of the newest requests, oldest first, at most ``LENGTH``."""
        found: list[int] = []
        for entry in reversed(self.snapshot(view)):
            first, count = entry.first, entry.count
            result = entry.result() if count < 0 else None
            ids: Iterable[int] = result._all_ids() if result is not None else range(first, first + abs(count))
            if self._hidden:
                ids = [each for each in ids if each not in self._hidden]
            found.extend(reversed(list(ids)[-LENGTH:]))
            if len(found) >= LENGTH:
                break
        return found[:LENGTH][::-1]

    def results(self, view: int | None = None) -> list[AsyncResult]:
        """Results that are still in use, or still awaited; oldest first."""
        return [result for entry in self.snapshot(view) if (result := entry.result()) is not None]

    def clear(self) -> None:
        """Forget everything."""
        self.entries.clear()
        self._hidden.clear()

    def forget(self, tasks: Iterable[int]) -> None:
        """Forget some requests."""
        self._hidden.update(tasks)
        for entry in self.snapshot():
            result = entry.result() if entry.count < 0 else None
            ids = set(result._all_ids() if result is not None else range(entry.first, entry.first + abs(entry.count)))
            if ids <= self._hidden:
                with suppress(ValueError):  # it has fallen out meanwhile
                    self.entries.remove(entry)
                self._hidden -= ids

    def find(self, task: int) -> AsyncResult | None:
        """The result of one request, if anybody still has it."""
        if task in self._hidden:
            return None
        for entry in reversed(self.snapshot()):
            first, count = entry.first, entry.count
            if count >= 0 and not first <= task < first + count:
                continue
            result = entry.result()
            if result is None:
                continue
            ids = result._all_ids() if count < 0 else range(first, first + count)
            if task in ids:
                return result.split()[ids.index(task)] if result._size() > 1 or not result._scalar else result
        return None


class Lookup(Mapping[str, Any]):
    """Something about each request by its message id, as long as its result is in use somewhere."""

    def __init__(self, client: Jobs, what: str) -> None:
        self._client = client
        self._what = what

    def __getitem__(self, text: str) -> Any:
        result = self._client.find_result(text)
        if self._what == "metadata":
            return result.metadata
        if not result.done():
            raise KeyError(text)
        error = result.exception()
        return result.get() if error is None else error

    def __iter__(self) -> Iterator[str]:
        for result in self._client.log.results():
            if self._what == "metadata":
                yield from result.msg_ids
            else:
                ids = enumerate(result._all_ids())
                yield from (message_id(self._client.session, each) for at, each in ids if result.reply_arrived(at))

    def __len__(self) -> int:
        return sum(1 for _ in self)
