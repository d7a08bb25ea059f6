"""A link without a socket: requests run in this process, at once when somebody waits, or when a test says so."""

from __future__ import annotations

import threading
import time
import traceback
from collections import deque
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

from enginery.errors import ConnectionLost, NoRecord
from enginery.wire.callables import unpack_function
from enginery.wire.exceptions import pack_exception
from enginery.wire.messages import Action, Departure, EngineInfo, Fault, Output, Result, Status, Task
from enginery.wire.serialize import pack, unpack, unpack_call


def silence(kind: str, text: str = "", data: bytes = b"") -> None:
    """Nobody listens."""


#: Where the request that is running just now may leave output: `fake_link.current.say("stdout", "text")`.
current = SimpleNamespace(say=silence, engine=-1)


class FakeLink:
    """Same interface as ``enginery.client.link.Link``.

    ``held = True`` keeps requests until ``run`` is called; otherwise ``wait_for`` runs them until its predicate holds.
    """

    def __init__(self, engines: int = 2, number: int = 3) -> None:
        self.number = number
        self.session = "s0"
        self.scheme = "leastload"
        self.engines = {n: EngineInfo(n, f"uuid-{n}", 1000 + n, "fakehost") for n in range(engines)}
        self.namespaces: dict[int, dict[str, Any]] = {n: {} for n in range(engines)}
        self.closed = False
        self.held = False
        self.queue: deque[tuple[int, Task, list[memoryview], Any, Any]] = deque()
        self.waiting: dict[int, Any] = {}
        self.diverted: dict[int, Any] = {}
        self.unsent_ids: set[int] = set()
        self.reasons: dict[int, str] = {}
        self.info = SimpleNamespace(pid=4711)
        self.aborted: list[int] = []
        self.asked: list[Any] = []
        self.submitted: list[Task] = []
        self.callbacks: list[Callable[[Any, Any], None]] = []
        self.lock = threading.RLock()
        self.changed = threading.Condition(self.lock)
        self.clock = 1_000.0
        self._next = number << 40
        self._turn = 0

    # --- the interface --------------------------------------------------------------------------------------------

    def take_id(self) -> int:
        return self.take_ids(1)

    def take_ids(self, count: int) -> int:
        with self.lock:
            first, self._next = self._next, self._next + count
            return first

    def submit(self, task: Task, buffers: list[memoryview], sink: Any, function: Any) -> None:
        self._turn += 1
        targets = task.options.targets if task.options and task.options.targets else sorted(self.engines) or [0]
        self._put(targets[self._turn % len(targets)], task, buffers, sink, function)

    def submit_many(self, tasks: list[Task], buffers: list[list[memoryview]], sink: Any, function: Any) -> None:
        for index, task in enumerate(tasks):
            self.submit(task, buffers[index] if buffers else [], sink, function)

    def submit_direct(
        self, targets: list[int], task: Task, buffers: list[memoryview], sink: Any, function: Any
    ) -> None:
        for index, target in enumerate(targets):
            copy = Task(task.id + index, task.action, task.function, task.payload, task.frames, task.options)
            self._put(target, copy, buffers, sink, function)

    def _put(self, engine: int, task: Task, buffers: list[memoryview], sink: Any, function: Any) -> None:
        if self.closed:
            raise ConnectionLost("closed")
        with self.changed:
            self.submitted.append(task)
            self.waiting[task.id] = sink
            self.queue.append((engine, task, buffers, sink, function))
            self.changed.notify_all()
        if not self.held and threading.current_thread() is not threading.main_thread():
            # Readers of lazy maps: the real link's own thread would be busy with this meanwhile.
            self.run(1)

    def call_back(self, call: Callable[[], object]) -> None:
        call()

    def abort(self, ids: list[int], *, interrupt: bool = False) -> None:
        self.aborted += ids
        with self.lock:
            mine = [entry for entry in self.queue if entry[1].id in set(ids)]
            for entry in mine:
                self.queue.remove(entry)
        for _, task, _, sink, _ in mine:
            fault = Fault("TaskAborted", "TaskAborted", "taken back")
            self.deliver(sink, Result(task.id, Status.ABORTED, b"", fault=fault), -1)

    def divert(self, tasks: list[int], sink: Any) -> None:
        self.diverted.update((task, sink) for task in tasks if task in self.waiting)

    def trouble(self) -> str:
        return ""

    def unsent(self, tasks: list[int]) -> set[int]:
        return self.unsent_ids.intersection(tasks)

    def silence(self) -> float:
        return 3.0

    @property
    def outstanding(self) -> int:
        return len(self.waiting)

    def ask(self, name: str, arguments: Any = None, timeout: float | None = None) -> object:
        arguments = arguments or {}
        self.asked.append((name, arguments))
        if name == "why":
            return [self.reasons.get(task, "It runs on engine 0.") for task in arguments["tasks"]]
        if name == "story":
            return [[f"story of {task & 0xFF}"] for task in arguments["tasks"]]
        if name == "statistics":
            return {"submitted": 5}
        if name == "sessions":
            return {}
        if name in {"db_query", "follow"}:
            raise NoRecord(f"There is no record of {arguments}.")
        counts = {"queue": 0, "tasks": 0, "completed": 0}
        ids = arguments.get("targets") or self.engines
        return {str(each): counts for each in ids} | {"unassigned": 0}

    def expect(self, tasks: Any, sink: Any) -> None:
        """Nothing will come: there are no records here."""

    def follow(self, texts: Any) -> None:
        """Nobody takes this controller's place."""

    def expect_no_more(self, tasks: Any) -> None:
        """See ``expect``."""

    def signal(self, targets: list[int], sig: int | str, timeout: float | None = None) -> None:
        self.asked.append(("signal", targets, sig))

    def shutdown(self, targets: list[int], *, restart=False, controller=False, finish=False, timeout=None) -> None:
        self.asked.append(("shutdown", targets, restart, controller))
        self.leave(*targets)

    def wait_for(self, predicate: Callable[[], bool], timeout: float | None = None) -> bool:
        deadline = None if timeout is None else time.monotonic() + timeout
        while not predicate():
            if self.closed:
                raise ConnectionLost("closed")
            if not self.held and self.run(1):
                continue
            with self.changed:
                left = None if deadline is None else deadline - time.monotonic()
                if left is not None and left <= 0:
                    return False
                # Others may notify between the predicate and here; a short nap keeps the fake simple.
                self.changed.wait(0.01 if left is None else min(0.01, left))
        return True

    def outstanding_ids(self) -> list[int]:
        return list(self.waiting)

    def wake(self) -> None:
        with self.changed:
            self.changed.notify_all()

    def add_news_callback(self, callback: Callable[[Any, Any], None]) -> None:
        self.callbacks.append(callback)

    def close(self) -> None:
        self.closed = True
        self.wake()

    # --- what tests do --------------------------------------------------------------------------------------------

    def join(self, *ids: int) -> None:
        joined = [EngineInfo(each, f"uuid-{each}", 1000 + each, "fakehost") for each in ids]
        self.engines = dict(sorted((self.engines | {info.id: info for info in joined}).items()))
        self.namespaces |= {each: {} for each in ids}
        self._tell(joined, [])

    def leave(self, *ids: int, reason: str = "told to") -> None:
        left = [Departure(each, self.engines[each].uuid, reason) for each in ids]
        self.engines = {key: value for key, value in self.engines.items() if key not in ids}
        self._tell([], left)

    def _tell(self, joined: list[EngineInfo], left: list[Departure]) -> None:
        for callback in self.callbacks:
            callback(joined, left)
        self.wake()

    def run(self, count: int = -1, *, last: bool = False) -> int:
        """Run up to ``count`` requests, the oldest first (or the newest); returns how many."""
        ran = 0
        while ran != count:
            with self.lock:
                if not self.queue:
                    break
                entry = self.queue.pop() if last else self.queue.popleft()
            self._run(*entry)
            ran += 1
        return ran

    def _run(self, engine: int, task: Task, buffers: list[memoryview], sink: Any, function: Any) -> None:
        def say(kind: str, text: str = "", data: bytes = b"") -> None:
            with self.lock:
                sink.said(Output(task.id, kind, text, data), engine)

        current.say, current.engine = say, engine
        try:
            self._answer(engine, task, buffers, sink, function)
        finally:
            current.say = silence

    def _answer(self, engine: int, task: Task, buffers: list[memoryview], sink: Any, function: Any) -> None:
        self.clock += 1
        result = Result(task.id, Status.OK, b"", started=self.clock, finished=self.clock + 0.5)
        frames: list[memoryview] = []
        try:
            value = self._perform(self.namespaces[engine], task, buffers, function)
            result.payload, frames = pack(value)
        except Exception as error:
            result.status = Status.ERROR
            result.fault = Fault("remote", type(error).__name__, str(error), traceback.format_exc())
            result.payload = pack_exception(error)
        self.deliver(sink, result, engine, [memoryview(bytearray(frame)) for frame in frames])

    def _perform(self, namespace: dict[str, Any], task: Task, buffers: list[memoryview], function: Any) -> object:
        if task.action == Action.APPLY:
            args, kwargs = unpack_call(task.payload, buffers, namespace)
            return unpack_function(function.body, namespace)(*args, **kwargs)
        content = unpack(task.payload, buffers)
        if task.action == Action.MAP:
            return self._map(unpack_function(function.body, namespace), content)
        if task.action == Action.EXECUTE:
            exec(content["code"], namespace)
            return {"status": "ok", "execution_count": 7, "data": None, "metadata": {}, "source": content["code"]}
        if task.action == Action.PUSH:
            namespace.update(content)
        elif task.action == Action.PULL:
            names = [content] if isinstance(content, str) else content
            values = [eval(name, namespace) for name in names]
            return values[0] if isinstance(content, str) else values
        elif task.action == Action.CLEAR:
            namespace.clear()
        return None

    def _map(self, function: Callable[..., Any], content: dict[str, Any]) -> object:
        if not content["return_exceptions"]:
            return [function(*item) for item in content["items"]]
        items, faults = [], {}
        for position, item in enumerate(content["items"]):
            try:
                items.append(function(*item))
            except Exception as error:
                items.append(None)
                faults[position] = ("remote", type(error).__name__, str(error), traceback.format_exc())
        return {"items": items, "faults": faults}

    def deliver(self, sink: Any, result: Result, engine: int, buffers: list[memoryview] = ()) -> None:
        """Hand a result to its sink as the link does: under the lock, then ``settled`` outside of it."""
        with self.changed:
            self.waiting.pop(result.id, None)
            sink = self.diverted.pop(result.id, sink)
            complete = sink.arrived(result, engine, list(buffers), self.clock + 0.75)
        if complete:
            sink.settled()
        self.wake()
