"""The controller's two ports: sockets in, (peer, header, frames) out, and the way back.

A port is one set of sockets for one kind of peer: ipc without encryption for this host, tcp with CURVE for others.
A ``Peer`` is one connection; what it turns out to be is noted on it by the server.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import zmq

if TYPE_CHECKING:
    from collections.abc import Iterator

    from enginery.net.sockets import Socket

#: Messages taken from one socket in one turn, so that no peer keeps the loop from the others.
TURN: Final = 200


class Peer:
    """One connection: its socket, zmq's routing id for it, and who it said it is."""

    __slots__ = ("identity", "number", "role", "socket")

    def __init__(self, socket: Socket, identity: bytes) -> None:
        self.socket = socket
        self.identity = identity
        self.role = ""  #: client, engine or nanny once it has said hello
        self.number = -1

    def __repr__(self) -> str:
        return f"<Peer {self.role or 'unknown'} {self.number}>"


class Port:
    """The sockets of one kind of peer."""

    def __init__(self, name: str, sockets: list[Socket], urls: list[str]) -> None:
        self.name = name
        self.sockets = sockets
        self.urls = urls
        self._peers: dict[tuple[int, bytes], Peer] = {}

    def receive(self, socket: Socket) -> Iterator[tuple[Peer, object, list[object]]]:
        """What waits on one of the sockets, up to one turn's worth. At least one message must wait."""
        key, readable = id(socket), [(socket, zmq.POLLIN)]
        for _ in range(TURN):
            identity = socket.recv()
            header = socket.recv(copy=False)  # a ROUTER always gives a part after the identity
            frames: list[object] = []
            more = header.more
            while more:
                frame = socket.recv(copy=False)
                frames.append(frame)
                more = frame.more
            peer = self._peers.get((key, identity))
            if peer is None:
                peer = self._peers[key, identity] = Peer(socket, identity)
            yield peer, header, frames
            if not zmq.zmq_poll(readable, 0):
                return

    def send(self, peer: Peer, header: bytes, frames: list[object]) -> bool:
        """Send a message. False if the peer is gone."""
        socket = peer.socket
        try:
            socket.send(peer.identity, zmq.SNDMORE | zmq.NOBLOCK)
        except zmq.ZMQError as error:
            if error.errno in (zmq.EHOSTUNREACH, zmq.EAGAIN):
                return False
            raise
        last = len(frames) - 1
        socket.send(header, zmq.SNDMORE if frames else 0)
        for at, frame in enumerate(frames):
            socket.send(frame, 0 if at == last else zmq.SNDMORE, copy=False)  # type: ignore[call-overload]  # as received
        return True

    def forget(self, peer: Peer) -> None:
        """A peer is gone; should it speak again it is unknown."""
        self._peers.pop((id(peer.socket), peer.identity), None)

    def close(self, linger: int) -> None:
        """Close the sockets; what was sent may still leave for ``linger`` milliseconds."""
        for socket in self.sockets:
            socket.close(linger)
