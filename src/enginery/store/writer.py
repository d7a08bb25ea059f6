"""The one thread that owns a store which takes its time: it writes in batches and answers questions, in order.

Rules of the room:

1. The store is made, used and closed by this thread and no other.
2. Everything that has accumulated is one transaction. A question is answered after all that was written before it.
3. The queue is bounded. Whoever writes waits for room, up to a limit; past that, records are lost, counted and told.
4. What a store raises costs the records it was given. It is logged once for each kind of trouble, and counted.
"""

from __future__ import annotations

import logging
import threading
from collections import deque
from itertools import groupby
from typing import TYPE_CHECKING, Any, Final

from enginery.net.wakeup import Wakeup

if TYPE_CHECKING:
    from collections.abc import Callable

    from enginery.store.backlog import Question, Reply
    from enginery.store.batches import Batch
    from enginery.store.interface import TaskStore

log = logging.getLogger("enginery.controller")

#: Records and bytes that may wait to be written.
MOST_RECORDS: Final = 20_000
MOST_BYTES: Final = 256 << 20
#: Records written in one transaction: with ten times as many each takes a third longer, for none stays in a cache.
TRANSACTION: Final = 1_000
#: Seconds that the loop waits for room.
PATIENCE: Final = 10.0
#: Seconds in which everything has to be written at the end.
FAREWELL: Final = 30.0


class Writer:
    """A store behind a queue. ``write`` and ``ask`` are for one thread, which is told of replies by ``wakeup``."""

    #: See ``Backlog``.
    lasts = True
    #: Bytes of buffers kept of one task.
    largest = float(MOST_BYTES // 4)

    def __init__(
        self, make: Callable[[], TaskStore], *, only_ended: bool = False, most_records: int = MOST_RECORDS
    ) -> None:
        """Start the thread, in which ``make`` opens the store. Raises what that raises.

        With ``only_ended`` it is given tasks that have ended, once: something else remembers the others.
        """
        self.only_ended = only_ended
        self.wakeup = Wakeup()
        self.lost = 0  #: records that could not be written
        self.written = 0
        self._most_records = most_records
        self._changed = threading.Condition()
        self._queue: deque[Batch | tuple[Question, Reply]] = deque()
        self._waiting_records = 0
        self._waiting_bytes = 0
        self._ending = False
        self._replies: deque[tuple[Reply, Any]] = deque()
        self._complaints: set[str] = set()
        self._limits = ""
        opened: deque[BaseException | None] = deque()
        ready = threading.Event()
        self._thread = threading.Thread(
            target=self._run, args=(make, opened, ready), name="enginery-store", daemon=True
        )
        self._thread.start()
        ready.wait()
        if (error := opened[0]) is not None:
            raise error

    # --- for the loop ---------------------------------------------------------------------------------------------

    def write(self, batch: Batch) -> None:
        """Have a batch written."""
        with self._changed:
            if not self._changed.wait_for(self._has_room, PATIENCE):
                self._lose(batch.count, f"it has not taken anything for {PATIENCE:g} s")
                batch.is_done = True
                return
            self._queue.append(batch)
            self._waiting_records += batch.count
            self._waiting_bytes += batch.size
            self._changed.notify_all()

    def ask(self, question: Question, reply: Reply) -> None:
        """Have ``reply`` called by ``take_replies`` with what ``question`` says, or with the error it raised."""
        with self._changed:
            self._queue.append((question, reply))
            self._changed.notify_all()

    def take_replies(self) -> None:
        """Call those whose questions were answered. To be called when ``wakeup`` is readable."""
        self.wakeup.clear()
        while self._replies:
            reply, answer = self._replies.popleft()
            reply(answer)

    def limits(self) -> str:
        """See ``TaskStore``."""
        return self._limits

    def statistics(self) -> dict[str, object]:
        """What people want to know of it."""
        return {"records_written": self.written, "records_waiting": self._waiting_records, "records_lost": self.lost}

    def close(self) -> None:
        """Write everything that waits, and end the thread; gives up after ``FAREWELL`` seconds, and says so."""
        with self._changed:
            self._ending = True
            self._changed.notify_all()
        self._thread.join(FAREWELL)
        if self._thread.is_alive():
            log.error("the task store has not taken %d records in %g s; they are lost", self._waiting_records, FAREWELL)

    def _has_room(self) -> bool:
        # The bytes of a batch may be more than there is room for: then it goes when it is alone.
        return not self._waiting_records or (
            self._waiting_records < self._most_records and self._waiting_bytes < MOST_BYTES
        )

    # --- the thread -----------------------------------------------------------------------------------------------

    def _run(self, make: Callable[[], TaskStore], opened: deque[BaseException | None], ready: threading.Event) -> None:
        try:
            store = make()
            self._limits = store.limits()
        except BaseException as error:  # raised where the thread was started
            opened.append(error)
            ready.set()
            return
        opened.append(None)
        ready.set()
        try:
            while self._work(store):
                pass
        finally:
            store.close()

    def _work(self, store: TaskStore) -> bool:
        """Do what comes next; False when everything is done and nothing more will come."""
        batches: list[Batch] = []
        question: tuple[Question, Reply] | None = None
        with self._changed:
            self._changed.wait_for(lambda: bool(self._queue) or self._ending)
            if not self._queue:
                return False
            count = 0
            while self._queue and count < TRANSACTION:
                item = self._queue.popleft()
                if isinstance(item, tuple):
                    question = item
                    break
                batches.append(item)
                count += item.count
        if batches:
            self._write(store, batches)
        if question is not None:
            self._answer(store, question)
        return True

    def _write(self, store: TaskStore, batches: list[Batch]) -> None:
        has_sheets = self.only_ended and hasattr(store, "add_sheets")
        for by_sheet, group in groupby(batches, lambda batch: has_sheets and hasattr(batch, "sheets")):
            some = list(group)
            count, size = sum(batch.count for batch in some), sum(batch.size for batch in some)
            try:
                self.written += _write_sheets(store, some) if by_sheet else _write_records(store, some)
            except Exception as error:  # of a store, or of a server behind it
                self._lose(count, f"{type(error).__name__}: {error}")
            for batch in some:
                batch.is_done = True
            with self._changed:
                self._waiting_records -= count
                self._waiting_bytes -= size
                self._changed.notify_all()

    def _answer(self, store: TaskStore, question: tuple[Question, Reply]) -> None:
        ask, reply = question
        try:
            answer = ask(store)
        except Exception as error:  # for whoever asked
            answer = error
        self._replies.append((reply, answer))
        self.wakeup.set()

    def _lose(self, count: int, why: str) -> None:
        self.lost += count
        if why not in self._complaints and len(self._complaints) < 10:  # noqa: PLR2004 - lines of a log
            self._complaints.add(why)
            log.error("the task store cannot be written to: %s. Records lost so far: %d", why, self.lost)


def _write_sheets(store: Any, batches: list[Any]) -> int:
    store.add_sheets(batches[0].sheets(batches[1:]))
    return sum(batch.count for batch in batches)


def _write_records(store: TaskStore, batches: list[Batch]) -> int:
    records: dict[str, dict[str, Any]] = {}
    for batch in batches:
        for msg_id, changes in batch.records().items():
            # Often the submission and the end of a task come together: one row.
            records.setdefault(msg_id, {}).update(changes)
    store.update_records(records)
    return len(records)
