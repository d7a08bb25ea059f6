"""The result of a map, whose items come in as engines finish them: AsyncMapResult."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from enginery.client.handle import FINISHED
from enginery.client.replies import Columns, Failed
from enginery.client.result import AsyncResult, throw
from enginery.errors import exception_from_fault

if TYPE_CHECKING:
    from enginery.client.client import Client
    from enginery.wire.messages import Output, Result

Joiner = Callable[[list[Any]], Any]


class AsyncMapResult(AsyncResult):
    """The results of a map, in the order of its input, whatever the order in which engines finished.

    Iterating (``for`` and ``async for``) begins at once and yields items as they come: in order, or, where the map was
    asked for with ``ordered=False``, whichever is ready first. With ``return_exceptions=True`` errors are items like
    the others.
    """

    #: Whether iteration keeps the order of the input.
    ordered = True
    #: How many items each request holds; None for one each, where the reply is the item itself.
    _sizes: Sequence[int] | None = None
    #: Puts the values of the requests together; None: they are items, or lists of items.
    _join: Joiner | None = None
    _closed = True

    def __init__(
        self,
        client: Client,
        first: int,
        fname: str,
        *,
        count: int,
        sizes: Sequence[int] | None = None,
        ordered: bool = True,
        return_exceptions: bool = False,
        join: Joiner | None = None,
        targets: Sequence[int] | None = None,
    ) -> None:
        super().__init__(client, first, fname, targets, count)
        self._method = "map"
        self._return_exceptions = return_exceptions
        if sizes is not None:
            self._sizes = sizes
            self._convert = as_items
        if join is not None:
            self._join = join
        if not ordered:
            self.ordered = False
            self._arrivals = []

    # --- maps over input of unknown length ------------------------------------------------------------------------

    def begin_growing(self) -> None:
        """Say that more requests are to come. Before the first of them is submitted."""
        self._closed = False
        self._total = -1
        self._ended = None
        self._told = False
        self._ids = []

    def grow(self, task: int) -> Segment:
        """Make room for the reply to ``task``; returns the sink to submit it with."""
        columns = self._many
        assert isinstance(columns, Columns), "maps own their replies"
        assert isinstance(self._ids, list), "begin_growing() was called"
        self._ids.append(task)
        return Segment(self, task - columns.grow())

    def end_growing(self) -> None:
        """Say that nothing more is to come."""
        self._closed = True
        self._total = len(self._ids or ())
        if self._count == self._total and self._end(FINISHED):
            self.settled()

    # --- values ---------------------------------------------------------------------------------------------------

    def _assemble(self, keep: bool) -> Any:
        if self._sizes is None and self._join is None:
            return super()._assemble(keep)
        outcomes = self._outcomes()
        errors = [outcome.error for outcome in outcomes if isinstance(outcome, Failed)]
        if errors and not keep:
            self._throw_all(errors)
        if self._join is not None and not errors:
            return self._join(outcomes)
        return [item for index, outcome in enumerate(outcomes) for item in self._items(index, outcome)]

    def _items(self, index: int, outcome: object) -> Sequence[Any]:
        if isinstance(outcome, Failed):
            return [outcome.error] * (1 if self._sizes is None else self._sizes[index])
        if self._sizes is None and self._join is None:
            return (outcome,)
        return outcome  # type: ignore[return-value]  # the reply to a chunk is a sequence of items

    def _unfold(self, index: int) -> Sequence[Any]:
        outcome = self.reply_outcome(index)
        if isinstance(outcome, Failed) and not self._return_exceptions:
            throw(outcome.error)
        return self._items(index, outcome)

    def _values(self) -> Iterator[Any]:
        position = 0
        while True:
            self._check_cancelled()
            index = self._next_index(position)
            if index is None:
                if self._closed and position >= self._size():
                    return
                self._wait_until(lambda at=position: self._has_moved(at), None)  # type: ignore[misc]
                continue
            position += 1
            yield from self._unfold(index)

    async def _values_async(self) -> AsyncIterator[Any]:
        position = 0
        while True:
            self._check_cancelled()
            index = self._next_index(position)
            if index is None:
                if self._closed and position >= self._size():
                    return
                await self._wait_async(lambda at=position: self._has_moved(at))  # type: ignore[misc]
                continue
            position += 1
            for value in self._unfold(index):
                yield value

    def _next_index(self, position: int) -> int | None:
        """The index of the reply that an iteration which has seen ``position`` of them shows next, if it is there."""
        if self._arrivals is not None:
            index = self._arrivals[position] if position < len(self._arrivals) else None
            return index if index is not None and self.reply_arrived(index) else None
        return position if position < self._size() and self.reply_arrived(position) else None

    def _has_moved(self, position: int) -> bool:
        return self._next_index(position) is not None or self._ended is not None

    def __len__(self) -> int:
        return self._size() if self._sizes is None else sum(self._sizes)

    @property
    def progress(self) -> int:
        """How many items are done."""
        if self._sizes is None:
            return self._count
        return sum(size for index, size in enumerate(self._sizes) if self.reply_arrived(index))


class Segment:
    """The sink of requests whose ids and places in a growing map differ by ``shift``."""

    __slots__ = ("owner", "shift")

    def __init__(self, owner: AsyncMapResult, shift: int) -> None:
        self.owner = owner
        self.shift = shift

    def arrived(self, result: Result, engine: int, buffers: list[memoryview], when: float) -> bool:
        """Keep a reply. Under the link's lock."""
        return self.owner._store(result.id - self.shift, result, engine, buffers, when)

    def said(self, output: Output, engine: int) -> None:
        """Keep an output. Under the link's lock."""
        self.owner._hear(output.task - self.shift, output, engine)

    def settled(self) -> None:
        """The last reply has come."""
        self.owner.settled()


def as_items(result: AsyncResult, index: int, value: Any, engine: int) -> Any:  # noqa: ARG001 - as all converters
    """The items of a chunk's reply. Where errors were to be kept, it is a mapping that names them by position."""
    if not isinstance(value, dict) or value.keys() != {"items", "faults"}:
        return value
    items = list(value["items"])
    for position, words in value["faults"].items():
        kind, ename, evalue, text = words
        info = result.client.engine_info(engine, result._method)
        items[position] = exception_from_fault(kind, ename, evalue, text, info)
    return items
