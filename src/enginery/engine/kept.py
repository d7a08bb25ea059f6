"""What an engine keeps for later: values of tasks, those it got from other engines, and which watched names it has.

Three threads use it: the one that runs user code, the one that reads the line, and, from the first time that somebody
fetches a value, one that hands values out while a task runs. What they share are dictionaries, whose entries come and go
atomically.
"""

from __future__ import annotations

import threading
from queue import SimpleQueue
from time import time
from typing import TYPE_CHECKING, Any

from enginery.core.sharing import WORTH, put_together
from enginery.descriptions import describe_exception
from enginery.errors import EngineError
from enginery.wire import messages as m
from enginery.wire.kept import Table, describe, size_of
from enginery.wire.serialize import pack, unpack

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from enginery.engine.link import Link


class ValueLost(EngineError):
    """A kept value that a task uses is not to be had any more."""


class Packed:
    """A value from another engine that no task here has looked at yet."""

    __slots__ = ("buffers", "head")

    def __init__(self, head: bytes, buffers: Sequence[Any]) -> None:
        self.head = head
        self.buffers = buffers


class Kept:
    """The values and names of one engine."""

    def __init__(self, link: Link, variables: dict[str, Any]) -> None:
        self._link = link
        self._member = link.member
        self._variables = variables
        self._values: dict[int, Any] = {}
        self._faults: dict[int, m.Fault] = {}
        self._wanted: set[int] = set()
        self._watched: dict[str, bool] = {}  #: whether the controller knows that we have it
        self._watching = threading.Lock()
        self._orders: SimpleQueue[m.Task] | None = None
        self._hear: dict[type, Callable[[Any, list[Any]], None]] = {
            m.Watch: self._watch,
            m.Forget: self._forget,
            m.Results: self._values_came,
            m.Fetch: self._fetch,
        }
        Table.find = self.find

    # --- the thread that runs user code ---------------------------------------------------------------------------

    def keep(self, task: int, value: Any) -> Any:
        """Keep the value of a task, and tell. Returns what the result says in its place."""
        self._values[task] = value
        description = describe(value)
        self._member.say(m.Holds({task: description.size}))
        return description

    def missing(self, values: Sequence[int]) -> list[int]:
        """Those of some values that have not come. They are asked for."""
        lacking = [value for value in values if value not in self._values and value not in self._faults]
        fresh = [value for value in lacking if value not in self._wanted]
        if fresh:
            self._wanted.update(fresh)
            self._member.say(m.Want(fresh))
        return lacking

    def find(self, value: int) -> Any:
        """A value that a task uses. Raises ValueLost if it is not to be had, and what unpacking it raises."""
        try:
            found = self._values[value]
        except KeyError:
            fault = self._faults.pop(value, None)
            text = fault.evalue if fault is not None else "A value that was kept on an engine was forgotten meanwhile."
            raise ValueLost(text) from None
        if type(found) is Packed:
            found = self._values[value] = unpack(found.head, found.buffers, self._variables)
        return found

    def lacking(self, names: Sequence[str]) -> str | None:
        """The first of some names that is not there."""
        return next((name for name in names if name not in self._variables), None)

    def look(self) -> None:
        """A task has ended, and may have set or deleted names: tell what has changed."""
        if not self._watched:
            return
        with self._watching:
            variables = self._variables
            changed = [name for name, told in self._watched.items() if (name in variables) is not told]
            if changed:
                self._tell(changed)

    # --- the thread that reads the line ---------------------------------------------------------------------------

    def heard(self, message: m.ToEngine, frames: list[Any]) -> None:
        """Take in what the controller says of data."""
        self._hear[type(message)](message, frames)

    def tell_all(self) -> None:
        """Tell a controller that has not been told."""
        if self._values:
            self._member.say(m.Holds({value: size_of(each) for value, each in list(self._values.items())}))

    def _watch(self, watch: m.Watch, _frames: list[Any]) -> None:
        with self._watching:
            for name in watch.stop:
                self._watched.pop(name, None)
            if watch.names:
                self._tell(watch.names)

    def _tell(self, names: Sequence[str]) -> None:
        there = {name: name in self._variables for name in names}
        self._watched.update(there)
        has = [name for name, here in there.items() if here]
        self._member.say(m.Holds(names=has, lacks=[name for name in names if not there[name]]))

    def _forget(self, forget: m.Forget, _frames: list[Any]) -> None:
        for value in forget.values:
            self._values.pop(value, None)

    def _values_came(self, results: m.Results, frames: list[Any]) -> None:
        at = 0
        for result in results.results:
            mine = frames[at : at + result.frames]
            at += result.frames
            self._take(result, mine)
            self._wanted.discard(result.id)
            self._member.resume(result.id)

    def _take(self, result: m.Result, frames: list[Any]) -> None:
        if result.status != m.Status.OK:
            self._faults[result.id] = result.fault or m.Fault(
                "EngineError", "EngineError", "It could not be handed out."
            )
            return
        names = [segment.name for segment in result.shared or ()]
        try:
            head, buffers = put_together(result, frames, self._link.sharing.read)
        except OSError as error:
            self._faults[result.id] = m.Fault("EngineError", "EngineError", str(error))
            return
        finally:
            if names:
                self._member.say(m.Release(names))
        self._values[result.id] = Packed(head, buffers)
        size = len(head) + sum(memoryview(buffer).nbytes for buffer in buffers)  # type: ignore[arg-type,misc]  # they are
        self._member.say(m.Holds({result.id: size}))

    def _fetch(self, fetch: m.Fetch, _frames: list[Any]) -> None:
        if self._orders is None:
            self._orders = SimpleQueue()
            threading.Thread(target=self._hand_out, name="enginery-engine-values", daemon=True).start()
        for task in fetch.tasks:
            self._orders.put(task)

    # --- the thread that hands out --------------------------------------------------------------------------------

    def _hand_out(self) -> None:
        orders = self._orders
        assert orders is not None, "this thread was started for them"
        while True:
            task = orders.get()
            result, buffers = self.packed(task)
            self._member.finished(result, buffers)
            self._link.line.wake()

    def packed(self, task: m.Task) -> tuple[m.Result, list[memoryview]]:
        """The result of a task that fetches a value, large buffers in shared memory."""
        started = time()
        try:
            found = self._values[int(task.payload)]
            head, buffers = (found.head, list(found.buffers)) if type(found) is Packed else pack(found)
        except Exception as error:  # what pickling the user's value raises, too
            if isinstance(error, KeyError | ValueError):
                fault = m.Fault("EngineError", "EngineError", "A value that was kept on this engine was forgotten.")
            else:
                fault = m.Fault("remote", *describe_exception(error))
            return m.Result(task.id, m.Status.ERROR, b"", 0, started, time(), fault), []
        buffers = [memoryview(buffer) for buffer in buffers]
        result = m.Result(task.id, m.Status.OK, head, len(buffers), started, time())
        if buffers or len(head) >= WORTH:
            buffers = self._link.sharing.put(result, buffers)
        return result, buffers
