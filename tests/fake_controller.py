"""A controller's endpoint on a Unix socket that says what a test tells it to, and remembers what it heard."""

from __future__ import annotations

import os
import select
import socket
import tempfile
import time
from collections import deque
from pathlib import Path

from enginery.net.channel import ChannelClosed
from enginery.net.connection_file import ConnectionInfo
from enginery.net.sockets import listen_on_path
from enginery.net.stream import Stream
from enginery.wire import messages as m

#: Longest wait for anything, in seconds; reached only when something is broken.
PATIENCE = 20.0


class FakeController:
    """One endpoint, for clients or for engines. Its peers are numbered in the order they came."""

    def __init__(self, kind="client") -> None:
        self.folder = tempfile.TemporaryDirectory(prefix="eng-")
        path = Path(self.folder.name, "s")
        self.listener = listen_on_path(path)
        self.info = ConnectionInfo(kind=kind, url=f"ipc://{path}", pid=os.getpid(), location=socket.gethostname())
        self.decode = m.decode_from_client if kind == "client" else m.decode_from_engine
        self.streams = []
        self.heard = deque()

    def welcome(self, number=3, peer=-1, **kwargs):
        """Take the hello of a peer in, and let it in."""
        hello = self.expect(m.ClientHello if self.info.kind == "client" else m.EngineHello)
        self.say(m.Welcome(number, "token", 1, kwargs.pop("period", 3.0), **kwargs), peer=peer)
        return hello

    def say(self, *messages, frames=(), peer=-1):
        for message in messages:
            header = message if isinstance(message, bytes) else m.encode(message)
            self.streams[peer].send(header, list(frames))
        while self.streams[peer].wants_write:
            select.select([], [self.streams[peer]], [], PATIENCE)
            self.streams[peer].write()

    def expect(self, kind, timeout=PATIENCE):
        """The first message of a kind that has not been asked for yet."""
        deadline = time.monotonic() + timeout
        while True:
            for at, (message, _) in enumerate(self.heard):
                if isinstance(message, kind):
                    self.frames = self.heard[at][1]
                    del self.heard[at]
                    return message
            left = deadline - time.monotonic()
            assert left > 0, f"no {kind.__name__} came; heard {list(self.heard)}"
            self.hear(left)

    def hear(self, timeout=PATIENCE):
        """Take in what comes next."""
        ready, _, _ = select.select([self.listener, *self.streams], [], [], timeout)
        for one in ready:
            if one is self.listener:
                self.streams.append(Stream(self.listener.accept()[0]))
                continue
            try:
                for header, frames in one.receive():
                    self.heard.append((self.decode(bytes(header)), [bytes(frame) for frame in frames]))
            except ChannelClosed:
                self.streams.remove(one)
                one.close(0)

    def hang_up(self, peer=-1):
        self.streams.pop(peer).close(0)

    def close(self):
        for stream in self.streams:
            stream.close(0)
        self.listener.close()
        self.folder.cleanup()
