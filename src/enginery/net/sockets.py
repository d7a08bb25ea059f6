"""The only place that makes zmq sockets, and where all others are dialled and listened on."""

from __future__ import annotations

import os
import socket as sockets
import time
from typing import TYPE_CHECKING, Final

import zmq

from enginery.net.addresses import LONGEST_SOCKET, endpoints_to_try
from enginery.net.channel import ZmqChannel
from enginery.net.curve import ZAP_ENDPOINT
from enginery.net.stream import Stream

if TYPE_CHECKING:
    from pathlib import Path

    from enginery.net.channel import Channel
    from enginery.net.connection_file import ConnectionInfo
    from enginery.net.curve import KeyPair

#: How long a closing socket may go on delivering what was sent, in milliseconds.
LINGER: Final = 1000
#: First and longest pause between attempts to connect on this host, in seconds.
FIRST_PAUSE: Final = 0.02
LONGEST_PAUSE: Final = 1.0
#: Peers that may knock at once, as a thousand engines that start together do.
BACKLOG: Final = 1024
#: First and longest pause between attempts to reconnect, in milliseconds.
RECONNECT: Final = 50
RECONNECT_MAX: Final = 2000

Context = zmq.Context[zmq.Socket[bytes]]
Socket = zmq.Socket[bytes]

_contexts: dict[int, Context] = {}


def context() -> Context:
    """The context of this process, made on first use; a forked child gets its own."""
    pid = os.getpid()
    made = _contexts.get(pid)
    if made is None or made.closed:
        _contexts.clear()  # a parent's context is of no use here, and must not be terminated from a child
        made = _contexts[pid] = zmq.Context()
    return made


def dial(info: ConnectionInfo) -> Channel:
    """A channel to the best endpoint of ``info`` for this host.

    On this host that is a Unix socket, which is connected at once or not at all: raises OSError if nobody listens.
    Connecting to another host goes on in the background.
    """
    url = endpoints_to_try(info)[0]
    if url.startswith("ipc://"):
        return Stream(_connected(url.removeprefix("ipc://")))
    socket = context().socket(zmq.DEALER)
    _prepare(socket)
    if url.startswith("tcp://") and info.server_key:
        socket.curve_serverkey = info.server_key.encode()
        socket.curve_publickey = info.public_key.encode()
        socket.curve_secretkey = info.secret_key.encode()
    socket.connect(url)
    return ZmqChannel(socket)


def dial_patiently(info: ConnectionInfo, patience: float) -> Channel:
    """As ``dial``, but try again for ``patience`` seconds while nobody listens: engines may come before a controller.

    Raises OSError when that is over.
    """
    deadline = time.monotonic() + patience
    pause = FIRST_PAUSE
    while True:
        try:
            return dial(info)
        except OSError:
            left = deadline - time.monotonic()
            if left <= 0:
                raise
            time.sleep(min(pause, left))  # nothing tells of a socket that will be made some day
            pause = min(2 * pause, LONGEST_PAUSE)


def listen(url: str, *, domain: str, keys: KeyPair | None) -> tuple[Socket, str]:
    """A ROUTER bound to the tcp endpoint ``url``, and the endpoint it got (with the port that ``:*`` became).

    Raises OSError with the endpoint in its text if it cannot be bound.
    """
    socket = context().socket(zmq.ROUTER)
    _prepare(socket)
    socket.router_mandatory = True  # a peer that is gone shall be an error, not a hole
    if keys is not None:
        socket.curve_server = True
        socket.curve_secretkey = keys.secret.encode()
        socket.curve_publickey = keys.public.encode()
        socket.zap_domain = domain.encode()
    try:
        socket.bind(url)
    except zmq.ZMQError as error:
        socket.close()
        msg = f"Cannot listen on {url}: {error.strerror}. Choose another port or address, or stop who uses it."
        raise OSError(error.errno, msg) from error
    return socket, bytes(socket.getsockopt(zmq.LAST_ENDPOINT)).rstrip(b"\0").decode()


def listen_on_path(path: Path) -> sockets.socket:
    """A Unix socket that listens at ``path``, for peers of this user on this host.

    Raises OSError with the path in its text if that is not possible.
    """
    if len(os.fsencode(path)) > LONGEST_SOCKET:
        msg = f"The socket path {str(path)!r} is longer than {LONGEST_SOCKET} bytes. Set XDG_RUNTIME_DIR to a shorter one."
        raise OSError(msg)
    path.unlink(missing_ok=True)  # left by a controller that was killed; a living one holds the folder's lock
    listener = sockets.socket(sockets.AF_UNIX, sockets.SOCK_STREAM)
    try:
        listener.bind(str(path))
        listener.listen(BACKLOG)
    except OSError as error:
        listener.close()
        msg = f"Cannot listen at {str(path)!r}: {error.strerror}."
        raise OSError(error.errno, msg) from error
    listener.setblocking(False)
    return listener


def listen_for_zap() -> Socket:
    """The socket on which libzmq asks whether a peer may connect."""
    socket = context().socket(zmq.ROUTER)
    socket.linger = 0
    socket.bind(ZAP_ENDPOINT)
    return socket


def _connected(path: str) -> sockets.socket:
    socket = sockets.socket(sockets.AF_UNIX, sockets.SOCK_STREAM)
    try:
        socket.connect(path)
    except OSError:
        socket.close()
        raise
    return socket


def _prepare(socket: Socket) -> None:
    socket.linger = LINGER
    # No limit here: a limit of zmq's blocks or drops silently. What may pile up is bounded by the minds above.
    socket.sndhwm = socket.rcvhwm = 0
    socket.reconnect_ivl = RECONNECT
    socket.reconnect_ivl_max = RECONNECT_MAX
    # A peer whose host vanished without a word is noticed by zmq's own heartbeat, even while Python is busy.
    socket.heartbeat_ivl = 10_000
    socket.heartbeat_timeout = 60_000
