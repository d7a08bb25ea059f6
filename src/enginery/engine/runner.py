"""Runs the tasks an engine holds, one after another in the main thread, and makes their results."""

from __future__ import annotations

import sys
from collections import deque
from time import time
from types import CoroutineType
from typing import TYPE_CHECKING, Any, Final, TextIO

from msgspec import msgpack

from enginery.core.sharing import WORTH
from enginery.descriptions import describe_exception
from enginery.engine.cells import Cells
from enginery.engine.failures import Failures
from enginery.engine.interrupts import Interrupts, wake_main_thread
from enginery.engine.kept import Kept, ValueLost
from enginery.engine.output import Outputs
from enginery.errors import UnmetDependency
from enginery.wire.callables import unpack_function
from enginery.wire.exceptions import pack_exception
from enginery.wire.messages import LACKS, Action, Fault, Result, Status
from enginery.wire.reference import Reference, resolved
from enginery.wire.serialize import EMPTY_CALL, NONE, pack, unpack, unpack_call

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from types import FrameType

    from enginery.core.membership import Held
    from enginery.engine.begun import BegunCell
    from enginery.engine.link import Link
    from enginery.engine.namespace import Namespace
    from enginery.engine.options import EngineOptions
    from enginery.wire.messages import Task

    Visit = tuple[Callable[[], Any], Callable[[Any, BaseException | None], None]]

#: Results wait for company while tasks are shorter than this, in seconds.
SHORT: Final = 0.0005
#: Seconds after which results are sent even while short tasks follow one another.
FLUSH_EVERY: Final = 0.001
#: Functions kept rebuilt; past that, the one rebuilt first goes and is rebuilt from its body when needed.
KEPT: Final = 1000

#: What the packed form of arguments contains if there are references among them.
_REFERENCE: Final = Reference.__module__.encode()
_OK: Final = int(Status.OK)
_ERROR: Final = int(Status.ERROR)
_ABORTED: Final = int(Status.ABORTED)
_APPLY: Final = int(Action.APPLY)


class _Lacking(NameError):
    """A name that the arguments of a balanced task refer to is not here. Another engine may have it."""


class Runner:
    """The main thread of an engine."""

    def __init__(
        self, link: Link, namespace: Namespace, begun: BegunCell, options: EngineOptions, logs: Mapping[str, TextIO]
    ) -> None:
        """``logs`` take what is written while no task runs."""
        self._link = link
        self._member = link.member
        self._begun = begun
        self._namespace = namespace
        self._functions: dict[bytes, Callable[..., Any]] = {}
        self._durations: dict[bytes, float] = {}
        self._body = b""  #: of the function about to be rebuilt
        self._interruptible = False
        self._last_flush = 0.0
        self._visits: deque[Visit] = deque()
        self._has_work: Callable[[], bool] = self._member.has_work
        self.outputs = Outputs(self._member.say_output, link.flush_soon, logs=logs, backlog=self._member.unheard)
        self.cells = Cells(namespace, self.outputs, config=options.shell, profile_dir=options.profile_dir)
        self.failures = Failures()
        self.kept = Kept(link, namespace.variables)
        with link.line.lock:
            self._member.listen(self.kept.heard)
        self._actions: dict[int, Callable[[Held], Any]] = {
            Action.APPLY: self._apply,
            Action.MAP: self._map,
            Action.EXECUTE: self._execute,
            Action.PUSH: lambda held: namespace.push(self._unpack(held)),
            Action.PULL: lambda held: namespace.pull(self._unpack(held)),
            Action.CLEAR: lambda _held: self.cells.clear(),
            Action.FETCH: lambda held: self.kept.find(int(held.task.payload)),
            Action.DEBUG: lambda held: self.failures.obey(self._unpack(held)),
        }
        link.on_tick = self.outputs.flush
        link.on_fork = self.outputs.end_in_child
        self.interrupts = Interrupts(lambda task: task == self._member.running, self._interrupt)
        link.interrupt = self.interrupts.send
        link.wake_user_code = wake_main_thread

    def serve(self) -> str:
        """Run tasks until there is a reason to leave, which is returned."""
        member, line = self._member, self._link.line
        while member.leaving is None:
            if not line.wait_for(self._has_work, self.failures.seconds_left()):
                self.failures.expire()
            self._run_queued()
        return member.leaving

    def expect_visits(self) -> None:
        """To be called in the main thread before the first visit."""
        self._has_work = lambda: bool(self._visits) or self._member.has_work()

    def visit(self, call: Callable[[], Any], over: Callable[[Any, BaseException | None], None]) -> None:
        """Have the main thread call something between two tasks, and then ``over`` with its value or what it raised.

        Interrupts reach the call, and not ``over``. Thread-safe.
        """
        self._visits.append((call, over))
        self._link.line.announce()

    def _receive_visits(self) -> None:
        while self._visits:
            call, over = self._visits.popleft()
            self._interruptible = True
            try:
                value = call()
                self._interruptible = False
            except BaseException as error:
                self._interruptible = False
                over(None, error)
            else:
                over(value, None)

    def _run_queued(self) -> None:
        # Hot: once per task. Bench: no-op tasks.
        member, link, begun, durations = self._member, self._link, self._begun, self._durations
        visits, functions, take, run = self._visits, self._functions, member.take, self._run
        unsent = guarded = False
        while member.leaving is None:
            if visits:
                self._receive_visits()
            held = take()
            if held is None:
                break
            task = held.task
            function = task.function
            if function and function not in functions:
                body = member.bodies.get(function)
                if body is None:
                    member.park(held)
                    link.flush()
                    continue
                self._body = body  # the link's thread may let go of it before it is used
            if task.options is not None and task.options.values and self._awaits(held, task.options.values):
                continue
            if unsent:
                if durations.get(function, 1.0) > SHORT:
                    link.flush()  # nobody shall wait for a result because a long task follows
                elif not guarded:
                    link.flush_soon()  # … nor because one that ought to be short is not
                    guarded = True
            if held.direct:
                begun.direct = task.id
            else:
                begun.balanced = task.id
            if task.options is not None and task.options.time_limit is not None:
                link.begin(task.id, task.options.time_limit)
                finished = run(held)
                link.end()
            else:
                finished = run(held)
            unsent = True
            if finished - self._last_flush > FLUSH_EVERY:
                self._last_flush = finished
                link.flush()
                unsent = guarded = False
        if unsent or member.has_unsent():
            link.flush()

    def _awaits(self, held: Held, values: list[int]) -> bool:
        """Whether a task has to be set aside because values that it uses are elsewhere."""
        missing = self.kept.missing(values)
        if missing:
            self._member.await_value(held, missing[0])
            self._link.flush()
        return bool(missing)

    def _run(self, held: Held) -> float:
        """Run one task and hand in its result. Returns when it ended, by the wall clock."""
        task, member, outputs = held.task, self._member, self.outputs
        member.running = outputs.task = number = task.id
        buffers: list[memoryview] = []
        started = time()
        try:
            if task.shared is not None:
                held = self._link.sharing.complete(held)
            if task.options is not None and task.options.names and not held.direct:
                self._check_names(task.options.names)
            self._interruptible = True
            if member.aborted and number in member.aborted:  # since it was taken: that interrupt came too early
                raise KeyboardInterrupt
            value = self._apply(held) if task.action == _APPLY else self._actions[task.action](held)
            if task.options is not None and task.options.keep:
                value = self.kept.keep(number, value)
            if value is None:
                head = NONE
            else:
                head, buffers = pack(value)
            self._interruptible = False
        except BaseException as error:
            self._interruptible = False
            finished = time()
            try:
                result = self._failed(task, error, started, finished)
            except Exception as resisted:  # an exception may refuse everything asked of it
                evalue = f"It could not be described: that raised {type(resisted).__name__}."
                fault = Fault("remote", type(error).__name__, evalue)
                result = Result(number, _ERROR, b"", 0, started, finished, fault)
        else:
            finished = time()
            result = Result(number, _OK, head, len(buffers), started, finished)
            if buffers or len(head) >= WORTH:
                buffers = self._link.sharing.put(result, buffers)
        # Before results are sent, which is when there is no further task and once in a millisecond.
        sure = finished - self._last_flush > FLUSH_EVERY or not (member.balanced or member.direct)
        self._durations[task.function] = seconds = finished - started
        outputs.end(seconds, sure=sure)
        self.kept.look()
        member.running = outputs.task = -1
        member.finished(result, buffers)
        return finished

    def _failed(self, task: Task, error: BaseException, started: float, finished: float) -> Result:
        ename, evalue, traceback = describe_exception(error)
        if task.action == Action.EXECUTE:
            told = msgpack.encode({"ename": ename, "evalue": evalue, "traceback": traceback})
            self.outputs.show("error", told)
        if task.action != Action.DEBUG:
            self.failures.keep(task.id, error)
        kind = type(error).__name__ if issubclass(type(error), UnmetDependency) else "remote"
        status = _ERROR
        if isinstance(error, ValueLost):
            kind = ename = "EngineError"
        elif isinstance(error, _Lacking):
            kind, ename = LACKS, "NameError"
        if task.id in self._member.aborted:
            self._member.aborted.discard(task.id)
            if isinstance(error, KeyboardInterrupt):
                kind, status = "TaskAborted", _ABORTED
                evalue = "The task was interrupted while it ran, because it was aborted."
        elif task.options is not None and self._link.is_overdue(task.id):
            said = "" if isinstance(error, KeyboardInterrupt) else f" It answered with {ename}: {evalue}."
            kind, ename = "TaskTimeout", "TaskTimeout"
            evalue = (
                f"The task was interrupted because it ran longer than time_limit={task.options.time_limit:g} s.{said}"
            )
        payload = pack_exception(error) if kind == "remote" else b""
        return Result(task.id, status, payload, 0, started, finished, Fault(kind, ename, evalue, traceback))

    def _check_names(self, names: list[str]) -> None:
        name = self.kept.lacking(names)
        if name is not None:
            msg = f"name {name!r} is not defined"
            raise _Lacking(msg)

    # --- what tasks do ------------------------------------------------------------------------------------------

    def _apply(self, held: Held) -> Any:
        task = held.task
        function = self._functions.get(task.function) or self._rebuild(task.function)
        if task.payload == EMPTY_CALL:
            returned = function()
        else:
            args, kwargs = unpack_call(task.payload, held.frames, self._namespace.variables)  # type: ignore[arg-type]
            returned = function(*args, **kwargs)
        return returned if type(returned) is not CoroutineType else _value_of(returned)

    def _map(self, held: Held) -> Any:
        function = self._functions.get(held.task.function) or self._rebuild(held.task.function)
        given = self._unpack(held)
        items = given["items"]
        if _REFERENCE in held.task.payload:
            variables = self._namespace.variables
            items = [tuple(resolved(value, variables) for value in item) for item in items]
        if not given.get("return_exceptions"):
            return [_value_of(function(*item)) for item in items]
        values: list[Any] = []
        faults: dict[int, tuple[str, str, str, str]] = {}
        for position, item in enumerate(items):
            try:
                values.append(_value_of(function(*item)))
            except UnmetDependency:  # not about the item: another engine may do
                raise
            except Exception as error:
                values.append(None)
                faults[position] = ("remote", *describe_exception(error))
        return {"items": values, "faults": faults}

    def _execute(self, held: Held) -> Any:
        given = self._unpack(held)
        return self.cells.run(given["code"], silent=given["silent"], store_history=given["store_history"])

    def _unpack(self, held: Held) -> Any:
        return unpack(held.task.payload, held.frames, self._namespace.variables)  # type: ignore[arg-type]  # buffers

    def _rebuild(self, digest: bytes) -> Callable[..., Any]:
        function = unpack_function(self._body, self._namespace.variables)
        if len(self._functions) >= KEPT:
            del self._functions[next(iter(self._functions))]
        self._functions[digest] = function
        return function

    def _interrupt(self, frame: FrameType | None) -> None:
        """Interrupts reach user code only, each time; everything else here is short and must not be torn."""
        if self._interruptible and not (sys.exception() and frame is not None and frame.f_code in _OURS):
            # Else user code has just ended with an exception, and we are about to see to it.
            raise KeyboardInterrupt


#: Of the functions that catch what user code raises.
_OURS: Final = {Runner._run.__code__, Runner._receive_visits.__code__}  # noqa: SLF001 - of the class just made


def _value_of(returned: Any) -> Any:
    """What a call returned; of an async function, what awaiting it gives."""
    if type(returned) is not CoroutineType:
        return returned
    import asyncio  # 30 ms that only engines that are given coroutines pay

    return asyncio.run(returned)
