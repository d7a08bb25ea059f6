"""Connections over tcp, encrypted by CURVE: the only place that makes zmq sockets.

Imported by those who dial or listen beyond this host, and by nobody else: libzmq costs 6 MB and some start-up time.
"""

from __future__ import annotations

import select
import sys
from time import monotonic
from typing import TYPE_CHECKING, Final

import zmq

from enginery.net.channel import ChannelClosed
from enginery.net.curve import ZAP_ENDPOINT
from enginery.net.doorway import EVENTS, Doorway
from enginery.net.signed import Forged, Notary

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from enginery.net.connection_file import ConnectionInfo
    from enginery.net.curve import KeyPair

#: How long a closing socket may go on delivering what was sent, in milliseconds.
LINGER: Final = 1000
#: First and longest pause between attempts to reconnect, in milliseconds.
RECONNECT: Final = 50
RECONNECT_MAX: Final = 2000
#: What libzmq tells when a connection ended, and what that means.
_ENDS: Final = {
    int(zmq.EVENT_DISCONNECTED): "the connection was closed by the other side",
    int(zmq.EVENT_HANDSHAKE_FAILED_AUTH): "the controller does not accept the keys of this connection file",
    int(zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL): "whoever listens there has other keys, or speaks another protocol",
    int(zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL): "the connection ended before it was set up",
}
#: Messages of one peer that are taken in and have not been read yet; beyond that tcp makes it wait.
UNREAD: Final = 1000
#: Ends that say nothing about the keys: through a tunnel, the way to a controller that is not there yet ends like this.
_TRANSIENT: Final = frozenset({int(zmq.EVENT_DISCONNECTED), int(zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL)})
_GREETED: Final = int(zmq.EVENT_HANDSHAKE_SUCCEEDED)
#: Messages taken from one ROUTER in one turn, so that no peer keeps the loop from the others.
TURN: Final = 200

#: How long the last log lines may take to leave, in milliseconds.
LAST_LINES: Final = 200
Context = zmq.Context[zmq.Socket[bytes]]
Socket = zmq.Socket[bytes]


class RoutedChannel:
    """A DEALER as a channel.

    libzmq's descriptor tells of changes, not of states: after any use, the socket has to be read until it is empty.
    After a break libzmq would reconnect in silence, as somebody whom the controller does not know. So its monitor is
    heard as well, and the first end of the connection is the end of the channel.

    Through a tunnel, whose local end always answers, a controller that is not up yet looks like one that hangs up. There
    only a connection that was set up can end.
    """

    wants_write = False  # libzmq queues without limit; what may pile up is bounded by the minds above

    def __init__(self, info: ConnectionInfo, url: str, *, explain: Callable[[str], str] | None = None) -> None:
        """Dial ``url``. Connecting goes on in the background.

        ``explain``: given for a tunnel's local end; says more of how the connection ended.
        """
        self._explain = explain
        self._is_greeted = explain is None
        # A context of its own: waiting for its last words must not wait for other connections of the process.
        self._context: Context = zmq.Context()
        try:
            self._dial(info, url)
        except BaseException:
            self._context.destroy(0)
            raise

    def _dial(self, info: ConnectionInfo, url: str) -> None:
        socket = self._socket = self._context.socket(zmq.DEALER)
        _prepare(socket)
        if info.server_key:
            socket.curve_serverkey = info.server_key.encode()
            socket.curve_publickey = info.public_key.encode()
            socket.curve_secretkey = info.secret_key.encode()
        monitor = self._monitor = socket.get_monitor_socket(sum(_ENDS) + (0 if self._is_greeted else _GREETED))
        socket.connect(url)
        self._readable = [(socket, zmq.POLLIN)]
        self._ended = [(monitor, zmq.POLLIN)]
        self._fd = socket.FD
        if hasattr(select, "epoll"):
            self._both = select.epoll(2)
            self._both.register(self._fd, select.EPOLLIN)
            self._both.register(monitor.FD, select.EPOLLIN)
            self._fd = self._both.fileno()

    def fileno(self) -> int:
        """See ``Channel``."""
        return self._fd

    def send(self, header: bytes, frames: Sequence[object]) -> None:
        """See ``Channel``. Raises ChannelClosed where libzmq would wait: once a handshake has failed, nothing can leave."""
        try:
            _send(self._socket, header, frames, zmq.NOBLOCK)
        except zmq.Again:
            raise ChannelClosed(self._end() or _ENDS[int(zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL)]) from None

    def write(self) -> None:
        """See ``Channel``: nothing ever waits here."""

    def receive(self) -> Iterator[tuple[object, list[memoryview]]]:
        """See ``Channel``."""
        # zmq_poll costs 2 µs, reading the option EVENTS 6 and an empty recv 5.
        while zmq.zmq_poll(self._readable, 0):
            header, frames = _receive(self._socket)
            yield header, [frame.buffer for frame in frames]
        if why := self._end():
            raise ChannelClosed(why)

    def _end(self) -> str:
        """How the connection ended; empty if it has not."""
        while zmq.zmq_poll(self._ended, 0):
            event = int.from_bytes(self._monitor.recv_multipart()[0][:2], sys.byteorder)
            if event == _GREETED:
                self._is_greeted = True
            elif self._is_greeted or event not in _TRANSIENT:
                why = _ENDS.get(event, "it ended")
                return why if self._explain is None else self._explain(why)
        return ""

    def has_unseen(self) -> bool:
        """See ``Channel``."""
        return bool(zmq.zmq_poll([*self._readable, *self._ended], 0))

    def close(self, linger: float) -> None:
        """See ``Channel``."""
        self._socket.disable_monitor()
        self._monitor.close(0)
        self._socket.close(int(linger * 1000))
        self._context.term()
        if hasattr(select, "epoll"):
            self._both.close()

    def abandon(self) -> None:
        """See ``Channel``: libzmq's threads are not there in a child, and pyzmq leaves sockets of a parent alone."""


class Router:
    """A ROUTER that listens. Belongs to the thread that made it."""

    def __init__(
        self,
        context: Context,
        url: str,
        *,
        domain: str,
        keys: KeyPair | None,
        secret_of: Callable[[str], str | None] | None = None,
        most: int = -1,
    ) -> None:
        """Listen at ``url``; ``:*`` takes any free port.

        Peers have to encrypt if there are ``keys``, else to sign if ``secret_of`` gives the secret of a key by its name.
        ``most`` bytes are taken as one frame; who announces more is cut off by libzmq.

        Raises OSError with the endpoint in its text if that is not possible.
        """
        socket = context.socket(zmq.ROUTER)
        _prepare(socket)
        socket.maxmsgsize = most
        socket.rcvhwm = UNREAD  # then the sender has to wait
        socket.router_mandatory = True  # a peer that is gone shall be an error, not a hole
        if keys is not None:
            socket.curve_server = True
            socket.curve_secretkey = keys.secret.encode()
            socket.curve_publickey = keys.public.encode()
            socket.zap_domain = domain.encode()
        self.doorway = Doorway(socket.get_monitor_socket(EVENTS))
        self._notary = Notary(self, secret_of) if secret_of is not None and keys is None else None
        #: called with a peer that did not sign what it said as it should have, and why; it is cut off
        self.on_forged: Callable[[bytes, str], None] = lambda _identity, _why: None
        try:
            socket.bind(url)
        except zmq.ZMQError as error:
            self.doorway.close()
            socket.close()
            msg = f"Cannot listen on {url}: {error.strerror}. Choose another port or address, or stop who uses it."
            raise OSError(error.errno, msg) from error
        #: the endpoint it got
        self.url = bytes(socket.getsockopt(zmq.LAST_ENDPOINT)).rstrip(b"\0").decode()
        self._socket = socket
        self._readable = [(socket, zmq.POLLIN)]

    def fileno(self) -> int:
        """The descriptor that tells of changes; ``receive`` until there is nothing more."""
        return self._socket.FD

    def receive(self) -> Iterator[tuple[bytes, object, list[object]]]:
        """What waits, up to one turn's worth: who sent it, the header, the frames."""
        for _ in range(TURN):
            if not zmq.zmq_poll(self._readable, 0):
                return
            identity = self._socket.recv()
            header, frames = _receive(self._socket)  # a ROUTER always gives a part after the identity
            if self._notary is None:
                yield identity, header, [*frames]
            elif (opened := self._opened(identity, header, frames)) is not None:
                yield identity, opened, [*frames]

    def _opened(self, identity: bytes, header: zmq.Frame, frames: list[zmq.Frame]) -> memoryview | None:
        """The header of a signed message; None if it was not meant for those above, or is forged."""
        assert self._notary is not None
        if not self._notary.key_of(identity):
            self.doorway.spoke(int(header.get(zmq.SRCFD)), identity, monotonic())
        try:
            return self._notary.open(identity, header.buffer, [frame.buffer for frame in frames])
        except Forged as error:
            self.cut(identity, self.doorway.whose(identity))
            self.on_forged(identity, str(error))
            return None

    def origin(self, identity: bytes, header: object) -> tuple[int, str]:
        """By which descriptor the first message of a peer came, and the name of the key it has; to be asked once."""
        if self._notary is not None:
            return self.doorway.whose(identity), self._notary.key_of(identity)
        assert isinstance(header, zmq.Frame)
        fd = int(header.get(zmq.SRCFD))
        self.doorway.spoke(fd, identity, monotonic())
        try:
            return fd, str(header.get("User-Id"))
        except zmq.ZMQError:  # nobody has asked for one
            return fd, ""

    def cut(self, identity: bytes, fd: int) -> None:
        """End the connection of a peer."""
        if self._notary is not None:
            self._notary.forget(identity)
        self.doorway.cut_known(fd, identity, monotonic())

    def send(self, identity: bytes, header: bytes, frames: Sequence[object]) -> bool:
        """Send a message. False if the peer is gone."""
        if self._notary is not None:
            header = self._notary.sign(identity, header, frames)
        try:
            self._socket.send(identity, zmq.SNDMORE | zmq.NOBLOCK)
        except zmq.ZMQError as error:
            if error.errno in (zmq.EHOSTUNREACH, zmq.EAGAIN):
                return False
            raise
        _send(self._socket, header, frames)
        return True

    def close(self, linger: float) -> None:
        """Close; what was sent may still leave for ``linger`` seconds."""
        if not self._socket.closed:
            self._socket.disable_monitor()
            self.doorway.close()
            self._socket.close(int(linger * 1000))


def new_context() -> Context:
    """A context for sockets that belong together."""
    return zmq.Context()


def listen_for_zap(context: Context) -> Socket:
    """The socket on which libzmq asks whether a peer may connect."""
    socket = context.socket(zmq.ROUTER)
    socket.linger = 0
    socket.bind(ZAP_ENDPOINT)
    return socket


def _send(socket: Socket, header: bytes, frames: Sequence[object], flags: int = 0) -> None:
    socket.send(header, flags | zmq.SNDMORE if frames else flags)
    last = len(frames) - 1
    for at, frame in enumerate(frames):
        socket.send(frame, 0 if at == last else zmq.SNDMORE, copy=False)  # type: ignore[call-overload]  # buffers all


def _receive(socket: Socket) -> tuple[zmq.Frame, list[zmq.Frame]]:
    """One message. Frames know of their successors for 1 µs; asking the socket costs 5."""
    header = socket.recv(copy=False)
    frames: list[zmq.Frame] = []
    more = header.more
    while more:
        frame = socket.recv(copy=False)
        frames.append(frame)
        more = frame.more
    return header, frames


def _prepare(socket: Socket) -> None:
    socket.linger = LINGER
    # No limit here: a limit of zmq's blocks or drops silently. What may pile up is bounded by the minds above.
    socket.sndhwm = socket.rcvhwm = 0
    socket.reconnect_ivl = RECONNECT
    socket.reconnect_ivl_max = RECONNECT_MAX
    # A peer whose host vanished without a word is noticed by zmq's own heartbeat, even while Python is busy: within a lease.
    # Not by tcp's keepalive, which sleeps while data are under way, nor by its user timeout, which ends whoever is slow to read.
    socket.heartbeat_ivl = 10_000
    socket.heartbeat_timeout = 45_000


class Feed:
    """Log lines on their way to a collector. Not thread-safe."""

    def __init__(self, url: str, patience: int) -> None:
        """Dial ``url`` and wait up to ``patience`` milliseconds for somebody there to subscribe."""
        self._context: Context = zmq.Context()
        self._socket = self._context.socket(zmq.XPUB)
        self._socket.linger = LAST_LINES
        self._socket.connect(url)
        # Lines sent before the other side has said what it wants would be lost.
        if self._socket.poll(patience):
            self._socket.recv()

    def send(self, topic: str, text: str) -> None:
        """Send one line; it is dropped if nobody wants it."""
        self._socket.send_multipart([topic.encode(), text.encode()])

    def close(self) -> None:
        """Let the last lines leave."""
        self._socket.close()
        self._context.term()


class Collector:
    """Listens for log lines of topics that begin with one of ``topics``. Raises OSError if it cannot."""

    def __init__(self, url: str, topics: Sequence[str]) -> None:
        self._context: Context = zmq.Context()
        self._socket = self._context.socket(zmq.SUB)
        self._socket.linger = 0
        try:
            self._socket.bind(url)
        except zmq.ZMQError as error:
            self.close()
            raise OSError(error.errno, error.strerror) from error
        for topic in topics:
            self._socket.subscribe(topic)

    def receive(self) -> tuple[str, str]:
        """Wait for the next line: its topic and its text. Signals are handled meanwhile."""
        topic, *texts = (part.decode(errors="replace") for part in self._socket.recv_multipart())
        return topic, " ".join(texts)

    def close(self) -> None:
        """Stop listening."""
        self._socket.close()
        self._context.term()
