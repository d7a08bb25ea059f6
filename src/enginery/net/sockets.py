"""Dialling the controller, and listening on this host."""

from __future__ import annotations

import errno
import os
import socket as sockets
import time
from typing import TYPE_CHECKING, Final

from enginery.net.addresses import LONGEST_SOCKET, TUNNEL, endpoints_to_try, is_served, split_tcp
from enginery.net.reach import explain
from enginery.net.stream import Stream

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from enginery.net.channel import Channel
    from enginery.net.connection_file import ConnectionInfo

#: First and longest pause between attempts to connect on this host, in seconds.
FIRST_PAUSE: Final = 0.02
LONGEST_PAUSE: Final = 1.0
#: When it is told for the first time why nobody is reached, in seconds; then after twice as long, and so on.
FIRST_WORD: Final = 5.0
#: Peers that may knock at once, as a thousand engines that start together do.
BACKLOG: Final = 1024
#: How long a host may take to say whether somebody listens there, in seconds.
PROBE: Final = 2.0


def dial(info: ConnectionInfo) -> Channel:
    """A channel to the best endpoint of ``info`` for this host.

    On this host that is a Unix socket, which is connected at once or not at all: raises OSError if nobody listens.
    Connecting to another host goes on in the background.
    """
    url = endpoints_to_try(info)[0]
    if url.startswith("ipc://"):
        return Stream(_connected(url.removeprefix("ipc://")))
    from enginery.net.routed import RoutedChannel  # libzmq: only who leaves this host pays for it
    from enginery.net.signed import SignedChannel  # likewise

    if url.startswith(TUNNEL):
        from enginery.net.tunnel import why_ended  # with all it takes to start programs

        path = url.removeprefix(TUNNEL)
        channel = RoutedChannel(info, f"ipc://{path}", explain=lambda why: why_ended(path, info.ssh, why))
    else:
        channel = RoutedChannel(info, url)
    if not info.exec_key or info.server_key:
        return channel
    try:
        return SignedChannel(channel, info.exec_key)
    except BaseException:  # it has hung up already
        channel.close(0.0)
        raise


def key_for(info: ConnectionInfo, channel: Channel) -> str:
    """What a hello has to show as its key. On the way to another host the connection itself shows it."""
    return info.exec_key if isinstance(channel, Stream) else ""


def redial(info: ConnectionInfo) -> Channel:
    """As ``dial``, and raises OSError at once too if nobody listens on another host, or the way there is cut."""
    url = endpoints_to_try(info)[0]
    if url.startswith("tcp://") and not info.ssh:
        # libzmq would try for ever, and not say that it is in vain.
        sockets.create_connection(split_tcp(url), timeout=PROBE).close()
    return dial(info)


def is_deserted(error: OSError) -> bool:
    """Whether dialling has failed because nobody listens there any more, as opposed to a network that is cut."""
    return isinstance(error, (ConnectionRefusedError, FileNotFoundError))


def dial_patiently(info: ConnectionInfo, patience: float, tell: Callable[[str], object] | None = None) -> Channel:
    """As ``dial``, but try again for ``patience`` seconds while nobody listens: engines may come before a controller.

    ``tell`` is told from time to time why it does not work. Raises OSError when the time is over.
    """
    began = time.monotonic()
    deadline, word = began + patience, began + FIRST_WORD
    pause = FIRST_PAUSE
    while True:
        try:
            return dial(info)
        except OSError:
            left = deadline - time.monotonic()
            if left <= 0:
                raise
            if tell is not None and time.monotonic() >= word:
                word += 2 * (word - began)
                tell(explain(info))
            time.sleep(min(pause, left))  # nothing tells of a socket that will be made some day
            pause = min(2 * pause, LONGEST_PAUSE)


def listen_on_path(path: Path) -> sockets.socket:
    """A Unix socket that listens at ``path``, for peers of this user on this host.

    Raises OSError with the path in its text if that is not possible.
    """
    if len(os.fsencode(path)) > LONGEST_SOCKET:
        msg = f"The socket path {str(path)!r} is longer than {LONGEST_SOCKET} bytes. Set XDG_RUNTIME_DIR to a shorter one."
        raise OSError(msg)
    if path.exists() and is_served(path):
        msg = f"A controller listens at {str(path)!r} already. Stop it first, or choose another --cluster-id."
        raise OSError(errno.EADDRINUSE, msg)
    path.unlink(missing_ok=True)  # left by a controller that was killed
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


def _connected(path: str) -> sockets.socket:
    socket = sockets.socket(sockets.AF_UNIX, sockets.SOCK_STREAM)
    try:
        socket.connect(path)
    except OSError:
        socket.close()
        raise
    return socket
