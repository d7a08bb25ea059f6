"""What a controller leaves behind when it could not clean up itself."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from enginery.net import connection_file
from enginery.net.addresses import folder_of, remove_runtime_folder
from enginery.net.segment_folder import sweep_segment_folders

if TYPE_CHECKING:
    from collections.abc import Mapping

    from enginery.cluster.launchers.base import ControllerLauncher
    from enginery.net.connection_file import ConnectionInfo


def remove_traces(controller: ControllerLauncher, connection: Mapping[str, ConnectionInfo]) -> None:
    """Remove connection files, sockets and shared memory of a controller that is gone.

    Files of another controller stay, and so does everything that is meant to be used again (``--reuse``).
    """
    sweep_segment_folders()
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
