"""A map of a load-balanced view on its way to the link: packed and handed over in growing batches, or as its input comes."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from typing import TYPE_CHECKING, Any, Final

from enginery.client.kept import keep
from enginery.client.map_result import AsyncMapResult
from enginery.client.needs import MENTION, with_needs
from enginery.wire.callables import PackedFunction
from enginery.wire.messages import Action, Task
from enginery.wire.serialize import pack, pack_call

if TYPE_CHECKING:
    from enginery.client.balanced import LoadBalancedView

_APPLY: Final = int(Action.APPLY)
#: Tasks handed to the link at once by a map: a few to begin with, so that engines start early.
_FIRST_BATCH: Final = 64
_LARGEST_BATCH: Final = 2_048
_NO_KEYWORDS: Final[dict[str, Any]] = {}


class MapCall:
    """One map on its way to the link."""

    def __init__(
        self,
        view: LoadBalancedView,
        function: PackedFunction,
        chunksize: int,
        *,
        ordered: bool,
        return_exceptions: bool,
    ) -> None:
        self.view = view
        self.client = view.client
        self.function = function
        self.chunksize = chunksize
        self.ordered = ordered
        self.return_exceptions = return_exceptions
        self.options = view._options()
        self.keeps = self.options is not None and self.options.keep

    def run(
        self,
        sequences: tuple[Any, ...],
        sizes: Sequence[int] | None = None,
        join: Callable[[list[Any]], Any] | None = None,
    ) -> AsyncMapResult:
        """Submit all of it; return the result."""
        items: Iterator[tuple[Any, ...]] = zip(*sequences, strict=False)
        if all(hasattr(sequence, "__len__") for sequence in sequences):
            return self._run_known(items, min(len(sequence) for sequence in sequences), sizes, join)
        return self._run_unknown(items)

    def _result(self, first: int, count: int, **kwargs: Any) -> AsyncMapResult:
        result = AsyncMapResult(
            self.client,
            first,
            self.function.name,
            count=count,
            ordered=self.ordered,
            return_exceptions=self.return_exceptions,
            **kwargs,
        )
        if self.options is not None:
            result._options = self.options
        if self.keeps and count:
            keep(result, range(first, first + count))
        return result

    def _run_known(
        self,
        items: Iterator[tuple[Any, ...]],
        length: int,
        sizes: Sequence[int] | None,
        join: Callable[[list[Any]], Any] | None,
    ) -> AsyncMapResult:
        """Input whose length is known: one range of ids, handed over in growing batches."""
        link = self.client.link
        count = math.ceil(length / self.chunksize)
        if self.chunksize > 1 and not self.keeps:
            sizes = [self.chunksize] * (count - 1) + [length - self.chunksize * (count - 1)] if count else []
        first = link.take_ids(count)
        result = self._result(first, count, sizes=sizes, join=join)
        self.client.remember(result, self.view._number)
        batch = _FIRST_BATCH
        done = 0
        while done < count:
            tasks, buffers = self._pack(items, first + done, min(batch, count - done))
            if not tasks:
                raise ValueError(f"A sequence said it had {length} items, and gave fewer. It changed during map().")
            link.submit_many(tasks, buffers, result, self.function)
            done += len(tasks)
            batch = min(2 * batch, _LARGEST_BATCH)
        return result

    def _pack(
        self, items: Iterator[tuple[Any, ...]], task: int, count: int
    ) -> tuple[list[Task], list[list[memoryview]]]:
        """Up to ``count`` tasks with ids from ``task`` on."""
        tasks: list[Task] = []
        frames: list[list[memoryview]] = []
        if self.chunksize > 1:
            for number in range(task, task + count):
                chunk = self._pack_chunk(number, items, frames)
                if chunk is None:
                    break
                tasks.append(chunk)
            return tasks, frames
        # Hot: three microseconds per item are all there is for 100,000 items/s with the rest of the way.
        digest = self.function.digest
        options = self.options
        append, put = tasks.append, frames.append
        for arguments in islice(items, count):
            payload, buffers = pack_call(arguments, _NO_KEYWORDS)
            put(buffers)
            needs = options if MENTION not in payload else with_needs(options, payload, arguments)
            append(Task(task, _APPLY, digest, payload, len(buffers), needs))
            task += 1
        return tasks, frames

    def _pack_chunk(self, task: int, items: Iterator[tuple[Any, ...]], frames: list[list[memoryview]]) -> Task | None:
        chunk = list(islice(items, self.chunksize))
        if not chunk:
            return None
        payload, buffers = pack({"items": chunk, "return_exceptions": self.return_exceptions and not self.keeps})
        frames.append(buffers)
        self.last_size = len(chunk)
        options = self.options
        if MENTION in payload:
            options = with_needs(options, payload, [value for item in chunk for value in item])
        return Task(task, Action.MAP, self.function.digest, payload, len(buffers), options)

    def _run_unknown(self, items: Iterator[tuple[Any, ...]]) -> AsyncMapResult:
        """Input that tells its length by ending: task by task, so that nothing waits for an item that is slow to come."""
        link = self.client.link
        sizes: list[int] | None = [] if self.chunksize > 1 and not self.keeps else None
        result = self._result(0, 0, sizes=sizes)
        result.begin_growing()
        if self.keeps:
            assert result._ids is not None, "begin_growing() was called"
            keep(result, result._ids)
        self.client.remember(result, self.view._number, count=-1)
        try:
            while True:
                tasks, buffers = self._pack(items, 0, 1)
                if not tasks:
                    break
                task = tasks[0]
                task.id = link.take_id()
                if sizes is not None:
                    sizes.append(self.last_size)
                link.submit(task, buffers[0], result.grow(task.id), self.function)
        finally:
            # Also when the input raised: what was submitted ends, and nobody waits for more.
            result.end_growing()
        return result
