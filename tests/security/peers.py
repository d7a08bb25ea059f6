"""Somebody who says to a controller whatever a test wants."""

from __future__ import annotations

import contextlib
import os
import select
import time

from enginery.net.channel import ChannelClosed
from enginery.net.sockets import dial, key_for
from enginery.wire import messages as m
from security.conftest import PATIENCE


class Peer:
    """Somebody who says whatever a test wants."""

    def __init__(self, info, channel=None) -> None:
        self.channel = channel or dial(info)
        self.key = key_for(info, self.channel)
        self.kind = info.kind
        self.decode = m.decode_to_client if info.kind == "client" else m.decode_to_engine
        self.got = []

    def hello(self, uuid="stranger"):
        pid = os.getpid()
        if self.kind == "client":
            self.say(m.ClientHello(m.VERSION, "s", pid, "here", "me", key=self.key))
        else:
            self.say(m.EngineHello(m.VERSION, uuid, pid, "here", key=self.key))
        self.welcome = self.hear(m.Welcome)
        return self

    def say(self, *messages, frames=()):
        for message in messages:
            self.channel.send(message if isinstance(message, bytes) else m.encode(message), list(frames))

    def hear(self, kind):
        deadline = time.monotonic() + PATIENCE
        while True:
            for at, message in enumerate(self.got):
                if isinstance(message, kind):
                    del self.got[at]
                    return message
            assert time.monotonic() < deadline, f"no {kind.__name__} came; heard {self.got}"
            if not self.channel.has_unseen():
                select.select([self.channel], [], [], 0.05)
            for header, _ in self.channel.receive():
                self.got.append(self.decode(bytes(header)))

    def is_cut_off(self):
        with contextlib.suppress(ChannelClosed):
            self.hear(type(None))
            return False
        return True


@contextlib.contextmanager
def peer(info, channel=None, *, hello=True):
    one = Peer(info, channel)
    try:
        yield one.hello() if hello else one
    finally:
        one.channel.close(0)
