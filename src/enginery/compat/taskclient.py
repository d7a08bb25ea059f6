"""TaskClient: a farm of engines as the first generation used it, with tasks that are texts or calls."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from enginery.client.client import Client
from enginery.client.result import AsyncResult
from enginery.compat.connecting import connected
from enginery.compat.on_engine import run_text
from enginery.compat.pending import PendingResult


@dataclass
class StringTask:
    """Source text to run on some engine: names to set first, names to bring back, attempts after the first."""

    expression: str
    pull: str | Iterable[str] | None = None
    push: dict[str, Any] = field(default_factory=dict)
    clear_before: bool = False
    clear_after: bool = False
    retries: int = 0


@dataclass
class MapTask:
    """A call of a function on some engine, with attempts after the first."""

    function: Callable[..., Any]
    args: tuple[Any, ...] = ()
    kwargs: dict[str, Any] = field(default_factory=dict)
    retries: int = 0


Task = StringTask


@dataclass
class TaskResult:
    """What a StringTask brought back, by name: ``results['a']`` or ``ns.a``."""

    taskid: int
    engineid: int
    results: dict[str, Any]

    @property
    def ns(self) -> SimpleNamespace:
        """The results as attributes."""
        return SimpleNamespace(**self.results)


class TaskClient:
    """Has tasks run by whatever engine has room. As safe for threads as Client is; ``block`` holds where not said."""

    def __init__(self, furl_path: str | Path | Mapping[str, Any] | Client | None = None, **options: Any) -> None:
        """Connect as ``Client(furl_path, **options)`` does. A ``.furl`` path means the JSON file in the same folder."""
        self.client = connected(furl_path, options)
        self.block = False
        self._view = self.client.load_balanced_view()
        self._numbers = itertools.count()
        self._tasks: dict[int, PendingResult] = {}

    def run(self, task: StringTask | MapTask, block: bool | None = None) -> Any:
        """Have a task run. Gives its number, or its result if that is waited for."""
        number = next(self._numbers)
        view = self._view.with_flags(retries=task.retries) if task.retries else self._view
        if isinstance(task, MapTask):
            pending = PendingResult(view.apply_async(task.function, *task.args, **task.kwargs))
        else:
            names = [task.pull] if isinstance(task.pull, str) else list(task.pull or ())
            ask = (task.expression, dict(task.push or {}), names, task.clear_before, task.clear_after)
            result = view.apply_async(run_text, *ask)
            pending = PendingResult(result, _as_task_result(number, names, result))
        self._tasks[number] = pending
        return pending.r if (self.block if block is None else block) else number

    def get_task_result(self, taskid: int, block: bool | None = None) -> Any:
        """What a task gave: a TaskResult for a StringTask, the function's value for a MapTask. None if it is not done.

        Raises what the task raised, KeyError for a number that is unknown or was cleared.
        """
        return self._task(taskid).get_result(block=self.block if block is None else block)

    def map(self, func: Callable[..., Any], *sequences: Any) -> Any:
        """``list(map(func, *sequences))``, a task for each item. Waits."""
        return self._view.map_sync(func, *sequences)

    def barrier(self, taskids: int | Iterable[int] | None = None) -> None:
        """Wait until tasks have ended: these, or all."""
        numbers = list(self._tasks) if taskids is None else [taskids] if isinstance(taskids, int) else list(taskids)
        for number in numbers:
            self._task(number).result.wait()

    def clear(self) -> None:
        """Forget the results of all tasks that have ended."""
        self._tasks = {number: each for number, each in self._tasks.items() if not each.result.ready()}

    def queue_status(self, verbose: bool = False) -> dict[str, Any]:
        """How many tasks are pending, succeeded and failed; their numbers if ``verbose``."""
        status: dict[str, list[int]] = {"pending": [], "succeeded": [], "failed": []}
        for number, each in self._tasks.items():
            status[_state(each.result)].append(number)
        return dict(status) if verbose else {state: len(numbers) for state, numbers in status.items()}

    def spin(self) -> None:
        """Nothing: tasks are handed out by themselves."""

    def _task(self, number: int) -> PendingResult:
        if number not in self._tasks:
            raise KeyError(f"There is no task {number!r} of this client, or it was cleared.")
        return self._tasks[number]


def _as_task_result(number: int, names: list[str], result: AsyncResult) -> Callable[[Any], TaskResult]:
    def convert(values: Any) -> TaskResult:
        return TaskResult(number, result.metadata["engine_id"], dict(zip(names, values, strict=True)))

    return convert


def _state(result: AsyncResult) -> str:
    if not result.ready():
        return "pending"
    return "succeeded" if result.successful() else "failed"
