"""One program on this host: started or adopted, watched by a thread, signalled, and its output read."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import IO, TYPE_CHECKING

from enginery.errors import LauncherError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

#: Field of /proc/<pid>/stat that tells when a process began, counted behind the name in parentheses.
BEGAN = 19
#: How much of the end of an output is read, in bytes.
MOST_READ = 1 << 20
POSIX = sys.platform != "win32"
#: What a new session is on Windows.
NEW_GROUP = getattr(subprocess, "CREATE_NEW_PROCESS_GROUP", 0)


class LocalProcess:
    """A process of this host that somebody waits for.

    ``ended`` is called once, by the watching thread, with the exit code (negative for a signal, None if it cannot be
    known). Thread-safe.
    """

    def __init__(self, pid: int, born: float, popen: subprocess.Popen[bytes] | None = None) -> None:
        self.pid = pid
        self.born = born
        self.code: int | None = None
        self.stdin: IO[bytes] | None = popen.stdin if popen else None
        self._popen = popen
        self._gone = threading.Event()
        self._asked = False

    @classmethod
    def start(
        cls,
        command: Sequence[str],
        *,
        environment: Mapping[str, str],
        output: Path,
        pipe_stdin: bool = False,
        pass_fds: Sequence[int] = (),
        stdout: int | None = None,
    ) -> LocalProcess:
        """Start ``command`` in a session of its own, so that a Ctrl-C in our terminal does not reach it.

        Its output goes to the file ``output`` (``stdout`` to the given descriptor instead).
        Raises LauncherError if there is no such program or the file cannot be written.
        """
        try:
            with output.open("wb") as log:
                popen = subprocess.Popen(
                    list(command),
                    env={**os.environ, **environment},
                    stdin=subprocess.PIPE if pipe_stdin else subprocess.DEVNULL,
                    stdout=log if stdout is None else stdout,
                    stderr=log if stdout is not None else subprocess.STDOUT,
                    start_new_session=POSIX,
                    creationflags=NEW_GROUP,
                    pass_fds=tuple(pass_fds),
                )
        except OSError as error:
            msg = f"Cannot start {command[0]!r}: {error}. The command was: {' '.join(command)}"
            raise LauncherError(msg, command=command) from error
        return cls(popen.pid, birth(popen.pid) or 0.0, popen)

    @classmethod
    def adopt(cls, pid: int, born: float) -> LocalProcess | None:
        """Watch a process someone else started; None if it is gone, or another has its id now."""
        return cls(pid, born) if birth(pid) == born else None

    def watch(self, ended: Callable[[int | None], None]) -> None:
        """Begin to wait for the end of the process, in a thread."""
        threading.Thread(target=self._watch, args=(ended,), name=f"enginery-watch-{self.pid}", daemon=True).start()

    def _watch(self, ended: Callable[[int | None], None]) -> None:
        if self._popen is not None:
            self.code = self._popen.wait()
        else:
            wait_for_stranger(self.pid)
        self._gone.set()
        ended(self.code)

    @property
    def is_running(self) -> bool:
        """Whether the process has not ended, as far as the watching thread knows."""
        return not self._gone.is_set()

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until the process has ended; whether it has."""
        return self._gone.wait(timeout)

    def signal(self, number: int) -> None:
        """Send a signal; does nothing if the process is gone."""
        if self.is_running:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, number)

    def terminate(self) -> None:
        """Ask the process to leave, once: mpiexec takes a second signal as leave to go without its ranks."""
        if not self._asked:
            self._asked = True
            self.signal(signal.SIGTERM)

    def kill(self) -> None:
        """End the process and everything in its session that did not leave with it."""
        if POSIX:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self.pid, signal.SIGKILL)
        else:
            # taskkill ends the children, too; there are no process groups to signal.
            subprocess.run(["taskkill", "/t", "/f", "/pid", str(self.pid)], check=False, capture_output=True)  # noqa: S607

    def children(self) -> list[int]:
        """Ids of the processes this one started and that are there."""
        return children_of(self.pid)


def birth(pid: int) -> float | None:
    """When the process began, in whatever unit the system has; None if it is gone. Tells apart owners of one id."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None if Path("/proc/self/stat").exists() else _birth_elsewhere(pid)
    state, *rest = stat.rpartition(")")[2].split()
    return None if state in "ZX" else float(rest[BEGAN - 1])


def _birth_elsewhere(pid: int) -> float | None:
    # Only systems without /proc pay for this import.
    import psutil

    try:
        return float(psutil.Process(pid).create_time())
    except psutil.Error:
        return None


def wait_for_stranger(pid: int) -> None:
    """Wait for the end of a process that is not our child."""
    if sys.platform == "linux":
        with contextlib.suppress(OSError):
            descriptor = os.pidfd_open(pid)
            try:
                poll = select.poll()
                poll.register(descriptor, select.POLLIN)
                poll.poll()
            finally:
                os.close(descriptor)
            return
        if not Path(f"/proc/{pid}").exists():
            return
    # Only systems without pidfd pay for this import.
    import psutil

    with contextlib.suppress(psutil.Error):
        psutil.Process(pid).wait()


def children_of(pid: int) -> list[int]:
    """Ids of the children of a process."""
    tasks = Path(f"/proc/{pid}/task")
    try:
        lists = [(task / "children").read_text(encoding="ascii") for task in tasks.iterdir()]
        return sorted({int(each) for text in lists for each in text.split()})
    except OSError:
        pass
    # Only systems without /proc, and kernels without the list of children, pay for this import.
    import psutil

    try:
        return sorted(child.pid for child in psutil.Process(pid).children())
    except psutil.Error:
        return []


def last_lines(path: Path, limit: int) -> str:
    """The last ``limit`` lines of a file, as far as they are within its last megabyte; empty if it cannot be read."""
    try:
        with path.open("rb") as stream:
            stream.seek(max(0, stream.seek(0, os.SEEK_END) - MOST_READ))
            text = stream.read(MOST_READ).decode(errors="replace")
    except OSError:
        return ""
    return "\n".join(text.splitlines()[-limit:]).strip()
