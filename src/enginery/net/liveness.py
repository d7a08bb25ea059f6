"""Whether a process, or the controller that wrote a connection file, is still there."""

from __future__ import annotations

import socket
from pathlib import Path
from typing import TYPE_CHECKING, Final

from enginery.net.addresses import endpoints_to_try, is_local, is_served, split_tcp

if TYPE_CHECKING:
    from enginery.net.connection_file import ConnectionInfo

#: How long a controller on another host may take to accept a connection, in seconds.
KNOCK: Final = 1.0


def is_alive(pid: int) -> bool:
    """Whether there is a process with this id that still runs: one that only waits to be reaped does not."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()[0]
    except OSError:
        return not Path("/proc/self/stat").exists() and _is_alive_elsewhere(pid)
    return state not in "ZX"


def is_controller_there(info: ConnectionInfo) -> bool:
    """Whether the controller that ``info`` tells of is there: on its own host its process runs; and somebody listens.

    Takes ``KNOCK`` seconds at most for each endpoint on another host. One that can be reached through an ssh server
    only is not seen from elsewhere.
    """
    if info.pid and is_local(info.location) and not is_alive(info.pid):
        return False
    return any(map(_answers, endpoints_to_try(info)))


def is_controller_gone(info: ConnectionInfo) -> bool:
    """Whether the controller that ``info`` tells of is gone for certain, which only its own host can tell."""
    return bool(info.pid) and is_local(info.location) and not is_controller_there(info)


def _answers(url: str) -> bool:
    if url.startswith("ipc://"):
        return is_served(Path(url.removeprefix("ipc://")))
    try:
        host, port = split_tcp(url)
        socket.create_connection((host.strip("[]"), port), timeout=KNOCK).close()
    except (OSError, ValueError):
        return False
    return True


def _is_alive_elsewhere(pid: int) -> bool:
    # Only systems without /proc pay for this import.
    import psutil

    try:
        return bool(psutil.Process(pid).status() != psutil.STATUS_ZOMBIE)
    except psutil.Error:
        return False
