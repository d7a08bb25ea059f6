"""A tcp relay whose connections a test can cut, as a bad network would."""

from __future__ import annotations

import select
import socket
import threading


class Relay:
    """Passes bytes on between whoever connects and ``port`` on this host. ``cut`` breaks what is connected."""

    def __init__(self, port) -> None:
        self.target = port
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        self.accepted = 0
        self._mate = {}
        self._wanted, self._wanting = socket.socketpair()
        self._thread = threading.Thread(target=self._run, name="relay", daemon=True)
        self._thread.start()

    def cut(self):
        """Break every connection at once."""
        self._wanting.send(b"c")

    def close(self):
        self._wanting.send(b"q")
        self._thread.join()
        self.listener.close()
        self._wanted.close()
        self._wanting.close()

    def _run(self):
        while True:
            ready, _, _ = select.select([self.listener, self._wanted, *self._mate], [], [])
            if self._wanted in ready:
                wish = self._wanted.recv(1)
                self._break()
                if wish == b"q":
                    return
                continue
            if self.listener in ready:
                self._join(self.listener.accept()[0])
            for one in ready:
                if one in self._mate:
                    self._pass_on(one)

    def _join(self, near):
        try:
            far = socket.create_connection(("127.0.0.1", self.target))
        except OSError:
            near.close()
            return
        self.accepted += 1
        self._mate[near], self._mate[far] = far, near

    def _pass_on(self, one):
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

    def _break(self):
        for end in self._mate:
            end.close()
        self._mate.clear()
