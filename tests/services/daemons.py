"""What the services started for these tests have in common: private folders, free ports, waiting, and an end."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

#: How often a daemon that tells nobody is asked whether it is ready or gone, in seconds.
GLANCE = 0.1


def free_ports(count: int) -> list[int]:
    """Ports nobody listens on."""
    sockets = [socket.socket() for _ in range(count)]
    try:
        for each in sockets:
            each.bind(("", 0))
        return [each.getsockname()[1] for each in sockets]
    finally:
        for each in sockets:
            each.close()


def need(*programs: str) -> None:
    """Fail, not skip, if a program is missing: here the real service is the subject."""
    missing = [each for each in programs if not shutil.which(each, path=path_with_daemons())]
    assert not missing, f"{', '.join(missing)} not found; run tests/services/install.sh (or `make services`)"


def path_with_daemons() -> str:
    """The search path with the folders where daemons live."""
    return os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin", "/sbin"])


def run(command: Sequence[str | Path], environment: Mapping[str, str] | None = None, **kwargs) -> str:
    """Run a command to its end and return its output; a failure shows it."""
    done = subprocess.run(
        [str(each) for each in command],
        env={**os.environ, "PATH": path_with_daemons(), **(environment or {})},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=60,
        check=False,
        **kwargs,
    )
    assert done.returncode == 0, f"{command} ended with {done.returncode}:\n{done.stdout}"
    return done.stdout


def wait_until(condition: Callable[[], bool], what: str, timeout: float = 60.0) -> None:
    """Wait for something that tells nobody when it comes; fail with ``what`` if it does not."""
    deadline = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < deadline, f"{what} did not come within {timeout:g} s"
        time.sleep(GLANCE)


def end_daemon(pid_file: Path, timeout: float = 20.0) -> None:
    """End the daemon whose pid is in the file, and wait until it is gone."""
    try:
        pid = int(pid_file.read_text())
        os.kill(pid, signal.SIGTERM)
    except (OSError, ValueError):
        return
    stat = Path(f"/proc/{pid}/stat")

    def is_gone() -> bool:
        try:
            return stat.read_text().rpartition(")")[2].split()[0] in "ZX"
        except OSError:
            return True

    try:
        wait_until(is_gone, f"the end of pid {pid}", timeout)
    except AssertionError:
        os.kill(pid, signal.SIGKILL)
