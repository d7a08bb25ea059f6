"""An engine as a Jupyter kernel: consoles and notebooks attach to it and share its namespace.

    front end <── zmq ──> thread of this file ── visits ──> main thread, between two tasks

Everything that touches the namespace happens in the main thread, in the engine's own shell. So cells of a front end and
tasks of clients take turns, ``In`` and ``Out`` are the same for both, and Ctrl-C means what it means for tasks.

Needs jupyter_client (the extra ``kernel``).
"""

from __future__ import annotations

import atexit
import json
import logging
import os
import secrets
import signal
import sys
import threading
from collections import deque
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from msgspec import msgpack

from enginery._version import __version__
from enginery.descriptions import describe_exception
from enginery.engine.current import find
from enginery.engine.interrupts import wake_main_thread

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from enginery.engine.runner import Runner
    from enginery.engine.shell import EngineShell
    from enginery.net.jupyter_ports import JupyterPorts
    from enginery.wire.messages import Output

    Message = Mapping[str, Any]

log = logging.getLogger("enginery.engine")

PROTOCOL: Final = "5.3"
#: Stands for the request of a front end where tasks of clients have their ids: beyond all of them.
VISIT: Final = 1 << 62
#: Seconds between two looks at whether the thread shall end; everything else wakes it.
LONG: Final = 3600.0
#: Types of messages that outputs become.
_TYPES: Final = {"display": "display_data", "update": "update_display_data", "result": "execute_result"}

_kernels: list[Kernel] = []


def bind_kernel(
    *,
    connection_file: str = "",
    transport: str = "tcp",
    ip: str = "",
    shell_port: int = 0,
    iopub_port: int = 0,
    stdin_port: int = 0,
    control_port: int = 0,
    hb_port: int = 0,
) -> str:
    """On an engine: let Jupyter's front ends attach to it. ``view.apply_sync(bind_kernel)``, then for instance

        jupyter console --existing kernel-<pid>.json

    Args:
        connection_file: Where to write how to connect; by default ``kernel-<pid>.json`` in Jupyter's runtime folder.
        transport: ``tcp``, or ``ipc`` for Unix sockets.
        ip: The address to listen at (default: this host only); for ``ipc`` a path, to which numbers are added.
        shell_port: The port for requests; 0 takes any. The same for the other four.
        iopub_port: The port for output.
        stdin_port: The port for input.
        control_port: The port for what goes before requests.
        hb_port: The port for heartbeats.

    Returns the path of the connection file; of the one there is if the engine is bound already.

    Raises RuntimeError outside of an engine, ImportError without jupyter_client, OSError if a port is taken.
    """
    runner = find("bind_kernel()")
    if _kernels and _kernels[0].is_alive:
        return str(_kernels[0].path)
    # Optional, and 0.1 s.
    from jupyter_core.paths import jupyter_runtime_dir

    path = Path(connection_file or f"kernel-{os.getpid()}.json")
    if not path.is_absolute():
        path = Path(jupyter_runtime_dir()) / path
    ports = {"shell": shell_port, "iopub": iopub_port, "stdin": stdin_port, "control": control_port, "hb": hb_port}
    where = ip or (str(path.with_suffix("")) if transport == "ipc" else "127.0.0.1")
    _kernels[:] = [Kernel(runner, path, transport, where, ports)]
    return str(path)


class Kernel:
    """The thread that speaks with front ends."""

    def __init__(self, runner: Runner, path: Path, transport: str, ip: str, wanted: Mapping[str, int]) -> None:
        # Optional: see the head of this file; and what it needs is needed nowhere else.
        from jupyter_client.session import Session

        from enginery.net.jupyter_ports import JupyterPorts  # it needs zmq, which engines on this host do without

        self.path = path
        self.is_alive = True
        self._runner = runner
        self._shell: EngineShell = runner.cells.shell()
        runner.expect_visits()
        self._key = secrets.token_hex(16)
        self._session = Session(key=self._key.encode(), signature_scheme="hmac-sha256")
        self._posted: deque[Callable[[], None]] = deque()
        self._waiting: deque[tuple[list[bytes], Message]] = deque()
        self._is_busy = False
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._ports: JupyterPorts = JupyterPorts(transport, ip, wanted)
        self._sockets = self._ports.sockets
        self._write_file(transport, ip)
        _remove_in_the_end([path, *self._ports.paths])
        threading.Thread(target=self._run, name="enginery-engine-kernel", daemon=True).start()

    def _write_file(self, transport: str, ip: str) -> None:
        content: dict[str, object] = {f"{name}_port": port for name, port in self._ports.ports.items()}
        content |= {
            "transport": transport,
            "ip": ip,
            "key": self._key,
            "signature_scheme": "hmac-sha256",
            "kernel_name": "enginery",
        }
        handle = os.open(self.path, os.O_CREAT | os.O_WRONLY | os.O_TRUNC, 0o600)
        with open(handle, "w", encoding="utf-8") as file:
            json.dump(content, file, indent=2)

    # --- the thread -----------------------------------------------------------------------------------------------

    def _run(self) -> None:
        self._send("iopub", "status", {"execution_state": "starting"})
        while self.is_alive:
            ready = self._ports.wait(LONG)
            while self._posted:
                self._posted.popleft()()
            if "hb" in ready:
                self._ports.echo()
            for name in ("control", "shell"):
                if name in ready:
                    self._receive(name)
            while self._waiting and not self._is_busy:
                self._handle("shell", *self._waiting.popleft())
        self.path.unlink(missing_ok=True)
        self._ports.close()

    def _receive(self, name: str) -> None:
        try:
            idents, message = self._session.recv(self._sockets[name], mode=0)
        except Exception as error:  # a stranger, or one with another key
            log.warning("a message of a Jupyter front end could not be read and was dropped: %s", error)
            return
        if message is None or idents is None:
            return
        if name == "shell":
            self._waiting.append((idents, message))
        else:
            self._handle(name, idents, message)

    def _handle(self, name: str, idents: list[bytes], message: Message) -> None:
        kind = message["header"]["msg_type"]
        self._status("busy", message)
        reply = partial(self._reply, name, idents, message)
        content = message["content"]
        shell = self._shell
        match kind:
            case "kernel_info_request":
                reply(self._info())
            case "execute_request":
                self._execute(message, reply)
            case "complete_request":
                self._visit(lambda: shell.complete_code(content["code"], content["cursor_pos"]), reply)
            case "inspect_request":
                level = content.get("detail_level", 0)
                self._visit(lambda: shell.inspect_code(content["code"], content["cursor_pos"], level), reply)
            case "is_complete_request":
                reply(shell.check_code(content["code"]))
            case "history_request":
                reply({"status": "ok", "history": []})
            case "comm_info_request":
                reply({"status": "ok", "comms": {}})
            case "interrupt_request":
                wake_main_thread()
                reply({"status": "ok"})
            case "shutdown_request":
                # The front end leaves; the engine is its clients'.
                reply({"status": "ok", "restart": bool(content.get("restart"))})
                self.is_alive = False
            case _:
                self._status("idle", message)

    def _reply(self, name: str, idents: list[bytes], message: Message, content: Mapping[str, Any]) -> None:
        kind = str(message["header"]["msg_type"]).replace("_request", "_reply")
        self._send(name, kind, content, message, idents)
        self._status("idle", message)

    def _status(self, state: str, message: Message) -> None:
        self._send("iopub", "status", {"execution_state": state}, message)

    def _send(
        self,
        name: str,
        kind: str,
        content: Mapping[str, Any],
        parent: Message | None = None,
        idents: list[bytes] | None = None,
    ) -> None:
        ident: Any = idents if idents is not None else kind.encode()
        self._session.send(self._sockets[name], kind, dict(content), parent=parent, ident=ident)  # type: ignore[arg-type]

    def _info(self) -> dict[str, Any]:
        version = sys.version_info
        return {
            "status": "ok",
            "protocol_version": PROTOCOL,
            "implementation": "enginery",
            "implementation_version": __version__,
            "banner": f"Engine of a cluster (enginery {__version__}), shared with its clients. Python {sys.version}",
            "help_links": [],
            "language_info": {
                "name": "python",
                "version": f"{version.major}.{version.minor}.{version.micro}",
                "mimetype": "text/x-python",
                "codemirror_mode": {"name": "ipython", "version": version.major},
                "pygments_lexer": "ipython3",
                "nbconvert_exporter": "python",
                "file_extension": ".py",
            },
        }

    # --- visits to the main thread --------------------------------------------------------------------------------

    def _visit(self, call: Callable[[], dict[str, Any]], reply: Callable[[Mapping[str, Any]], None]) -> None:
        """Have the main thread call something, and send what it returns."""
        self._is_busy = True

        def over(value: dict[str, Any] | None, error: BaseException | None) -> None:
            content = _failed(error) if value is None and error is not None else value or {}
            self._post(partial(self._over, reply, content))

        self._runner.visit(call, over)

    def _execute(self, message: Message, reply: Callable[[Mapping[str, Any]], None]) -> None:
        content = message["content"]
        silent = bool(content.get("silent"))
        keep = bool(content.get("store_history", True)) and not silent
        say = partial(self._said, message)
        back: list[Callable[[], None]] = []

        def call() -> dict[str, Any]:
            back.append(self._runner.outputs.divert(VISIT, say))
            if not silent:
                told = {"code": content["code"], "execution_count": self._shell.execution_count}
                self._post(partial(self._send, "iopub", "execute_input", told, message))
            return self._runner.cells.run(content["code"], silent=silent, store_history=keep)

        def over(value: dict[str, Any] | None, error: BaseException | None) -> None:
            for each in back:
                each()
            count = (value or {}).get("execution_count", self._shell.execution_count - keep)
            answer = {"status": "ok", "execution_count": count, "payload": [], "user_expressions": {}}
            if error is not None:
                answer = _failed(error) | {"execution_count": count}
                self._post(partial(self._send, "iopub", "error", answer, message))
            self._post(partial(self._over, reply, answer))

        self._is_busy = True
        self._runner.visit(call, over)

    def _said(self, message: Message, output: Output) -> None:
        """Pass output on, from whichever thread."""
        kind, content = _content_of(output)
        if kind:
            self._post(partial(self._send, "iopub", kind, content, message))

    def _over(self, reply: Callable[[Mapping[str, Any]], None], content: Mapping[str, Any]) -> None:
        self._is_busy = False
        reply(content)

    def _post(self, act: Callable[[], None]) -> None:
        """Have this kernel's thread do something. Thread-safe."""
        self._posted.append(act)
        self._ports.wake()


def _remove_in_the_end(paths: Iterable[Path]) -> None:
    """Remove the files when this process ends, also by the signal that hosts send to their engines."""
    owner = os.getpid()

    def remove() -> None:
        if os.getpid() == owner:  # not a fork of it that ends
            for path in paths:
                path.unlink(missing_ok=True)

    def end(number: int, _frame: object) -> None:
        remove()
        signal.signal(number, signal.SIG_DFL)
        signal.raise_signal(number)

    atexit.register(remove)
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, end)


def _content_of(output: Output) -> tuple[str, dict[str, Any]]:
    """The type and the content of the Jupyter message for an output; an empty type for what has none."""
    if output.kind in {"stdout", "stderr"}:
        return "stream", {"name": output.kind, "text": output.text}
    found = msgpack.decode(output.data)
    if output.kind in _TYPES:
        return _TYPES[output.kind], found
    if output.kind == "clear":
        return "clear_output", found
    if output.kind == "error":
        return "error", found | {"traceback": str(found["traceback"]).splitlines()}
    return "", {}


def _failed(error: BaseException) -> dict[str, Any]:
    ename, evalue, traceback = describe_exception(error)
    return {"status": "error", "ename": ename, "evalue": evalue, "traceback": traceback.splitlines()}
