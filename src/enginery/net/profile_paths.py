"""Where profiles and their files are: one place for the path logic of commands, clusters and clients.

A profile is the folder ``<ipython dir>/profile_<name>`` with ``security`` (connection and cluster files), ``log`` and
``pid`` in it. Several clusters share a profile by having different cluster ids.
"""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal

if TYPE_CHECKING:
    from collections.abc import Callable

PREFIX: Final = "profile_"
DEFAULT: Final = "default"
#: Folders of a profile.
FOLDERS: Final = ("security", "log", "pid")
#: How often a folder that may be on a network file system is looked at, in seconds.
GLANCE: Final = 0.05
#: Names that would lead out of the folder they are meant for.
FORBIDDEN: Final = frozenset("/\\\0")

Kind = Literal["client", "engine"]


def ipython_dir(given: str | Path = "") -> Path:
    """The folder that holds profiles: ``given``, else $IPYTHONDIR, else ~/.ipython. Not made."""
    return Path(given or os.environ.get("IPYTHONDIR", "") or "~/.ipython").expanduser().absolute()


def profile_folder(profile: str = "", profile_dir: str | Path = "", parent: str | Path = "") -> Path:
    """The folder of a profile: ``profile_dir`` if given, else ``profile_<profile>`` in the IPython folder ``parent``.

    Where neither is given, $IPP_PROFILE_DIR decides (launchers set it), then the profile ``default``.
    Raises ValueError for a profile name that holds a path separator.
    """
    if profile_dir:
        return Path(profile_dir).expanduser().absolute()
    inherited = os.environ.get("IPP_PROFILE_DIR", "")
    if inherited and not profile and not parent:
        return Path(inherited).expanduser().absolute()
    name = profile or DEFAULT
    if not FORBIDDEN.isdisjoint(name):
        msg = f"{name!r} is no profile name. To use a folder elsewhere, pass it as profile_dir (--profile-dir)."
        raise ValueError(msg)
    return ipython_dir(parent) / f"{PREFIX}{name}"


def profile_name(folder: str | Path) -> str:
    """The name of the profile in ``folder``; empty if the folder is not named like a profile."""
    name = Path(folder).name
    return name.removeprefix(PREFIX) if name.startswith(PREFIX) else ""


def profile_folders(parent: str | Path = "") -> list[Path]:
    """Every profile folder below the IPython folder ``parent``, by name."""
    return sorted(path for path in ipython_dir(parent).glob(f"{PREFIX}*") if path.is_dir())


def ensure_profile(folder: Path) -> Path:
    """Make the profile folder with its parts where they are missing, the private ones 0700. Returns ``folder``.

    Raises OSError (PermissionError, NotADirectoryError …) if it cannot be made.
    """
    for name in FOLDERS:
        part = folder / name
        if not part.is_dir():
            part.mkdir(mode=0o777 if name == "log" else 0o700, parents=True, exist_ok=True)
    return folder


def default_cluster_id() -> str:
    """What launchers tell their programs by $IPP_CLUSTER_ID; else empty."""
    return os.environ.get("IPP_CLUSTER_ID", "")


def connection_path(profile_dir: Path, kind: Kind, cluster_id: str = "") -> Path:
    """``security/ipcontroller[-<cluster id>]-<kind>.json``."""
    return profile_dir / "security" / f"ipcontroller{_suffix(cluster_id)}-{kind}.json"


def cluster_path(profile_dir: Path, cluster_id: str = "") -> Path:
    """``security/cluster-<cluster id>.json``."""
    _suffix(cluster_id)
    return profile_dir / "security" / f"cluster-{cluster_id}.json"


def keys_path(profile_dir: Path, cluster_id: str = "") -> Path:
    """``security/ipcontroller[-<cluster id>]-keys.json``: what a controller that comes back needs to be recognized."""
    return profile_dir / "security" / f"ipcontroller{_suffix(cluster_id)}-keys.json"


def logbook_path(profile_dir: Path, cluster_id: str = "") -> Path:
    """``db/logbook[-<cluster id>]``: what a durable controller remembers."""
    return profile_dir / "db" / f"logbook{_suffix(cluster_id)}"


def log_path(profile_dir: Path, program: str, *parts: str | int) -> Path:
    """``log/<program>[-<part>…].log``."""
    return profile_dir / "log" / ("-".join([program, *(str(part) for part in parts)]) + ".log")


def find_connection_file(
    kind: Kind,
    *,
    profile: str | None = None,
    profile_dir: str | Path | None = None,
    ipython_dir: str | Path | None = None,
    cluster_id: str | None = None,
) -> Path:
    """Where the connection file of a cluster belongs; whether it is there is for the caller to find out.

    ``cluster_id=None`` means $IPP_CLUSTER_ID, or the cluster without an id that ``ipcluster start`` begins.
    """
    folder = profile_folder(profile or "", profile_dir or "", ipython_dir or "")
    return connection_path(folder, kind, default_cluster_id() if cluster_id is None else cluster_id)


def wait_for_file(path: Path, timeout: float) -> bool:
    """Wait until ``path`` exists, at most ``timeout`` seconds; whether it does.

    This looks again and again: the file may arrive by scp or on a network file system, which notify nobody.
    """
    return _wait_until(path.exists, timeout)


def wait_for_change(path: Path, before: os.stat_result, timeout: float) -> bool:
    """Wait until ``path`` is another file than ``before``, at most ``timeout`` seconds; whether it is."""

    def has_changed() -> bool:
        try:
            now = path.stat()
        except OSError:
            return False  # between the old file and the new one
        return (now.st_ino, now.st_mtime_ns) != (before.st_ino, before.st_mtime_ns)

    return _wait_until(has_changed, timeout)


def _wait_until(condition: Callable[[], bool], timeout: float) -> bool:
    deadline = time.monotonic() + timeout
    while not condition():
        left = deadline - time.monotonic()
        if left <= 0:
            return False
        time.sleep(min(GLANCE, left))
    return True


def _suffix(cluster_id: str) -> str:
    if not FORBIDDEN.isdisjoint(cluster_id):
        msg = f"{cluster_id!r} is no cluster id: it becomes part of file names. Leave out the path separator."
        raise ValueError(msg)
    return f"-{cluster_id}" if cluster_id else ""
