"""One at a time: the lock under which a controller looks for another one, until its own connection files say that it is there.

Held by the system for as long as the process lives, so that one that is killed meanwhile leaves nothing that is in the way.
"""

from __future__ import annotations

import contextlib
import errno
import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path


class TakenError(OSError):
    """Somebody else has the lock."""


class StartLock:
    """A lock by a file, which goes when it is released."""

    def __init__(self, path: Path) -> None:
        """Take it.

        Raises:
            TakenError: Another process has it.
            OSError: The file cannot be made.
        """
        self.path = path
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._fd = self._take()

    def _take(self) -> int:
        while True:
            fd = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                is_had = _lock(fd)
                if self._is_there(fd):
                    if is_had:
                        return fd
                    raise TakenError(errno.EWOULDBLOCK, "another process has this lock", str(self.path))
            except BaseException:
                os.close(fd)
                raise
            os.close(fd)  # whoever had it has removed the file that was opened here

    def _is_there(self, fd: int) -> bool:
        try:
            return os.path.samestat(os.fstat(fd), self.path.stat())
        except FileNotFoundError:
            return False

    def release(self) -> None:
        """Let others have it. The second time it does nothing."""
        if self._fd >= 0:
            with contextlib.suppress(OSError):
                self.path.unlink()
            os.close(self._fd)
            self._fd = -1


def start_lock_path(client_file: Path) -> Path:
    """Where the lock is for the controller that will write this connection file."""
    return client_file.with_name(f"{client_file.name}.lock")


def remove_abandoned(path: Path) -> None:
    """Remove the file of a process that was killed when it had the lock. One that is held stays. Never raises."""
    if path.exists():
        with contextlib.suppress(OSError):
            StartLock(path).release()


def _lock(fd: int) -> bool:
    """Take the lock. False if somebody else has it."""
    try:
        import fcntl  # not everywhere
    except ImportError:
        return True
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        pass  # a file system without locks: then only the connection files tell
    return True
