"""What DictDB is going to hold: batches of the newest ended tasks, made into records when somebody asks. No I/O."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

    from enginery.store.batches import Batch
    from enginery.store.interface import TaskStore
    from enginery.store.memory import DictDB

    Question = Callable[[TaskStore], Any]
    Reply = Callable[[Any], object]


class Backlog:
    """Keeps batches within the limits of a DictDB, and fills it when it is asked something. For one thread.

    While nobody asks, which is the rule, most records are never made: their batch goes when newer ones fill the limits.
    """

    #: Whether only tasks that ended are written.
    only_ended = True
    #: Whether it outlives the controller.
    lasts = False

    def __init__(self, store: DictDB) -> None:
        self._store = store
        self._batches: deque[Batch] = deque()
        self._count = 0
        self._size = 0

    @property
    def largest(self) -> float:
        """Bytes of buffers kept of one task."""
        return self._store.size_limit // 4 or float("inf")

    def write(self, batch: Batch) -> None:
        """Keep a batch, and let the oldest go if there is too much."""
        # Hot: once per batch of tasks. Bench: no-op tasks.
        batches, store = self._batches, self._store
        batches.append(batch)
        self._count += batch.count
        self._size += batch.size
        while len(batches) > 1:
            first = batches[0]
            has_enough = store.record_limit and self._count - first.count >= store.record_limit
            if not has_enough and (not store.size_limit or self._size <= store.size_limit):
                return
            batches.popleft()
            self._count -= first.count
            self._size -= first.size

    def ask(self, question: Question, reply: Reply) -> None:
        """Have ``reply`` called with what ``question`` says of the store, or with the error it raised."""
        while self._batches:
            self._store.update_records(self._batches.popleft().records())
        self._count = self._size = 0
        try:
            answer = question(self._store)
        except Exception as error:  # for whoever asked
            answer = error
        reply(answer)

    def take_replies(self) -> None:
        """Nothing: replies do not wait."""

    def limits(self) -> str:
        """See ``TaskStore``."""
        return self._store.limits()

    def statistics(self) -> dict[str, object]:
        """What people want to know of it."""
        return {"records": len(self._store) + self._count, "record_bytes": self._store.size + self._size}

    def close(self) -> None:
        """Forget everything."""
        self._batches.clear()
        self._store.close()
