"""The controller's two ports: connections in, (peer, header, frames) out, and the way back.

A port serves one kind of peer in two ways: a Unix socket without encryption for this host, a zmq ROUTER with CURVE
for others. A ``Peer`` is one connection of either kind; what it turns out to be is noted on it by the server.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import socket as sockets
import struct
import sys
from time import monotonic
from typing import TYPE_CHECKING, Any, Final

from enginery.controller.limits import Limits
from enginery.net.channel import ChannelClosed
from enginery.net.stream import STRANGER, Stream
from enginery.wire.messages import Ping, encode

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from enginery.core.mail import Mail
    from enginery.net.routed import Router

    #: Sees to one message of a peer: the peer, the message, its frames, and the time.
    Handler = Callable[["Peer", Any, list[object], float], None]

log = logging.getLogger("enginery.controller")

#: Connections taken from the queue of one listener in one turn.
ACCEPTS: Final = 64
#: Bytes sent to a peer on another host after which it is asked whether it has read them, at most.
ASK_EVERY: Final = 16 << 20
#: What ``accept`` says when there are no descriptors left.
_FULL: Final = frozenset({errno.EMFILE, errno.ENFILE})


class Peer:
    """One connection, and who is behind it."""

    __slots__ = (
        "asked",
        "credential",
        "fd",
        "handlers",
        "heard",
        "identity",
        "is_cut_off",
        "is_gone",
        "key",
        "mail",
        "number",
        "place",
        "port",
        "read",
        "rejected",
        "relays",
        "role",
        "sent",
        "shares",
        "stream",
    )

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
        self.is_cut_off = False  #: it was over a limit, and is not waited for
        self.shares = False  #: it can use the cluster's shared memory, as it has said
        self.relays = False  #: it is on another host, and can use the shared memory there
        self.place = ""  #: which memory that is
        self.rejected = 0  #: messages of it that made no sense
        self.key: Any = None  #: what it was let in by, once it has said hello
        # Of those that came over tcp:
        self.fd = -1
        self.credential = ""  #: what its connection has shown to know: a public key, or the name of a secret one
        self.sent = self.asked = self.read = 0  #: bytes it was sent, was asked about, and has read

    @property
    def is_local(self) -> bool:
        """Whether it is on this host for certain."""
        return self.stream is not None

    @property
    def backlog(self) -> int:
        """About how many bytes it was sent and has not read."""
        return self.stream.unsent if self.stream is not None else self.sent - self.read

    def __repr__(self) -> str:
        return f"<Peer {self.role or 'unknown'} {self.number}>"


class Port:
    """The connections of one kind of peer."""

    def __init__(
        self,
        name: str,
        urls: list[str],
        listener: sockets.socket | None,
        router: Router | None,
        limits: Limits | None = None,
    ) -> None:
        self.name = name
        self.urls = urls
        self.listener = listener
        self.router = router
        self.limits = limits or Limits()
        #: bytes sent to a peer on another host after which it is asked whether it has read them
        self._ask_every = min(ASK_EVERY, self.limits.unread // 4)
        #: given up to turn somebody away when there are no others
        self._spare = os.open(os.devnull, os.O_RDONLY) if listener is not None else -1
        self._turned_away = 0
        self.streams: dict[int, Peer] = {}  #: by descriptor
        self.stuck: set[int] = set()  #: descriptors of peers that do not take what is sent as fast as it comes
        self._routed: dict[bytes, Peer] = {}
        self._leaving: list[tuple[bytes, int]] = []  #: forgotten, and their connections to be ended
        self._going: list[tuple[bytes, int]] = []  #: … at the next look

    # --- Unix sockets -------------------------------------------------------------------------------------------

    def accept(self) -> Iterator[Peer]:
        """Peers that have connected over the Unix socket; those of other users are turned away."""
        assert self.listener is not None
        for _ in range(ACCEPTS):
            try:
                socket, _ = self.listener.accept()
            except OSError as error:  # nobody left, or one who hung up while waiting
                if error.errno in _FULL:
                    self._turn_away()
                return
            if not _is_own(socket) or len(self.streams) >= self.limits.connections:
                socket.close()
                self._note_turned_away()
                continue
            stream = Stream(socket)
            stream.bounds = STRANGER
            peer = self.streams[stream.fileno()] = Peer(self, stream=stream)
            peer.heard = monotonic()
            yield peer

    def _turn_away(self) -> None:
        """No descriptor is left: who has knocked is to know, and not to knock for ever."""
        assert self.listener is not None
        os.close(self._spare)
        with contextlib.suppress(OSError):
            self.listener.accept()[0].close()
        self._spare = os.open(os.devnull, os.O_RDONLY)
        self._note_turned_away()

    def _note_turned_away(self) -> None:
        self._turned_away += 1
        if self._turned_away & (self._turned_away - 1) == 0:  # the first, second, fourth …
            log.warning("%s: %d connections turned away so far; %r", self.name, self._turned_away, self.limits)

    def introduced(self, peer: Peer) -> None:
        """A peer has said hello: from now on it may send messages of any kind."""
        if peer.stream is not None:
            peer.stream.bounds = self.limits.bounds

    def overdue(self, now: float) -> list[Peer]:
        """Local strangers to be cut off: silent for too long, or the oldest of too many. Others are cut off here."""
        limits = self.limits
        if self.router is not None:
            self._see_off(self.router)
            doorway = self.router.doorway
            late = doorway.overdue(now, limits.hello, limits.strangers)
            if late:
                log.warning("%s: %d connections cut off that had not said hello", self.name, len(late))
                doorway.cut(late)
        strangers = [peer for peer in self.streams.values() if not peer.role]
        excess = len(strangers) - limits.strangers
        return [peer for at, peer in enumerate(strangers) if at < excess or now - peer.heard > limits.hello]

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
                peer.fd, peer.credential = self.router.origin(identity, header)
            yield peer, header, frames

    # --- both ---------------------------------------------------------------------------------------------------

    def send(self, peer: Peer, header: bytes, frames: list[object]) -> bool:
        """Send a message. False if the peer is gone, or does not read what it is sent."""
        stream = peer.stream
        if stream is not None:
            try:
                stream.send(header, frames)
            except ChannelClosed:
                return False
            if stream.wants_write:
                self.stuck.add(stream.fileno())
                return stream.unsent <= self.limits.queue or self._too_slow(peer, stream.unsent)
            return True
        return self.router is not None and self._send_far(self.router, peer, header, frames)

    def _send_far(self, router: Router, peer: Peer, header: bytes, frames: list[object]) -> bool:
        """Libzmq does not tell how much it keeps for a peer, so the peer is asked what it has read."""
        peer.sent += len(header) + sum(memoryview(frame).nbytes for frame in frames)  # type: ignore[arg-type,misc]  # buffers
        if peer.sent - peer.read > self.limits.queue:
            return self._too_slow(peer, peer.sent - peer.read)
        if not router.send(peer.identity, header, frames):
            return False
        if peer.sent - peer.asked < self._ask_every or not peer.role:
            return True
        peer.asked = peer.sent
        return router.send(peer.identity, encode(Ping(-peer.sent)), [])

    def _too_slow(self, peer: Peer, size: int) -> bool:
        if not peer.is_gone:
            log.warning("%r cut off: it has not read %d MB of what it was sent", peer, size >> 20)
            peer.is_gone = peer.is_cut_off = True
        return False

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
            if self._routed.pop(peer.identity, None) is not None:
                self._leaving.append((peer.identity, peer.fd))
            return -1
        fd = peer.stream.fileno()
        if self.streams.get(fd) is not peer:  # forgotten before, and its descriptor may be another one's by now
            return -1
        del self.streams[fd]
        self.stuck.discard(fd)
        return fd

    def _see_off(self, router: Router) -> None:
        """End the connections of peers on other hosts that were forgotten at the last call: they had time to hear why."""
        for identity, fd in self._going:
            again = self._routed.get(identity)
            if again is None or not again.role:  # else it has said hello anew
                self._routed.pop(identity, None)
                router.cut(identity, fd)
        self._going, self._leaving = self._leaving, []

    def close(self, linger: float) -> None:
        """Close everything; what was sent may still leave for ``linger`` seconds in all."""
        if self._spare >= 0:
            os.close(self._spare)
            self._spare = -1
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
