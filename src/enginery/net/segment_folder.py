"""The folders that a cluster's segments of shared memory live in: made, held and removed by those who use them.

A folder is in use as long as somebody, or a process that has inherited the descriptor, holds the lock on its file
``lock``. The kernel drops locks with their processes, so a folder whose lock can be had is of the dead.

Rules of the room:

1. The folder of a controller is its own: its name is new, its lock exclusive. A folder that several share has a name they
   all come to, and a shared lock each; whoever leaves and gets the lock for itself was the last one, and removes it.
2. A name that is used again may mean another folder by now. So a lock counts only on the file that still has the name.
3. What appears under a shared name is complete and locked, by one renaming. What is taken away keeps its lock until it is
   empty: who comes meanwhile waits, and should this be interrupted, somebody else goes on with it.
4. The lock file holds a word that nobody can guess: who reads the same one sees the same memory, whatever hosts and
   containers there are.
"""

from __future__ import annotations

import contextlib
import logging
import os
import secrets
import shutil
import stat
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final

from enginery.net.addresses import list_folder, make_private, segments_base

if sys.platform == "linux":
    import fcntl

if TYPE_CHECKING:
    from collections.abc import Callable

log = logging.getLogger("enginery.net")

LOCK: Final = "lock"
#: Where there is less than this, others need it more: containers often have 64 MiB.
LEAST: Final = 128 << 20
#: How often a folder is made anew because somebody swept it away before it was locked.
ATTEMPTS: Final = 10
#: Seconds to wait before the second attempt, and more before each that follows, for somebody who takes a folder away.
PAUSE: Final = 0.02
#: Characters of the word in a lock file.
WORD: Final = 32


class SegmentFolder:
    """A folder for segments, and the lock that says it is in use."""

    def __init__(self, path: Path, lock: int) -> None:
        """Use ``make_segment_folder`` or ``share_segment_folder``."""
        self.path = path
        self._lock = lock

    def __repr__(self) -> str:
        return f"<SegmentFolder {self.path}>"

    def remove(self) -> None:
        """Remove the folder with everything in it; mappings of its files stay good. Never raises."""
        shutil.rmtree(self.path, ignore_errors=True)
        _remove_empty(self.path)
        self._close()

    def leave(self) -> None:
        """Let go of a folder that others may share, and remove it if nobody does. Never raises.

        Forked processes have the lock in common: the first of them to leave does so for all, and each of them may call this.
        """
        if self._lock >= 0:
            with contextlib.suppress(OSError):
                fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                _take_away(self.path, self._lock)
            _remove_empty(self.path)
        self._close()

    def _close(self) -> None:
        lock, self._lock = self._lock, -1
        if lock >= 0:
            os.close(lock)


def make_segment_folder() -> SegmentFolder | None:
    """A new private folder in shared memory; None where there is no such thing, or too little of it."""
    return _try_to(lambda base: _make(base / secrets.token_hex(6), fcntl.LOCK_EX))


def share_segment_folder(name: str) -> SegmentFolder | None:
    """This user's private folder of that name in shared memory, made if it is not there; None as above.

    Whoever gets it calls its ``leave`` in the end.
    """
    return _try_to(lambda base: _join(base / name) or _found(base / name))


def word_of(folder: str) -> str:
    """What is the same for those, and only for those, who see this very folder; "" where it is not to be had."""
    try:
        return Path(folder, LOCK).read_text(encoding="ascii") if folder else ""
    except (OSError, UnicodeDecodeError):
        return ""


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


def _try_to(make: Callable[[Path], SegmentFolder | None]) -> SegmentFolder | None:
    """What ``make`` gives for the place of this user's folders, if there is one, and it is not small."""
    base = segments_base()
    if base is None or not os.access(base.parent, os.W_OK | os.X_OK):
        return None
    try:
        status = os.statvfs(base.parent)
        if status.f_blocks * status.f_frsize < LEAST:
            return None
        for attempt in range(ATTEMPTS):
            folder = make(base)
            if folder is not None:
                return folder
            time.sleep(PAUSE * attempt)  # to wait for a lock has no end where its owner is stopped
    except OSError:
        pass  # such as a base that belongs to somebody else: sockets will do
    return None


def _make(path: Path, how: int) -> SegmentFolder | None:
    """A new folder with that kind of lock; None if a sweeper was there meanwhile."""
    try:
        make_private(path.parent)
        path.mkdir(mode=0o700)
        lock = os.open(path / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except FileNotFoundError:  # swept away
        return None
    with contextlib.suppress(BlockingIOError):
        fcntl.flock(lock, how | fcntl.LOCK_NB)
        if _is_at(path, lock):
            return SegmentFolder(path, lock)
    os.close(lock)
    return None


def _join(path: Path) -> SegmentFolder | None:
    """The folder that is there, with a lock beside those of others; None if there is none or it is being taken away."""
    try:
        make_private(path.parent)
        lock = os.open(path / LOCK, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
    except FileNotFoundError:
        return None
    with contextlib.suppress(BlockingIOError):
        fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
        if _is_at(path, lock):
            return SegmentFolder(path, lock)
    os.close(lock)
    return None


def _found(path: Path) -> SegmentFolder | None:
    """A new folder under a name that others may come to at this moment; None if one of them was first."""
    folder = _make(path.with_name(secrets.token_hex(6)), fcntl.LOCK_SH)
    if folder is None:
        return None
    try:
        (folder.path / LOCK).write_text(secrets.token_hex(WORD // 2), encoding="ascii")
        folder.path.rename(path)  # fails where there is one with anything in it
    except OSError:
        folder.remove()
        return None
    folder.path = path
    return folder


def _is_at(path: Path, lock: int) -> bool:
    try:
        return os.path.samestat(os.fstat(lock), (path / LOCK).stat())
    except OSError:
        return False


def _take_away(path: Path, lock: int) -> bool:
    """Remove a folder whose lock is had exclusively, unless another one has its name by now."""
    if not _is_at(path, lock):
        return False
    for each in path.iterdir():
        if each.name != LOCK:
            each.unlink(missing_ok=True)
    SegmentFolder(path, -1).remove()
    return True


def _remove_empty(path: Path) -> None:
    """Remove a folder, and the one it is in, if that is all that is left; one in use has a lock in it."""
    for folder in (path, path.parent):
        with contextlib.suppress(OSError):
            folder.rmdir()


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
        return _take_away(path, lock)
    except OSError:
        return False
    finally:
        os.close(lock)
