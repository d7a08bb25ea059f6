"""The folder that a cluster's segments of shared memory live in: made, held and removed by its controller.

A folder is in use as long as its maker, or a process that has inherited the descriptor, holds the lock on its file
``lock``. The kernel drops locks with their processes, so a folder whose lock can be had is a dead controller's.
"""

from __future__ import annotations

import contextlib
import logging
import os
import secrets
import shutil
import stat
import sys
from pathlib import Path
from typing import Final

from enginery.net.addresses import list_folder, make_private, segments_base

if sys.platform == "linux":
    import fcntl

log = logging.getLogger("enginery.net")

LOCK: Final = "lock"
#: Where there is less than this, others need it more: containers often have 64 MiB.
LEAST: Final = 128 << 20
#: How often a folder is made anew because somebody swept it away before it was locked.
ATTEMPTS: Final = 10


class SegmentFolder:
    """A folder for segments, and the lock that says it is in use."""

    def __init__(self, path: Path, lock: int) -> None:
        """Use ``make_segment_folder``."""
        self.path = path
        self._lock = lock

    def remove(self) -> None:
        """Remove the folder with everything in it; mappings of its files stay good. Never raises."""
        shutil.rmtree(self.path, ignore_errors=True)
        with contextlib.suppress(OSError):
            self.path.parent.rmdir()
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1


def make_segment_folder() -> SegmentFolder | None:
    """A new private folder in shared memory; None where there is no such thing, or too little of it."""
    base = segments_base()
    if base is None or not os.access(base.parent, os.W_OK | os.X_OK):
        return None
    try:
        status = os.statvfs(base.parent)
        if status.f_blocks * status.f_frsize < LEAST:
            return None
        for _ in range(ATTEMPTS):
            folder = _make(base / secrets.token_hex(6))
            if folder is not None:
                return folder
    except OSError:
        pass  # such as a base that belongs to somebody else: sockets will do
    return None


def usable(folder: str) -> str:
    """The folder, if this process has it, else nothing: a container may share a cluster's sockets and not its memory."""
    if folder and not os.access(f"{folder}/{LOCK}", os.R_OK | os.W_OK):
        log.warning(
            "the cluster's shared memory (%s) is not here: large buffers take the slower way by sockets", folder
        )
        return ""
    return folder


def sweep_segment_folders() -> list[Path]:
    """Remove the folders of controllers that were killed. Returns them."""
    base = segments_base()
    if base is None:
        return []
    try:
        status = base.lstat()  # not what a link leads to that somebody else has put there
    except FileNotFoundError:
        return []
    if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.getuid():
        return []
    return [path for path in list_folder(base) if path.is_dir() and _sweep(path)]


def _make(path: Path) -> SegmentFolder | None:
    try:
        make_private(path.parent)
        path.mkdir(mode=0o700)
        lock = os.open(path / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except FileNotFoundError:  # swept away
        return None
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if (path / LOCK).stat().st_ino == os.fstat(lock).st_ino:
            return SegmentFolder(path, lock)
    except (BlockingIOError, FileNotFoundError):
        pass  # a sweeper was there between the last two lines
    os.close(lock)
    return None


def _sweep(path: Path) -> bool:
    try:
        lock = os.open(path / LOCK, os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        with contextlib.suppress(OSError):
            path.rmdir()  # empty: somebody died, or is interrupted, between making the folder and its lock
        return False
    except OSError:
        return False
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    else:
        SegmentFolder(path, -1).remove()
        return True
    finally:
        os.close(lock)
