"""The exception tree, and how exceptions travel as words. No I/O.

    IPythonError
    ├── ConnectionFileError (also ValueError)        a connection file is damaged or incomplete
    ├── LogbookError                                 what a durable controller remembers cannot be read or written
    ├── LauncherError                                a program could not be started, or ended at once
    ├── SerializationError (also TypeError)          a value cannot be sent
    └── KernelError
        ├── ConnectionLost (also ConnectionError)    the controller went away
        ├── Refused (also ConnectionError)           the controller does not want us
        │   └── VersionMismatch                      … because we speak another protocol
        ├── EngineError                              an engine died or left
        ├── NoEnginesRegistered                      there is nobody to run it
        ├── NoRecord (also KeyError)                 nothing is remembered of a task (any more)
        ├── TaskAborted, TaskTimeout, TaskRejectError
        ├── UnmetDependency
        │   └── ImpossibleDependency
        │       ├── DependencyTimeout
        │       └── InvalidDependency
        └── RemoteError                              user code raised, on an engine
            ├── CompositeError                       … on several engines
            └── AlreadyDisplayedError                … and the user has seen it

Every exception here survives pickling with its attributes. Exceptions of user code never travel as objects: they are
described in words on the engine (``enginery.descriptions``) and become a ``RemoteError`` on the client.
"""

from __future__ import annotations

import builtins
import sys
from typing import TYPE_CHECKING, Final, NoReturn, TypeVar

from enginery.descriptions import describe_exception
from enginery.error_texts import element, grouped, headline, left_out, render, without_traceback

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from enginery.error_texts import Element

_Results = TypeVar("_Results")

#: The builtin, under the name by which it has always been imported from here.
TimeoutError = builtins.TimeoutError


class IPythonError(Exception):
    """Everything this package raises on its own account."""


class ConnectionFileError(ValueError, IPythonError):
    """A connection file is missing, damaged or incomplete. ``path`` and ``key`` say where."""

    def __init__(self, message: str, *, path: str | None = None, key: str | None = None) -> None:
        super().__init__(message)
        self.path = path
        self.key = key


class LogbookError(IPythonError):
    """The file in which a durable controller remembers cannot be read or written, and nobody guesses what it held."""


class LauncherError(IPythonError):
    """A program could not be started or ended at once. ``command``, ``code`` and ``output`` say what was seen."""

    def __init__(self, message: str, *, command: Sequence[str] = (), code: int | None = None, output: str = "") -> None:
        super().__init__(message)
        self.command = list(command)
        self.code = code
        self.output = output


class SerializationError(TypeError, IPythonError):
    """A value cannot be sent. The text names the argument, and the attribute inside it where that is known."""


class KernelError(IPythonError):
    """Something went wrong between client, controller and engines."""


class ConnectionLost(KernelError, ConnectionError):
    """The connection to the controller is gone for good."""


class TunnelError(KernelError, ConnectionError):
    """No ssh tunnel to the controller could be made. The text has ssh's own words."""


class Refused(KernelError, ConnectionError):
    """The controller answered, and does not accept this peer."""


class VersionMismatch(Refused):
    """The controller speaks another version of the protocol."""


class EngineError(KernelError):
    """An engine died or left. Known facts are in ``engine_id``, ``pid``, ``host`` and ``code`` (None: unknown)."""

    def __init__(
        self,
        message: str = "",
        *,
        engine_id: int | None = None,
        pid: int | None = None,
        host: str | None = None,
        code: int | None = None,
    ) -> None:
        super().__init__(message)
        self.engine_id = engine_id
        self.pid = pid
        self.host = host
        self.code = code


class NoRecord(KernelError, KeyError):
    """Nothing is remembered of a task: it never was, it went when newer ones came, or it was purged."""

    # KeyError shows the repr of a single argument; this is a sentence.
    __str__ = Exception.__str__


class NoEnginesRegistered(KernelError):
    """No engine is there to run it."""


class TaskAborted(KernelError):
    """The task was taken back, or interrupted on request."""


class TaskTimeout(KernelError):
    """The task ran out of time."""


class TaskRejectError(KernelError):
    """The task was not accepted."""


class UnmetDependency(KernelError):
    """This engine cannot run the task; another one may. Raised by ``@require`` and ``@depend``."""


class ImpossibleDependency(UnmetDependency):
    """The task can never run: what it depends on ended otherwise than it demands."""


class DependencyTimeout(ImpossibleDependency):
    """What the task depends on did not end in time."""


class InvalidDependency(ImpossibleDependency):
    """The task depends on something that is not known."""


class RemoteError(KernelError):
    """User code raised an exception on an engine.

    ``ename`` and ``evalue`` are the class name and the text of the original, ``traceback`` its formatted traceback
    (remote frames only) and ``engine_info`` says who ran it: ``engine_id``, ``engine_uuid``, ``method``.
    The remote traceback is a note of the exception, so that a plain Python traceback shows it as well.
    """

    ename: str
    evalue: str
    traceback: str
    engine_info: dict[str, object]

    def __init__(
        self, ename: str, evalue: str, traceback: str = "", engine_info: Mapping[str, object] | None = None
    ) -> None:
        info = dict(engine_info or {})
        super().__init__(ename, evalue, traceback, info)
        self.ename = ename
        self.evalue = evalue
        self.traceback = traceback
        self.engine_info = info
        if traceback:
            self.__notes__ = ["\n".join(self.render_traceback())]

    def __str__(self) -> str:
        """Engine label, class and text of the original: ``[0:apply]: ZeroDivisionError: division by zero``."""
        return headline(self.ename, self.evalue, self.engine_info)

    def __repr__(self) -> str:
        return f"<{type(self).__name__}[{self.engine_info.get('engine_id', '')}]:{self.ename}({self.evalue})>"

    def render_traceback(self, excid: int | None = None) -> list[str]:  # noqa: ARG002 - composite errors use it
        """Return the remote traceback as lines, the first one naming the engine. ``excid`` is not used here."""
        return render(self.ename, self.evalue, self.traceback, self.engine_info)

    def _render_traceback_(self) -> list[str]:
        """IPython calls this instead of showing the local frames, which say nothing about the error."""
        return _paint("\n".join(self.render_traceback())).split("\n")

    def print_traceback(self, excid: int | None = None) -> None:
        """Write the remote traceback to the standard output."""
        sys.stdout.write("\n".join(self.render_traceback(excid)) + "\n")


class CompositeError(RemoteError):
    """User code raised exceptions on several engines.

    ``elist`` holds one ``(ename, evalue, traceback, engine_info)`` per exception. Those that say the same are shown
    once, with the engines that said it; ``tb_limit`` is how many different ones are shown.
    """

    tb_limit = 4
    msg: str
    elist: list[Element]

    def __init__(self, msg: str, elist: Iterable[Element] = ()) -> None:
        super().__init__("CompositeError", msg)
        self.msg = msg
        self.elist = [element(entry) for entry in elist]
        self.args = (msg, self.elist)
        if self.elist:
            self.__notes__ = ["\n".join(self.render_traceback())]

    def __str__(self) -> str:
        """Message, then a line per different exception."""
        groups = grouped(self.elist)
        lines = [self.msg]
        lines += [f"{headline(*without_traceback(group[0]), who=group)}" for group in groups[: self.tb_limit]]
        lines += left_out(groups[self.tb_limit :])
        return "\n".join(lines)

    def __repr__(self) -> str:
        return f"<{type(self).__name__}({len(self.elist)})>"

    def render_traceback(self, excid: int | None = None) -> list[str]:
        """Return tracebacks as lines: that of exception ``excid``, or of up to ``tb_limit`` different ones.

        Raises IndexError if there is no exception of that number.
        """
        if excid is not None:
            return render(*self._pick(excid))
        groups = grouped(self.elist)
        lines: list[str] = []
        for group in groups[: self.tb_limit]:
            if lines:
                lines.append("")
            lines += render(*group[0], who=group)
        return lines + left_out(groups[self.tb_limit :])

    def raise_exception(self, excid: int = 0) -> NoReturn:
        """Raise exception number ``excid`` as a ``RemoteError``. Raises IndexError if there is none."""
        raise RemoteError(*self._pick(excid)) from self

    def _pick(self, excid: int) -> Element:
        try:
            return self.elist[excid]
        except IndexError:
            raise IndexError(
                f"There is no exception number {excid}: this error holds {len(self.elist)}, numbered from 0."
            ) from None


class AlreadyDisplayedError(RemoteError):
    """Errors that were shown to the user as they arrived; shown again as their number only."""

    def __init__(self, original_error: RemoteError | None = None) -> None:
        count = len(original_error.elist) if isinstance(original_error, CompositeError) else 1
        super().__init__("AlreadyDisplayedError", f"{count} error{'s' if count != 1 else ''}")
        self.original_error = original_error
        self.args = (original_error,)

    def __str__(self) -> str:
        """How many errors there were."""
        return self.evalue

    def render_traceback(self, excid: int | None = None) -> list[str]:  # noqa: ARG002 - same signature as its base
        """Return one line: how many errors there were."""
        return [self.evalue]


# --- from words to exceptions, and back ----------------------------------------------------------------------------

_BY_NAME: Final[dict[str, type[IPythonError]]] = {
    cls.__name__: cls
    for cls in (
        SerializationError,
        KernelError,
        ConnectionLost,
        Refused,
        VersionMismatch,
        NoEnginesRegistered,
        NoRecord,
        TaskAborted,
        TaskTimeout,
        TaskRejectError,
        UnmetDependency,
        ImpossibleDependency,
        DependencyTimeout,
        InvalidDependency,
    )
}


def exception_from_fault(
    kind: str,
    ename: str,
    evalue: str,
    traceback: str = "",
    engine_info: Mapping[str, object] | None = None,
) -> Exception:
    """Build the exception the client raises from the fields of a fault.

    Kind ``"remote"`` gives a ``RemoteError``, whatever the class was called on the engine. Other kinds name a class of
    this file and give that class with ``evalue`` as its text. A kind nobody knows (a newer peer) is a ``RemoteError``.
    """
    info = dict(engine_info or {})
    if kind == "EngineError":
        return EngineError(
            evalue,
            engine_id=_number(info.get("engine_id")),
            pid=_number(info.get("pid")),
            host=str(info["host"]) if info.get("host") else None,
            code=_number(info.get("code")),
        )
    cls = _BY_NAME.get(kind)
    if cls is None:
        return RemoteError(ename, evalue, traceback, info)
    error = cls(evalue)
    if traceback:
        error.add_note(traceback.rstrip())
    return error


def wrap_exception(engine_info: Mapping[str, object] | None = None) -> dict[str, object]:
    """Return the exception being handled as a plain dictionary, for ``unwrap_exception`` on the other side."""
    error = sys.exception()
    if error is None:
        raise RuntimeError("wrap_exception() was called while no exception was being handled; call it inside except.")
    ename, evalue, traceback = describe_exception(error)
    return {
        "status": "error",
        "ename": ename,
        "evalue": evalue,
        "traceback": traceback,
        "engine_info": dict(engine_info or {}),
    }


def unwrap_exception(content: Mapping[str, object]) -> RemoteError:
    """Return the ``RemoteError`` for a dictionary made by ``wrap_exception``."""
    lines = content.get("traceback", "")
    info = content.get("engine_info")
    return RemoteError(
        str(content["ename"]),
        str(content["evalue"]),
        lines if isinstance(lines, str) else "\n".join(map(str, lines if isinstance(lines, list | tuple) else [])),
        info if isinstance(info, dict) else None,
    )


def collect_exceptions(rdict_or_list: _Results, method: str = "unspecified") -> _Results:
    """Raise one ``CompositeError`` for all our exceptions among some results; return the results if there are none.

    ``rdict_or_list`` is a mapping or an iterable of results. Composite errors among them are flattened.
    """
    results: object = rdict_or_list.values() if isinstance(rdict_or_list, dict) else rdict_or_list
    elist: list[Element] = []
    for result in results:  # type: ignore[attr-defined]
        if isinstance(result, CompositeError):
            elist += result.elist
        elif isinstance(result, RemoteError):
            elist.append((result.ename, result.evalue, result.traceback, result.engine_info))
        elif isinstance(result, IPythonError):
            engine = getattr(result, "engine_id", None)
            info: dict[str, object] = {"method": method} if engine is None else {"engine_id": engine, "method": method}
            elist.append((type(result).__name__, str(result), "", info))
    if elist:
        raise CompositeError(f"one or more exceptions raised in: {method}", elist)
    return rdict_or_list


#: Colours a traceback where IPython shows it.
_paint: Callable[[str], str] = str


def paint_with(paint: Callable[[str], str]) -> None:
    """Have IPython show remote tracebacks as ``paint(text)`` from now on."""
    global _paint  # noqa: PLW0603 - there is one session that shows them
    _paint = paint


def _number(value: object) -> int | None:
    return value if isinstance(value, int) else None
