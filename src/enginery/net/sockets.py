"""The only place that makes sockets: how they listen, dial, linger and encrypt."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Final

import zmq

from enginery.net.addresses import LONGEST_SOCKET, endpoints_to_try

if TYPE_CHECKING:
    from enginery.net.connection_file import ConnectionInfo
    from enginery.net.curve import KeyPair

#: How long a closing socket may go on delivering what was sent, in milliseconds.
LINGER: Final = 1000
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


def dial(info: ConnectionInfo) -> Socket:
    """A DEALER connected to the best endpoint of ``info`` for this host. Connecting goes on in the background."""
    socket = context().socket(zmq.DEALER)
    _prepare(socket)
    url = endpoints_to_try(info)[0]
    if url.startswith("tcp://") and info.server_key:
        socket.curve_serverkey = info.server_key.encode()
        socket.curve_publickey = info.public_key.encode()
        socket.curve_secretkey = info.secret_key.encode()
    socket.connect(url)
    return socket


def listen(url: str, *, domain: str, keys: KeyPair | None) -> tuple[Socket, str]:
    """A ROUTER bound to ``url`` and the endpoint it got (with the port that ``:0`` or ``:*`` became).

    Raises OSError with the endpoint in its text if it cannot be bound.
    """
    if url.startswith("ipc://") and len(url) - len("ipc://") > LONGEST_SOCKET:
        msg = f"The socket path {url!r} is longer than {LONGEST_SOCKET} bytes. Set XDG_RUNTIME_DIR to a shorter folder."
        raise OSError(msg)
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


def _prepare(socket: Socket) -> None:
    socket.linger = LINGER
    # No limit here: a limit of zmq's blocks or drops silently. What may pile up is bounded by the minds above.
    socket.sndhwm = socket.rcvhwm = 0
    socket.reconnect_ivl = RECONNECT
    socket.reconnect_ivl_max = RECONNECT_MAX
    # A peer whose host vanished without a word is noticed by zmq's own heartbeat, even while Python is busy.
    socket.heartbeat_ivl = 10_000
    socket.heartbeat_timeout = 60_000
