"""A tcp relay whose connections can be cut, as a bad network would: for tests of what is to survive that."""

from __future__ import annotations

import select
import socket
import threading


class Relay:
    """Passes bytes on between whoever connects to ``port`` and port ``target`` of this host. Thread-safe."""

    def __init__(self, target: int) -> None:
        self.target = target  #: may be changed: where the next connections lead
        self.accepted = 0  #: connections made so far
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._mate: dict[socket.socket, socket.socket] = {}
        self._wanted, self._wanting = socket.socketpair()
        self._thread = threading.Thread(target=self._run, name="relay", daemon=True)
        self._thread.start()

    def cut(self) -> None:
        """Break every connection at once."""
        self._wanting.send(b"c")

    def close(self) -> None:
        """Break everything and listen no more."""
        self._wanting.send(b"q")
        self._thread.join()
        self._listener.close()
        self._wanted.close()
        self._wanting.close()

    def _run(self) -> None:
        while True:
            ready, _, _ = select.select([self._listener, self._wanted, *self._mate], [], [])
            if self._wanted in ready:
                wish = self._wanted.recv(1)
                self._break()
                if wish == b"q":
                    return
                continue
            if self._listener in ready:
                self._join(self._listener.accept()[0])
            for one in ready:
                if one in self._mate:
                    self._pass_on(one)

    def _join(self, near: socket.socket) -> None:
        try:
            far = socket.create_connection(("127.0.0.1", self.target))
        except OSError:
            near.close()
            return
        self.accepted += 1
        self._mate[near], self._mate[far] = far, near

    def _pass_on(self, one: socket.socket) -> None:
        other = self._mate[one]
        try:
            data = one.recv(1 << 16)
            if data:
                other.sendall(data)
                return
        except OSError:
            pass
        for end in (one, other):
            self._mate.pop(end, None)
            end.close()

    def _break(self) -> None:
        for end in self._mate:
            end.close()
        self._mate.clear()
