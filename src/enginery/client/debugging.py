"""A look at a request that failed, at the engine where it did: pdb on its frames, and its traceback with variables.

The frames stay where they are. Each command travels as a request of its own over the connection there is, goes before
everything the engine has not begun, and its output comes back: no port, no terminal of the engine. Between two commands
the engine works on.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any, Self, TextIO

from enginery.client.handle import seconds
from enginery.client.replies import Failed
from enginery.errors import KernelError, exception_from_fault
from enginery.wire.messages import Action, Status, Task
from enginery.wire.serialize import pack, unpack

if TYPE_CHECKING:
    from types import TracebackType

    from enginery.client.described import Described
    from enginery.wire.messages import Output, Result


class PostMortem:
    """pdb on the frames of one failed request, one line at a time: ``start``, ``send`` …, ``close``.

    Works as a context manager, too. Thread-safe as far as commands do not overlap.
    """

    def __init__(self, result: Described, engine: int | None = None, *, timeout: float | None = None) -> None:
        """
        Args:
            result: What failed.
            engine: Whose failure to look at; by default the first one.
            timeout: Seconds that one command may take; then it is interrupted. None: as long as it takes.

        Raises:
            ValueError: Nothing has failed there, or not in a way that leaves frames.
        """
        index = _failed_on(result, engine)
        _check_has_frames(result, index)
        self.engine = result.reply_engine(index)
        self.task = result._id_at(index)
        self.prompt = "(Pdb) "
        self.is_open = False
        self._client = result.client
        self._timeout = seconds(timeout)

    def start(self) -> str:
        """Begin at the frame that failed. Returns what the debugger says.

        Raises LookupError if the engine is gone, or does not keep the frames any more.
        """
        return self._command("open")

    def send(self, line: str) -> str:
        """Have the debugger obey one line. Returns what it says; ``is_open`` tells whether it goes on.

        Ctrl-C interrupts the command and not the session. Raises TimeoutError if it takes longer than it may.
        """
        return self._command("line", line)

    def traceback(self) -> str:
        """The traceback of the failure, with the variables of each frame. Raises as ``start``."""
        return str(self._ask({"task": self.task, "do": "locals"})[0]["text"])

    def close(self) -> None:
        """End the session. The frames stay for a while."""
        if self.is_open:
            self.is_open = False
            self._command("close")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, tb: TracebackType | None) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<PostMortem engine={self.engine} {'open' if self.is_open else 'closed'}>"

    # --- asking -------------------------------------------------------------------------------------------------

    def _command(self, do: str, line: str = "") -> str:
        reply, said = self._ask({"task": self.task, "do": do, "line": line})
        self.is_open, self.prompt = reply["open"], reply["prompt"]
        return said

    def _ask(self, command: dict[str, Any]) -> tuple[dict[str, Any], str]:
        client, link = self._client, self._client.link
        if self.engine not in link.engines:
            raise LookupError(
                f"Engine {self.engine} is not there any more, and with it went the frames of the failure."
            )
        payload, buffers = pack(command)
        number = link.take_ids(1)
        answer = _Answer()
        late = False
        try:
            link.submit_direct([self.engine], Task(number, Action.DEBUG, b"", payload), buffers, answer, None)
            late = not link.wait_for(answer.is_here, self._timeout)
        except KeyboardInterrupt:
            if not link.is_outstanding(number) and not answer.is_here():
                raise  # it came before the command was sent
            link.abort([number], interrupt=True)
            link.wait_for(answer.is_here, self._timeout)
        if late:
            link.abort([number], interrupt=True)
            raise TimeoutError(
                f"The debugger on engine {self.engine} took longer than {self._timeout:g} s and was interrupted."
            )
        return answer.open(client.engine_info(self.engine, "debug")), answer.text()


class _Answer:
    """What comes back for one command: see ``core.requests.Sink``."""

    def __init__(self) -> None:
        self._result: Result | None = None
        self._texts: list[str] = []
        self._guard = threading.Lock()

    def arrived(self, result: Result, engine: int, buffers: list[memoryview], when: float) -> bool:  # noqa: ARG002 - of the protocol
        """See ``Sink``."""
        self._result = result
        return False

    def said(self, output: Output, engine: int) -> None:  # noqa: ARG002 - of the protocol
        """See ``Sink``."""
        with self._guard:
            self._texts.append(output.text)

    def settled(self) -> None:
        """See ``Sink``."""

    def is_here(self) -> bool:
        """Whether the reply has come."""
        return self._result is not None

    def text(self) -> str:
        """What was printed."""
        with self._guard:
            return "".join(self._texts)

    def open(self, info: dict[str, object]) -> dict[str, Any]:
        """The reply. Raises what the engine raised."""
        result = self._result
        if result is None:
            raise KernelError("The debugger was interrupted and has not answered.")
        if result.status != Status.OK and result.fault is not None:
            fault = result.fault
            if fault.ename == LookupError.__name__:
                raise LookupError(fault.evalue)
            raise exception_from_fault(fault.kind, fault.ename, fault.evalue, fault.traceback, info)
        reply: dict[str, Any] = unpack(result.payload)
        return reply


def debug(
    result: Described,
    engine: int | None = None,
    *,
    stdin: TextIO | None = None,
    stdout: TextIO | None = None,
    timeout: float | None = None,
) -> None:
    """Run pdb on the frames of a failed request, from this terminal or notebook, until ``q`` or the end of input.

    Commands come from ``stdin`` (default: ``input()``), and what they print goes to ``stdout`` (default: ``print``).
    Everything else is as of ``PostMortem``.
    """
    with PostMortem(result, engine, timeout=timeout) as session:
        said = session.start()
        _write(stdout, _greeting(session) + said)
        while session.is_open:
            try:
                line = _read(stdin, stdout, session.prompt)
            except KeyboardInterrupt:
                _write(stdout, "\n")
                continue
            if line is None:
                break
            try:
                _write(stdout, session.send(line))
            except TimeoutError as error:
                _write(stdout, f"*** {error}\n")
            except KeyboardInterrupt:  # before the command was sent, or for the second time
                _write(stdout, "\n")


def traceback_text(
    result: Described, engine: int | None = None, *, locals: bool = False, timeout: float | None = 30
) -> str:
    """The remote traceback of a failed request; with ``locals`` the engine adds the variables of each frame.

    Raises as ``PostMortem`` and its ``traceback``.
    """
    if locals:
        return PostMortem(result, engine, timeout=timeout).traceback()
    outcome = result.reply_outcome(_failed_on(result, engine))
    error = outcome.error if isinstance(outcome, Failed) else None
    return str(getattr(error, "traceback", "") or error or "")


def _failed_on(result: Described, engine: int | None) -> int:
    """The index of the first request that failed; one that user code ended, if there is any."""
    failed = [at for at in range(result._size()) if result.reply_arrived(at) and result.reply_status(at) != Status.OK]
    if engine is not None:
        failed = [at for at in failed if result.reply_engine(at) == engine]
    if failed:
        return next((at for at in failed if result.reply_status(at) == Status.ERROR), failed[0])
    where = "" if engine is None else f" on engine {engine}"
    raise ValueError(f"{result!r}: nothing has failed{where}, so there is nothing to look at.")


def _check_has_frames(result: Described, index: int) -> None:
    status = result.reply_status(index)
    if status in {Status.LOST, Status.UNRUNNABLE} or result.reply_engine(index) < 0:
        outcome = result.reply_outcome(index)
        why = outcome.error if isinstance(outcome, Failed) else "no engine ran it"
        raise ValueError(f"This failure has left no frames on an engine: {why}")


def _greeting(session: PostMortem) -> str:
    info = session._client.engine_info(session.engine, "debug")
    where = f" (pid {info['pid']} on {info['host']})" if "pid" in info else ""
    return f"Post-mortem on engine {session.engine}{where}. q leaves, h lists the commands.\n"


def _read(stdin: TextIO | None, stdout: TextIO | None, prompt: str) -> str | None:
    """The next line without its end; None at the end of input."""
    if stdin is None:
        try:
            return input(prompt)
        except EOFError:
            return None
    _write(stdout, prompt)
    line = stdin.readline()
    return line.rstrip("\n") if line else None


def _write(stdout: TextIO | None, text: str) -> None:
    if stdout is None:
        print(text, end="", flush=True)
    else:
        stdout.write(text)
        stdout.flush()
