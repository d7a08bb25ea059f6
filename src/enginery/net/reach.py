"""Why a controller cannot be reached from here, in words: which address was dialled, from which host, with which error."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING, Final

from enginery.net.addresses import TUNNEL, endpoints_to_try, loopback_mismatch, split_tcp

if TYPE_CHECKING:
    from enginery.net.connection_file import ConnectionInfo

#: How long one address may take to answer, in seconds.
PATIENCE: Final = 3.0
#: What an address does that is no help to us.
ANSWERS: Final = (
    "somebody listens there, but does not answer as a controller does. Is the connection file still that of the controller "
    "that runs?"
)


def explain(info: ConnectionInfo, patience: float = PATIENCE) -> str:
    """Dial each endpoint of ``info`` by a plain socket and say what comes of it. Takes ``patience`` seconds for each."""
    tried = "; ".join(f"{_name(url, info)}: {_try(url, patience) or ANSWERS}" for url in endpoints_to_try(info))
    return f"dialled from {socket.gethostname()!r}: {tried}"


def hopeless(info: ConnectionInfo, patience: float = PATIENCE) -> str:
    """Why dialling on cannot help, if so: the controller listens on its own host alone, and that is another one.

    Somebody may have laid a tunnel to it all the same; then an empty string comes back.
    """
    mismatch = loopback_mismatch(info)
    if not mismatch or not all(_try(url, patience) for url in endpoints_to_try(info)):
        return ""
    return f"{mismatch} ({explain(info, patience)})"


def _name(url: str, info: ConnectionInfo) -> str:
    return f"{info.url} through ssh server {info.ssh}" if url.startswith(TUNNEL) else url


def _try(url: str, patience: float) -> str:
    """What went wrong; empty if somebody listens."""
    try:
        with _connected(url, patience):
            return ""
    except socket.gaierror as error:
        host, _ = split_tcp(url)
        return f"the name {host!r} is not known here ({error.strerror})"
    except TimeoutError:
        return f"no answer within {patience:g} s: a firewall, or no route to that host"
    except OSError as error:
        return error.strerror or str(error)


def _connected(url: str, patience: float) -> socket.socket:
    if url.startswith("tcp://"):
        host, port = split_tcp(url)
        return socket.create_connection((host.strip("[]"), port), timeout=patience)
    made = socket.socket(socket.AF_UNIX)
    made.settimeout(patience)
    try:
        made.connect(url.removeprefix("ipc://").removeprefix(TUNNEL))
        # The local end of a tunnel always answers; a controller at the other one begins to speak by itself.
        if url.startswith(TUNNEL) and not made.recv(1):
            raise ConnectionRefusedError(
                "the server cannot connect to it. Is it up? Does it listen where the server reaches it?"
            )
    except OSError:
        made.close()
        raise
    return made
