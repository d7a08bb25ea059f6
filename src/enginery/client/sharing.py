"""A client's large buffers in shared memory: lent to tasks until their results have come, taken from results at once."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from enginery.core.sharing import own, put_together, set_aside
from enginery.net.segment_folder import usable
from enginery.net.segments import Pool, read_segment
from enginery.wire.messages import Fault, Release, Shares, Status

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from enginery.wire.messages import Result, Task


class _Loan:
    """Segments lent to the tasks of one request."""

    __slots__ = ("names", "size", "tasks")

    def __init__(self, names: list[str], size: int, tasks: int) -> None:
        self.names = names
        self.size = size
        self.tasks = tasks  #: that have not ended


class Sharing:
    """The shared memory of one client. ``lend`` may be called by any thread, the others under the line's lock."""

    def __init__(self, folder: str, number: int, say: Callable[[Release | Shares], None]) -> None:
        """``folder`` is empty where there is no shared memory; one that is not here counts as none.

        ``say`` sends to the controller with what comes next.
        """
        self.folder = folder = usable(folder)
        self.pool = Pool(folder, f"c{number}")
        self.loans: dict[int, _Loan] = {}  #: by task
        self.lent = 0  #: bytes lent to tasks that have not ended
        self.most_lent = max(
            1, self.pool.budget * 3 // 4
        )  #: bytes after which it is better to wait than to use sockets
        self._read = partial(read_segment, folder)
        self._say = say
        if folder:
            say(Shares())

    def lend(self, task: Task, buffers: list[memoryview], copies: int = 1) -> list[memoryview]:
        """Put the large buffers of a task that is about to be sent into segments; those that stay frames are returned.

        There are ``copies`` of the task, with consecutive ids.
        """
        if self.pool.closed:
            return [own(buffer) for buffer in buffers]
        frames = set_aside(task, buffers, self.pool)
        if task.shared is not None:
            size = sum(segment.size for segment in task.shared)
            loan = _Loan([segment.name for segment in task.shared], size, copies)
            self.lent += size
            self.loans.update(dict.fromkeys(range(task.id, task.id + copies), loan))
        return frames

    def ended(self, results: Sequence[Result]) -> None:
        """Results have come: what was lent to their tasks is free, once there is a result for each."""
        for result in results:
            loan = self.loans.pop(result.id, None)
            if loan is not None:
                loan.tasks -= 1
                if not loan.tasks:
                    self.lent -= loan.size
                    self.pool.release(loan.names)

    def take(self, result: Result, frames: list[memoryview]) -> list[memoryview]:
        """All buffers of a result. Its segments are ours for as long as we need them, and the engine is told so."""
        names = [segment.name for segment in result.shared or ()]
        try:
            result.payload, buffers = put_together(result, frames, self._read)
            return buffers  # type: ignore[return-value]  # views, all of them
        except OSError as error:
            result.status, result.fault = Status.LOST, Fault("EngineError", "EngineError", f"{error} {_ADVICE}")
            return []
        finally:
            result.shared = None
            self._say(Release(names))


_ADVICE = (
    "The task did run. Results in shared memory are kept for an hour at most until the client takes them; "
    "a client that was stopped for longer comes too late."
)
