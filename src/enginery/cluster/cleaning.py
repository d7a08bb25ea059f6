"""Removing what clusters that are gone left in their profiles. What belongs to one that runs stays."""

from __future__ import annotations

import contextlib
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from enginery.cluster.cluster import Cluster
from enginery.cluster.manager import cluster_files, cluster_key
from enginery.errors import ConnectionFileError
from enginery.net import connection_file, profile_paths
from enginery.net.addresses import sweep_runtime_folders
from enginery.net.liveness import is_alive, is_controller_there
from enginery.net.segment_folder import sweep_segment_folders
from enginery.net.start_lock import remove_abandoned

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

#: What is looked at in a profile.
CONNECTIONS: Final = "security/ipcontroller*-client.json", "security/ipcontroller*-engine.json"
LOCKS: Final = "security/ipcontroller*.json.lock"
LOGS: Final = "log/*"


def clean_cluster_files(profile_dirs: Iterable[str | Path] | None = None, log: Any = None, force: bool = False) -> None:
    """Remove cluster files, connection files and logs of the given profiles (default: all).

    Raises ValueError that names the clusters that run, after the rest was removed: their files stay. With ``force``
    these go as well, and the clusters run on.
    """
    folders = profile_paths.profile_folders() if profile_dirs is None else [Path(each) for each in profile_dirs]
    running: list[str] = []
    for folder in folders:
        kept: set[Path] = set()
        if not force:
            for name, files in _running(folder):
                running.append(name)
                kept.update(files)
        _remove(folder, kept, log)
    if sys.platform != "win32":
        sweep_runtime_folders()
        sweep_segment_folders()
    if running:
        names = ", ".join(f"cluster {name!r} runs" for name in dict.fromkeys(running))
        msg = f"Files were left where they are: {names}. Stop it first, or use force (--force)."
        raise ValueError(msg)


def _running(folder: Path) -> Iterator[tuple[str, list[Path]]]:
    """What runs in a profile: its name, and its files. A cluster and its controller are told one after the other."""
    for path in cluster_files(folder):
        # A file that was removed while we looked, or damaged, is no cluster.
        with contextlib.suppress(OSError, ValueError):
            cluster = Cluster.from_file(path, load_profile=False)
            if cluster.is_running:
                outputs = [getattr(each, "output_file", None) for each in cluster.launchers()]
                yield cluster_key(folder, cluster.cluster_id), [path, *filter(None, outputs)]
    for pattern in CONNECTIONS:
        for path in folder.glob(pattern):
            with contextlib.suppress(OSError, ConnectionFileError):
                info = connection_file.load(path)
                if is_controller_there(info):
                    yield cluster_key(folder, info.cluster_id), [path]


def _remove(folder: Path, kept: set[Path], log: Any) -> None:
    for path in folder.glob(LOCKS):
        remove_abandoned(path)
    found = [*cluster_files(folder), *(path for pattern in (*CONNECTIONS, LOGS) for path in folder.glob(pattern))]
    for path in found:
        if path in kept or not path.is_file() or (path.parent.name == "log" and _is_being_written(path)):
            continue
        if log is not None:
            log.info("Removing %s", path)
        with contextlib.suppress(OSError):
            path.unlink()


def _is_being_written(path: Path) -> bool:
    """Whether the process that a log is named after still runs."""
    pid = path.stem.rpartition("-")[2]
    return pid.isdigit() and is_alive(int(pid))
