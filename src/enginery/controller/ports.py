"""The controller's two ports: connections in, (peer, header, frames) out, and the way back.

A port serves one kind of peer in two ways: a Unix socket without encryption for this host, a zmq ROUTER with CURVE
for others. A ``Peer`` is one connection of either kind; what it turns out to be is noted on it by the server.
"""

from __future__ import annotations

import os
import socket as sockets
import struct
import sys
from typing import TYPE_CHECKING, Any, Final

from enginery.net.channel import ChannelClosed
from enginery.net.stream import Stream

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from enginery.core.mail import Mail
    from enginery.net.routed import Router

    #: Sees to one message of a peer: the peer, the message, its frames, and the time.
    Handler = Callable[["Peer", Any, list[object], float], None]

#: Connections taken from the queue of one listener in one turn.
ACCEPTS: Final = 64


class Peer:
    """One connection, and who is behind it."""

    __slots__ = ("handlers", "heard", "identity", "is_gone", "mail", "number", "port", "role", "stream")

    def __init__(self, port: Port, identity: bytes = b"", stream: Stream | None = None) -> None:
        self.port = port
        self.identity = identity  #: zmq's routing id, for those that came over tcp
        self.stream = stream  #: for those on this host
        self.handlers: dict[type, Handler] = {}  #: who sees to which message, by the role
        self.heard = 0.0  #: when it last said something, in monotonic seconds
        self.role = ""  #: client, engine or nanny once it has said hello
        self.is_gone = False  #: its connection has been closed, or shall not be listened to any more
        self.number = -1
        self.mail: Mail | None = None  #: kept for a peer that may come back

    @property
    def is_local(self) -> bool:
        """Whether it is on this host for certain."""
        return self.stream is not None

    def __repr__(self) -> str:
        return f"<Peer {self.role or 'unknown'} {self.number}>"


class Port:
    """The connections of one kind of peer."""

    def __init__(self, name: str, urls: list[str], listener: sockets.socket | None, router: Router | None) -> None:
        self.name = name
        self.urls = urls
        self.listener = listener
        self.router = router
        self.streams: dict[int, Peer] = {}  #: by descriptor
        self.stuck: set[int] = set()  #: descriptors of peers that do not take what is sent as fast as it comes
        self._routed: dict[bytes, Peer] = {}

    # --- Unix sockets -------------------------------------------------------------------------------------------

    def accept(self) -> Iterator[Peer]:
        """Peers that have connected over the Unix socket; those of other users are turned away."""
        assert self.listener is not None
        for _ in range(ACCEPTS):
            try:
                socket, _ = self.listener.accept()
            except OSError:  # nobody left, or one who hung up while waiting
                return
            if not _is_own(socket):
                socket.close()
                continue
            stream = Stream(socket)
            peer = self.streams[stream.fileno()] = Peer(self, stream=stream)
            yield peer

    # --- zmq ----------------------------------------------------------------------------------------------------

    @property
    def has_routed(self) -> bool:
        """Whether anybody has come by zmq and is still there."""
        return bool(self._routed)

    def receive_routed(self) -> Iterator[tuple[Peer, object, list[object]]]:
        """What waits on the zmq socket, up to one turn's worth."""
        assert self.router is not None
        for identity, header, frames in self.router.receive():
            peer = self._routed.get(identity)
            if peer is None:
                peer = self._routed[identity] = Peer(self, identity)
            yield peer, header, frames

    # --- both ---------------------------------------------------------------------------------------------------

    def send(self, peer: Peer, header: bytes, frames: list[object]) -> bool:
        """Send a message. False if the peer is gone."""
        stream = peer.stream
        if stream is not None:
            try:
                stream.send(header, frames)
            except ChannelClosed:
                return False
            if stream.wants_write:
                self.stuck.add(stream.fileno())
            return True
        return self.router is not None and self.router.send(peer.identity, header, frames)

    def write(self, peer: Peer) -> bool:
        """Go on sending to a stuck peer. False if it is gone."""
        assert peer.stream is not None
        try:
            peer.stream.write()
        except ChannelClosed:
            return False
        if not peer.stream.wants_write:
            self.stuck.discard(peer.stream.fileno())
        return True

    def forget(self, peer: Peer) -> int:
        """A peer is gone, or shall be: closes its connection. Returns the descriptor it had, or -1."""
        if peer.stream is None:
            self._routed.pop(peer.identity, None)
            return -1
        fd = peer.stream.fileno()
        if self.streams.get(fd) is not peer:  # forgotten before, and its descriptor may be another one's by now
            return -1
        del self.streams[fd]
        self.stuck.discard(fd)
        return fd

    def close(self, linger: float) -> None:
        """Close everything; what was sent may still leave for ``linger`` seconds in all."""
        for peer in self.streams.values():
            if peer.stream is not None:
                peer.stream.close(linger if peer.stream.wants_write else 0.0)
        if self.listener is not None:
            self.listener.close()
        if self.router is not None:
            self.router.close(linger)


def _is_own(socket: sockets.socket) -> bool:
    """Whether the process behind a Unix socket belongs to this user (or to root), as the kernel says."""
    if not sys.platform.startswith("linux"):
        return True  # the folder's mode has to do
    _, uid, _ = struct.unpack("3i", socket.getsockopt(sockets.SOL_SOCKET, sockets.SO_PEERCRED, struct.calcsize("3i")))
    return uid in (os.getuid(), 0)
