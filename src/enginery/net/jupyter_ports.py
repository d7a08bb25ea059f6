"""The five sockets at which Jupyter's front ends find a kernel.

Imported where an engine is bound to be one, and nowhere else. Made, used and closed by one thread; ``wake`` is for all.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import zmq

from enginery.net.wakeup import Wakeup

if TYPE_CHECKING:
    from collections.abc import Mapping

#: How long a closing socket may go on delivering what was sent, in milliseconds.
LINGER: Final = 1000
#: Numbers tried for each socket whose address is a path.
MOST_PATHS: Final = 1000
_KINDS: Final = {
    "shell": zmq.ROUTER,
    "iopub": zmq.PUB,
    "stdin": zmq.ROUTER,
    "control": zmq.ROUTER,
    "hb": zmq.REP,
}


class JupyterPorts:
    """Sockets by name (``shell``, ``iopub``, ``stdin``, ``control``, ``hb``), and the ports they got."""

    def __init__(self, transport: str, ip: str, wanted: Mapping[str, int]) -> None:
        """Bind each socket to its wanted port, 0 for any. With transport ``ipc``, ``ip`` is a path and ports count up.

        Raises OSError if a port is taken.
        """
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self.sockets: dict[str, zmq.Socket[bytes]] = {}
        self.ports: dict[str, int] = {}
        #: files that are sockets
        self.paths: list[Path] = []
        self._wakeup = Wakeup()
        self.wake = self._wakeup.set
        self._poller = zmq.Poller()
        self._poller.register(self._wakeup.fileno(), zmq.POLLIN)
        try:
            for name, kind in _KINDS.items():
                self.sockets[name] = socket = self._context.socket(kind)
                socket.linger = LINGER
                self.ports[name] = _bind(socket, transport, ip, wanted.get(name, 0), set(self.ports.values()))
                if transport == "ipc":
                    self.paths.append(Path(f"{ip}-{self.ports[name]}"))
                if name not in {"iopub", "stdin"}:
                    self._poller.register(socket, zmq.POLLIN)
        except zmq.ZMQError as error:
            self.close()
            raise OSError(error.errno, f"cannot bind {name} for {transport} at {ip}: {error.strerror}") from error

    def wait(self, timeout: float) -> set[str]:
        """Wait for messages or for ``wake``, at most so many seconds. Returns the names of sockets to read."""
        ready: dict[Any, int] = dict(self._poller.poll(int(timeout * 1000)))
        if self._wakeup.fileno() in ready:
            self._wakeup.clear()
        return {name for name, socket in self.sockets.items() if socket in ready}

    def echo(self) -> None:
        """Answer a heartbeat."""
        heart = self.sockets["hb"]
        heart.send(heart.recv())

    def close(self) -> None:
        """Close all sockets."""
        for socket in self.sockets.values():
            socket.close()
        self._context.term()
        for path in self.paths:
            path.unlink(missing_ok=True)


def _bind(socket: zmq.Socket[bytes], transport: str, ip: str, port: int, taken: set[int]) -> int:
    if transport != "ipc":
        if port:
            socket.bind(f"{transport}://{ip}:{port}")
            return port
        return socket.bind_to_random_port(f"{transport}://{ip}")
    number = port or next(each for each in range(1, MOST_PATHS) if each not in taken)
    socket.bind(f"ipc://{ip}-{number}")
    return number
