"""What a controller leaves behind when it could not clean up itself."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from enginery.net import connection_file, profile_paths
from enginery.net.addresses import folder_of, is_served, remove_runtime_folder
from enginery.net.segment_folder import sweep_segment_folders
from enginery.net.start_lock import remove_abandoned, start_lock_path

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

    from enginery.cluster.launchers.base import ControllerLauncher
    from enginery.net.connection_file import ConnectionInfo


def remove_dead_traces(files: Iterable[Path]) -> None:
    """The same by the connection files themselves, of a controller that nobody here has started: if it is gone."""
    for path in files:
        try:
            info = connection_file.load(path)
        except (OSError, ValueError):
            continue
        folder = folder_of(info)
        # Of one that listens for other hosts only, nobody can tell from its file.
        if folder is None or any(map(is_served, folder.glob("*"))):
            continue
        path.unlink(missing_ok=True)
        remove_runtime_folder(folder)
    sweep_segment_folders()


def remove_traces(controller: ControllerLauncher, connection: Mapping[str, ConnectionInfo]) -> None:
    """Remove connection files, sockets and shared memory of a controller that is gone.

    Files of another controller stay, and so does everything that is meant to be used again (``--reuse``).
    """
    sweep_segment_folders()
    remove_abandoned(start_lock_path(controller.connection_files["client"]))
    if any(info.reuse for info in connection.values()):
        return
    gone = {info.pid for info in connection.values()}
    for path in controller.connection_files.values():
        with contextlib.suppress(OSError, ValueError):
            if connection_file.load(path).pid in gone:
                path.unlink()
    for info in connection.values():
        if (folder := folder_of(info)) is not None:
            remove_runtime_folder(folder)


def durable_files(profile_dir: Path, cluster_id: str) -> list[Path]:
    """What a durable controller leaves, to go on where it was stopped."""
    return [
        profile_paths.connection_path(profile_dir, "client", cluster_id),
        profile_paths.connection_path(profile_dir, "engine", cluster_id),
        profile_paths.keys_path(profile_dir, cluster_id),
        profile_paths.logbook_path(profile_dir, cluster_id),
    ]
