"""How a client finds its controller: connection info from a file, a mapping, or a profile."""

from __future__ import annotations

import errno
import sys
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from enginery.errors import ConnectionFileError
from enginery.net import connection_file
from enginery.net.connection_file import ConnectionInfo
from enginery.net.profile_paths import find_connection_file, wait_for_file
from enginery.net.ssh_server import check_arguments, server_for

if TYPE_CHECKING:
    from enginery.net.tunnel import Tunnel

#: A file that appears within this time is not worth a message, in seconds.
SILENCE = 0.5


def find_connection(
    connection_info: Any,
    *,
    profile: str | None,
    profile_dir: str | Path | None,
    ipython_dir: str | Path | None,
    cluster_id: str | None,
    timeout: float,
) -> tuple[ConnectionInfo, str]:
    """Connection info, and where it came from.

    A file that is named must be there. One that is looked up in a profile may still be on its way: it is waited for.

    Raises:
        FileNotFoundError: There is no such file, or it did not come within ``timeout`` seconds.
        ConnectionFileError: It is damaged, or meant for engines.
        ValueError: A bare URL was given, which lacks the keys.
    """
    if isinstance(connection_info, ConnectionInfo):
        return _checked(connection_info, "the connection info"), "the connection info"
    if isinstance(connection_info, Mapping):
        return _checked(
            connection_file.load(connection_info, kind="client"), "the connection info"
        ), "the connection info"
    if isinstance(connection_info, str) and "://" in connection_info:
        raise ValueError(
            f"{connection_info!r} is a URL, which does not hold the keys to connect. Pass the path of the controller's "
            f"connection file (…/security/ipcontroller-client.json), or the mapping it contains."
        )
    if connection_info is not None:
        path = Path(connection_info).expanduser()
        if not path.exists():
            raise FileNotFoundError(errno.ENOENT, "No such connection file", str(path))
        return _read(path)
    path = find_connection_file(
        "client", profile=profile, profile_dir=profile_dir, ipython_dir=ipython_dir, cluster_id=cluster_id
    )
    _await_file(path, timeout)
    return _read(path)


def _await_file(path: Path, timeout: float) -> None:
    deadline = time.monotonic() + timeout
    if wait_for_file(path, min(SILENCE, timeout)):
        return
    sys.stderr.write(f"Waiting for connection file: {path}\n")
    if not wait_for_file(path, max(0.0, deadline - time.monotonic())):
        raise FileNotFoundError(
            errno.ENOENT,
            f"No connection file came within {timeout:g} s, so no cluster seems to run in this profile. Start one with "
            f"`ipcluster start`, or name its profile= or cluster_id=",
            str(path),
        )


def _read(path: Path) -> tuple[ConnectionInfo, str]:
    source = f"connection file {str(path)!r}"
    return _checked(connection_file.load(path, kind="client"), source), source


def _checked(info: ConnectionInfo, source: str) -> ConnectionInfo:
    if info.kind != "client":
        raise ConnectionFileError(
            f"{source} is for engines and opens the engines' port only. Use the one that is named …-client.json."
        )
    return connection_file.with_keys(info, connection_file.keys_in_environment())


def reach(
    info: ConnectionInfo,
    *,
    sshserver: str | None,
    sshkey: str | Path | None,
    password: str | None,
    paramiko: bool | None,
    timeout: float,
) -> tuple[ConnectionInfo, Tunnel | None]:
    """What to dial from this host, and the tunnel it leads through, if it takes one: hold it as long as it is used.

    A server that is named is used in any case, the one in the connection file where the controller is on another host.

    Raises:
        ValueError: The server is none, or OpenSSH's client cannot do what is asked for.
        TunnelError: The tunnel does not come up within ``timeout`` seconds.
    """
    if not (sshserver or info.ssh or password or paramiko):
        return info, None
    check_arguments(password, paramiko)
    server = sshserver or server_for(info)
    if not server:
        return replace(info, ssh=""), None
    from enginery.net.tunnel import through  # with all it takes to start programs; few clients need it

    return through(info, server, key=sshkey or "", timeout=timeout)
