"""Requests of a client as people name them: history, lookups, waiting, aborting. The half of Client about jobs."""

from __future__ import annotations

import concurrent.futures
from collections.abc import Iterable
from typing import Any, Final
from weakref import ref

from enginery.client import explain
from enginery.client.handle import Handle, seconds
from enginery.client.log import Entry, Log, Lookup
from enginery.client.metadata import message_id, task_id
from enginery.client.progress import Progress, wait_shown
from enginery.client.result import AsyncResult
from enginery.client.silence import wait_for
from enginery.client.targets import EngineTargets

#: How long the end of killed engines may take to be told, in seconds.
DYING: Final = 10.0


class Jobs(EngineTargets):
    """What a client knows of its requests. Thread-safe."""

    log: Log

    # --- memory ---------------------------------------------------------------------------------------------------

    @property
    def session(self) -> str:
        """The name of this client's session, with which its message ids begin."""
        return self.link.session

    def remember(self, result: AsyncResult, view: int, count: int | None = None) -> None:
        """Note a request of a view. Its result stays weakly referenced."""
        self.log.entries.append(Entry(result._first, result._size() if count is None else count, ref(result), view))

    def task_id(self, text: str) -> int:
        """The id behind a message id of this client. Raises KeyError for others."""
        return task_id(self.session, self.link.number, text)

    def message_ids(self, view: int | None = None) -> list[str]:
        """Message ids of the newest requests, oldest first."""
        session = self.session
        return [message_id(session, each) for each in self.log.ids(view)]

    @property
    def history(self) -> list[str]:
        """Message ids of the newest 10,000 requests, oldest first."""
        return self.message_ids()

    @property
    def results(self) -> Lookup:
        """Results by message id, of requests that are done and whose AsyncResult is still in use somewhere."""
        return Lookup(self, "results")

    @property
    def metadata(self) -> Lookup:
        """Metadata by message id, of requests whose AsyncResult is still in use somewhere."""
        return Lookup(self, "metadata")

    @property
    def outstanding(self) -> set[str]:
        """Message ids of requests that have no result yet."""
        session = self.session
        return {message_id(session, each) for each in self.link.outstanding_ids()}

    def outstanding_of(self, results: Iterable[AsyncResult]) -> set[str]:
        """Message ids without a result, among the requests of some results."""
        session = self.session
        return {message_id(session, each) for result in results if not result.done() for each in result._open_ids()}

    def find_result(self, text: str) -> AsyncResult:
        """The AsyncResult of one message id. Raises KeyError if nobody has it any more."""
        found = self.log.find(self.task_id(text))
        if found is None:
            raise KeyError(
                f"{text!r} is not among the newest requests of this client whose results are still in use. Keep the "
                f"AsyncResult to be able to ask for it later."
            )
        return found

    def _jobs(self, jobs: Any) -> list[Any]:
        """Futures for whatever stands for jobs."""
        if isinstance(jobs, concurrent.futures.Future):
            return [jobs]
        if isinstance(jobs, str):
            return [self.find_result(jobs)]
        if isinstance(jobs, int):
            return [self.find_result(self._at(jobs))]
        if isinstance(jobs, Iterable):
            return [each for job in jobs for each in self._jobs(job)]
        raise TypeError(
            f"Jobs are message ids, positions in the history, results or collections of them, not {jobs!r}."
        )

    def _at(self, position: int) -> str:
        """The message id at a position in the history."""
        history = self.message_ids()
        try:
            return history[position]
        except IndexError:
            raise IndexError(f"There is no request {position} in the history, which has {len(history)}.") from None

    # --- waiting --------------------------------------------------------------------------------------------------

    def wait(self, jobs: Any = None, timeout: float | None = -1) -> bool:
        """Wait for some jobs, by default for everything outstanding. Returns whether they are done.

        Jobs are message ids, positions in ``history``, results, any other Futures, or collections of them.
        """
        if jobs is None:
            return wait_for(self.link, lambda: not self.link.outstanding, seconds(timeout), self._tell_outstanding)
        pending = self._jobs(jobs)
        if all(isinstance(each, Handle) for each in pending):
            ended = _AllEnded(pending)
            return wait_for(self.link, ended, seconds(timeout), ended.tell)
        return not concurrent.futures.wait(pending, seconds(timeout)).not_done

    def _tell_outstanding(self) -> str:
        """What is waited for when everything is, in words."""
        ids = self.link.outstanding_ids()
        return f"{len(ids)} requests. The first: {explain.in_short(self, ids[0])}" if ids else "nothing any more"

    def wait_interactive(self, jobs: Any = None, interval: float = 1.0, timeout: float | None = -1.0) -> bool:
        """As ``wait``, with a progress bar that is renewed every ``interval`` seconds. It counts items, not requests."""
        pending = self.log.results() if jobs is None else self._jobs(jobs)
        progress = Progress("waiting", lambda: sum(map(_items, pending)), lambda: sum(map(_done_items, pending)), 0.0)
        return wait_shown(
            progress,
            lambda _enough, left: self.wait(pending, left),
            lambda: all(job.done() for job in pending),
            timeout=seconds(timeout),
            tell=_AllEnded([job for job in pending if isinstance(job, Handle)]).tell,
            interval=interval,
        )

    # --- taking back ----------------------------------------------------------------------------------------------

    def abort(
        self,
        jobs: Any = None,
        targets: Any = None,
        block: bool | None = None,
        *,
        interrupt: bool = False,
        kill_after: float | None = None,
        restart: bool = False,
    ) -> None:
        """Take back requests that have not begun; their results become TaskAborted.

        Args:
            jobs: Message ids, results or collections of them. Default: everything outstanding.
            targets: Only what was sent to these engines.
            block: Wait until the results of all of them are there.
            interrupt: Also stop what has begun.
            kill_after: Seconds to wait for what was interrupted; then the engines that still run it (in C code, for
                instance, which hears of no interrupt) are killed, and its results become EngineError. Implies
                ``interrupt``.
            restart: Have the engines that are killed started anew.
        """
        interrupt = interrupt or kill_after is not None
        waiting = [job for job in (self.log.results() if jobs is None else self._jobs(jobs)) if not job.done()]
        only = None if targets is None else set(self.resolve(targets)[0])
        if jobs is None and only is None:
            ids = self.link.outstanding_ids()  # those whose results nobody has kept are among them
        else:
            ids = [task for job in waiting for task in _ids_at(job, only)]
        if ids:
            self.link.abort(ids, interrupt=interrupt)
        if kill_after is not None:
            self._insist(frozenset(ids), kill_after, restart=restart)
        if self.block if block is None else block:
            self.wait(waiting)

    def _insist(self, ids: frozenset[int], patience: float, *, restart: bool) -> None:
        """Kill the engines that still have some of these requests after a while."""
        link = self.link
        if link.wait_for(lambda: ids.isdisjoint(link.outstanding_ids()), patience):
            return
        status = link.ask("queue_status", {"targets": None, "verbose": True})
        assert isinstance(status, dict), "queue_status is answered by a mapping"
        engines = [
            int(engine)
            for engine, has in status.items()
            if isinstance(has, dict) and not ids.isdisjoint([*has["queue"], *has["tasks"]])
        ]
        if engines and restart:
            link.shutdown(engines, restart=True)
        elif engines:
            link.signal(engines, "SIGKILL")
        link.wait_for(lambda: ids.isdisjoint(link.outstanding_ids()), DYING)


def _ids_at(result: AsyncResult, engines: set[int] | None) -> list[int]:
    """Ids of requests without a reply; where ``engines`` are given, those that were sent to one of them."""
    if engines is None:
        return result._open_ids()
    return [
        result._id_at(index)
        for index in range(result._size())
        if not result.reply_arrived(index) and result.reply_engine(index) in engines
    ]


def _items(job: Any) -> int:
    """How many items of the user's a job stands for."""
    return len(job) if isinstance(job, AsyncResult) else 1


def _done_items(job: Any) -> int:
    return _items(job) if job.done() else job.progress if isinstance(job, AsyncResult) else 0


class _AllEnded:
    """Whether all of some results ended; looks at each ended one once."""

    def __init__(self, pending: list[Any]) -> None:
        self.pending: list[Handle] = list(pending)
        self.total = len(self.pending)

    def tell(self) -> str:
        """What is waited for, in words."""
        left = [each for each in self.pending if not each.done()]
        return f"{len(left)} of {self.total} jobs. The last: {left[-1]._tell_wait()}" if left else "nothing any more"

    def __call__(self) -> bool:
        while self.pending and self.pending[-1].done():
            self.pending.pop()
        return not self.pending
