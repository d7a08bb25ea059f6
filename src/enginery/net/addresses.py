"""Addresses: which hosts are this one, how to dial a wildcard, and where ipc sockets live."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import ipaddress
import os
import shutil
import socket
import stat
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from enginery.net.connection_file import ConnectionInfo

LOOPBACK: Final = "127.0.0.1"
#: Before the path of the local end of an ssh tunnel: a Unix socket, behind which a tcp port of another host speaks.
TUNNEL: Final = "tunnel://"
#: Addresses that mean "every interface" where they are listened on, and nothing where they are dialled.
WILDCARDS: Final = frozenset({"*", "0.0.0.0", "::", "[::]"})  # noqa: S104  # compared with, never bound here
#: Longest base folder that leaves room for our own part within the 100 bytes a socket path may have.
LONGEST_BASE: Final = 55
#: Bytes of a socket path every system accepts (macOS has 104, Linux 108, each with a closing zero).
LONGEST_SOCKET: Final = 100
PRIVATE: Final = 0o700
#: How often a folder is made anew because the one around it went away with somebody else's last.
ATTEMPTS: Final = 10


def is_wildcard(ip: str) -> bool:
    """Whether ``ip`` means all interfaces."""
    return ip in WILDCARDS


def is_loopback(host: str) -> bool:
    """Whether ``host`` names this machine to itself only: localhost, 127.0.0.0/8 or ::1."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


@functools.cache
def local_addresses() -> frozenset[str]:
    """Every IP address of this host's interfaces (asked once per process)."""
    import psutil  # 15 ms that only clusters across hosts need to pay

    families = (socket.AF_INET, socket.AF_INET6)
    return frozenset(
        # Link-local IPv6 addresses come with their interface: fe80::1%eth0.
        each.address.partition("%")[0]
        for interface in psutil.net_if_addrs().values()
        for each in interface
        if each.family in families
    )


@functools.cache
def host_names() -> frozenset[str]:
    """The names this host goes by, without asking a name server."""
    name = socket.gethostname()
    return frozenset({name, name.partition(".")[0], "localhost"})


def is_local(host: str) -> bool:
    """Whether ``host`` (a name or an address) is this host. Unknown names are not; no error is raised."""
    if not host or host in host_names() or is_loopback(host):
        return True
    try:
        found = {str(each[4][0]).partition("%")[0] for each in socket.getaddrinfo(host, None)}
    except OSError:
        return False
    return any(is_loopback(each) for each in found) or not found.isdisjoint(local_addresses())


def default_location() -> str:
    """What a connection file names as its controller's host unless told otherwise."""
    return socket.gethostname()


def reachable_location() -> str:
    """The name of this host if that leads others here, else the address it has towards other networks.

    Where a host's own name means loopback to itself, it means nothing or something else to others.
    """
    name = socket.gethostname()
    try:
        found = {str(each[4][0]) for each in socket.getaddrinfo(name, None)}
    except OSError:
        found = set()
    if found and not any(is_loopback(each) for each in found):
        return name
    return outward_address() or name


def outward_address(target: str = "192.0.2.1") -> str:
    """The address of this host on its way to ``target`` (by default to any far away one); empty if there is no way."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as way:
        try:
            way.connect((target, 9))  # of a datagram socket: nothing is sent
        except OSError:
            return ""
        return str(way.getsockname()[0])


def split_tcp(url: str) -> tuple[str, int]:
    """Host and port of ``tcp://host:port``. Raises ValueError for anything else."""
    scheme, _, rest = url.partition("://")
    host, _, port = rest.rpartition(":")
    if scheme != "tcp" or not host or not port.isdigit():
        msg = f"{url!r} is no tcp endpoint; expected tcp://host:port"
        raise ValueError(msg)
    return host, int(port)


def disambiguate_ip(ip: str, location: str = "") -> str:
    """The address to dial for a controller that listens on ``ip`` and lives at ``location``.

    Only a wildcard needs the location. On the controller's own host that is loopback, elsewhere the location itself.
    """
    if not is_wildcard(ip):
        return ip
    return LOOPBACK if is_local(location) else location


def disambiguate_url(url: str, location: str = "") -> str:
    """``url`` with a wildcard host replaced by one that can be dialled from here."""
    if not url.startswith("tcp://"):
        return url
    host, port = split_tcp(url)
    return f"tcp://{disambiguate_ip(host, location)}:{port}"


def endpoints_to_try(info: ConnectionInfo) -> list[str]:
    """The endpoints of ``info`` that can work from this host, best first.

    An ipc endpoint comes first where its socket exists. Where it does not, the controller is on another host or not
    up yet: then tcp comes first, and ipc remains only for a controller said to be on this host. The local end of a tunnel
    stands alone: whoever made it has decided.
    """
    urls = info.urls or (info.url,)
    if urls[0].startswith(TUNNEL):
        return [urls[0]]
    here = [url for url in urls if not url.startswith("tcp://") and socket_exists(url)]
    tcp = [disambiguate_url(url, info.location) for url in urls if url.startswith("tcp://")]
    absent = [url for url in urls if not url.startswith("tcp://") and url not in here]
    if tcp and not is_local(info.location):
        absent = []
    return [*here, *tcp, *absent]


def quoted(info: ConnectionInfo) -> str:
    """The endpoint that is dialled for ``info`` from this host, for people."""
    best = endpoints_to_try(info)[0]
    return f"{info.url} through ssh server {info.ssh}" if best.startswith(TUNNEL) else best


def socket_exists(url: str) -> bool:
    """Whether the socket of an ipc endpoint is there (abstract and inproc ones count as there)."""
    scheme, _, path = url.partition("://")
    return scheme != "ipc" or path.startswith("@") or Path(path).exists()


def loopback_mismatch(info: ConnectionInfo) -> str:
    """A sentence if the controller listens on loopback only and seems to be on another host; else an empty string."""
    if info.ssh or is_local(info.location):
        return ""
    urls = info.urls or (info.url,)
    tcp = [url for url in urls if url.startswith("tcp://")]
    if any(not is_loopback(split_tcp(url)[0]) for url in tcp):
        return ""
    return (
        f"The controller on {info.location!r} listens on loopback only and this is {socket.gethostname()!r}. "
        f"Start it with --ip='*' (or --ip=<address of {info.location}>), or pass sshserver={info.location!r}."
    )


# --- the runtime folder -------------------------------------------------------------------------------------------


def runtime_folder(cluster: str) -> Path:
    """Make the short, private folder for the sockets of ``cluster`` and return it.

    The same name gives the same folder, so a controller that comes back with its old connection files listens where
    it did. Raises PermissionError if someone else owns the place or others may enter it.
    """
    return make_private_in(runtime_base(), hashlib.blake2s(cluster.encode(), digest_size=6).hexdigest())


def runtime_base() -> Path:
    """The folder that holds this user's runtime folders; not made yet."""
    given = os.environ.get("XDG_RUNTIME_DIR", "")
    if given and len(given) <= LONGEST_BASE and os.access(given, os.W_OK | os.X_OK):
        return Path(given) / "enginery"
    temporary = tempfile.gettempdir()
    if len(temporary) > LONGEST_BASE and sys.platform != "win32":
        temporary = "/tmp"  # noqa: S108  # our folder in it is private and checked for its owner
    return Path(temporary) / (f"enginery-{os.getuid()}" if sys.platform != "win32" else "enginery")


def segments_base() -> Path | None:
    """The folder that holds this user's folders of shared segments; not made yet. None where there is no such place."""
    shared = Path("/dev/shm")  # noqa: S108  # our folder in it is private and checked for its owner
    return shared / f"enginery-{os.getuid()}" if sys.platform == "linux" and shared.is_dir() else None


def remove_runtime_folder(folder: Path) -> None:
    """Remove a runtime folder with its sockets; the shared base goes too when it was the last. Never raises."""
    shutil.rmtree(folder, ignore_errors=True)
    with contextlib.suppress(OSError):
        folder.parent.rmdir()


def sweep_runtime_folders() -> list[Path]:
    """Remove runtime folders of controllers that were killed: their sockets refuse connections. Returns them."""
    folders = [path for path in list_folder(runtime_base()) if path.is_dir()]
    # A folder without sockets may belong to a controller that is about to listen.
    dead = [path for path in folders if (sockets := _sockets(path)) and not any(map(is_served, sockets))]
    for folder in dead:
        remove_runtime_folder(folder)
    return dead


def _sockets(folder: Path) -> list[Path]:
    return [path for path in list_folder(folder) if path.is_socket()]


def list_folder(folder: Path) -> list[Path]:
    """What is in a folder that somebody else may remove at any time; nothing if it is gone."""
    try:
        return list(folder.iterdir())
    except FileNotFoundError:
        return []


def is_served(path: Path) -> bool:
    """Whether somebody listens at a Unix socket; doubtful cases count as yes."""
    with socket.socket(socket.AF_UNIX) as probe:
        probe.settimeout(1.0)
        try:
            probe.connect(str(path))
        except (ConnectionRefusedError, FileNotFoundError):
            return False
        except OSError:
            # Whatever else is the matter, somebody may be there.
            return True
    return True


def folder_of(info: ConnectionInfo) -> Path | None:
    """The runtime folder that the ipc endpoints of ``info`` are in, if it is one of this user's on this host."""
    for url in info.urls or (info.url,):
        if url.startswith("ipc:///"):
            folder = Path(url.removeprefix("ipc://")).parent
            if folder.parent == runtime_base():
                return folder
    return None


def make_private_in(base: Path, name: str) -> Path:
    """Make a private folder in a private folder that goes with the last one in it, and return it."""
    folder = base / name
    for _ in range(ATTEMPTS - 1):
        # Whoever removed the last other folder may have taken the base away meanwhile.
        with contextlib.suppress(FileNotFoundError):
            make_private(base)
            make_private(folder)
            return folder
    make_private(base)
    make_private(folder)
    return folder


def make_private(folder: Path) -> None:
    """Make a folder that only this user may enter. Raises PermissionError if it is there and somebody else's."""
    with contextlib.suppress(FileExistsError):
        folder.mkdir(mode=PRIVATE)
    if sys.platform == "win32":
        return
    # lstat: a link planted in a folder that everybody may write to must not lead us elsewhere.
    status = folder.lstat()
    if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.getuid():
        msg = f"{str(folder)!r} is not a folder of user {os.getuid()}. Remove it, or set XDG_RUNTIME_DIR or TMPDIR."
        raise PermissionError(msg)
    if stat.S_IMODE(status.st_mode) & 0o077:
        folder.chmod(PRIVATE)
