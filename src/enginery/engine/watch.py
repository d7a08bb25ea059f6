"""Notice that a process has ended: at once, by a file descriptor that becomes readable.

On Linux that is a pidfd. Elsewhere a thread of the waiting process waits and closes one end of a socket pair; a
process that does so must not fork afterwards, which is one reason why hosts on such systems start their engines as
plain processes.
"""

from __future__ import annotations

import ctypes
import functools
import os
import select
import signal
import socket
import sys
import threading
from typing import TYPE_CHECKING, Final, NamedTuple, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable

PR_SET_PDEATHSIG: Final = 1
#: ``ru_maxrss`` is in KiB on Linux and the BSDs, in bytes on macOS.
RSS_UNIT: Final = 1 if sys.platform == "darwin" else 1024


class Death(NamedTuple):
    """How a child ended: its exit code (negative for a signal) and the most memory it ever had, in bytes."""

    code: int
    peak: int = 0


class Watch(Protocol):
    """Something to select on: ``fileno()`` becomes readable when process ``pid`` has ended, and stays so."""

    pid: int

    def fileno(self) -> int:
        """The descriptor to wait for."""

    def send(self, number: int) -> None:
        """Send a signal; nothing happens if the process is gone."""

    def close(self) -> None:
        """Stop watching."""


class PidfdWatch:
    """A watch by pidfd. Raises ProcessLookupError if there is no such process, OSError where there are no pidfds."""

    __slots__ = ("_fd", "pid")

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self._fd = os.pidfd_open(pid)

    def __repr__(self) -> str:
        return f"<PidfdWatch pid={self.pid} {'ended' if has_ended(self) else 'running'}>"

    def fileno(self) -> int:
        """The descriptor to wait for."""
        return self._fd

    def send(self, number: int) -> None:
        """Send a signal to exactly this process: a later owner of the same pid is safe."""
        try:
            signal.pidfd_send_signal(self._fd, number)
        except ProcessLookupError:
            pass

    def close(self) -> None:
        """Stop watching."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


class ThreadWatch:
    """A watch by a thread that calls ``wait``, which returns when the process has ended.

    What ``wait`` returned is in ``death`` from then on.
    """

    __slots__ = ("_reader", "_writer", "death", "pid")

    def __init__(self, pid: int, wait: Callable[[], Death | None]) -> None:
        self.pid = pid
        self.death: Death | None = None
        self._reader, self._writer = socket.socketpair()
        threading.Thread(target=self._wait, args=(wait,), name=f"watch-{pid}", daemon=True).start()

    def __repr__(self) -> str:
        return f"<ThreadWatch pid={self.pid} {'ended' if has_ended(self) else 'running'}>"

    def _wait(self, wait: Callable[[], Death | None]) -> None:
        try:
            self.death = wait()
        finally:
            self._writer.close()

    def fileno(self) -> int:
        """The descriptor to wait for."""
        return self._reader.fileno()

    def send(self, number: int) -> None:
        """Send a signal, unless the process is known to have ended."""
        if not has_ended(self):
            try:
                os.kill(self.pid, number)
            except (ProcessLookupError, PermissionError):
                pass

    def close(self) -> None:
        """Stop watching. The thread, if it still waits, keeps its end until the process has ended."""
        self._reader.close()


@functools.cache
def has_pidfd() -> bool:
    """Whether this system has pidfds (Linux 5.3; some sandboxes refuse them)."""
    try:
        os.close(os.pidfd_open(os.getpid()))
    except (AttributeError, OSError):
        return False
    return True


def watch_process(pid: int) -> Watch:
    """Watch any process of this host. Raises ProcessLookupError if there is none with this pid."""
    if has_pidfd():
        return PidfdWatch(pid)
    # Loaded only where it is needed: Linux never pays for it.
    import psutil

    try:
        process = psutil.Process(pid)
    except psutil.NoSuchProcess as error:
        msg = f"there is no process {pid}"
        raise ProcessLookupError(msg) from error

    def wait() -> None:
        process.wait()

    return ThreadWatch(pid, wait)


def watch_child(pid: int, wait: Callable[[], Death | None] | None = None) -> Watch:
    """Watch a child of this process; ``take_death`` tells how it ended.

    ``wait`` replaces waiting for the pid where the system has no ``wait4``.
    """
    return PidfdWatch(pid) if has_pidfd() else ThreadWatch(pid, wait or functools.partial(reap, pid))


def has_ended(watch: Watch, timeout: float | None = 0.0) -> bool:
    """Whether the watched process has ended, waiting ``timeout`` seconds for it (None: as long as it takes)."""
    return watch.fileno() < 0 or _is_readable(watch.fileno(), timeout)


def take_death(watch: Watch) -> Death | None:
    """Reap the child behind ``watch`` and tell how it ended; None while it runs.

    Raises ChildProcessError if it is no child of this process, or was reaped before.
    """
    if isinstance(watch, ThreadWatch):
        return watch.death if has_ended(watch) else None
    return reap(watch.pid, os.WNOHANG)


def reap(pid: int, flags: int = 0) -> Death | None:
    """Wait for child ``pid`` and tell how it ended; None if ``flags`` say not to wait and it still runs."""
    ended, status, usage = os.wait4(pid, flags)
    if not ended:
        return None
    return Death(os.waitstatus_to_exitcode(status), usage.ru_maxrss * RSS_UNIT)


class Lifeline:
    """The descriptor that tells an engine its host is gone: -1 where there is no host.

    One per process, because a process has one host: set by whoever starts an engine, before ``run_engine``.
    """

    __slots__ = ("fd",)

    def __init__(self) -> None:
        self.fd = -1


LIFELINE: Final = Lifeline()


def host_gone_fd() -> int:
    """The descriptor that becomes readable when this engine's host is gone; -1 if it has none.

    Nothing is ever to be read from it. The engine's link polls it and, when it fires, leaves.
    """
    return LIFELINE.fd


def tie_to_parent(parent: int) -> None:
    """Have the kernel kill this process when the thread that forked it ends; a no-op outside Linux.

    The hard backstop behind ``host_gone_fd``: it works even while user code holds the interpreter lock. Call it in the
    child, right after the fork, with the pid of the process that forked.
    """
    if sys.platform == "linux":
        _libc().prctl(PR_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0)
        # The parent may have died before the call, and then nobody would ever send that signal.
        if os.getppid() != parent:
            os.kill(os.getpid(), signal.SIGKILL)


@functools.cache
def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None)


def _is_readable(fd: int, timeout: float | None) -> bool:
    if hasattr(select, "poll"):
        poller = select.poll()
        poller.register(fd, select.POLLIN)
        return bool(poller.poll(None if timeout is None else timeout * 1000))
    return bool(select.select([fd], [], [], timeout)[0])
