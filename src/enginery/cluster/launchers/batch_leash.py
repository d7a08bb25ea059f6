"""A program on this host for jobs of batch systems: it removes one when the owner is gone, and shows till then that he is there.

    python -m enginery.cluster.launchers.batch_leash --owner-pid=4711 [--beat=PATH] [--owner-file=PATH …] -- scancel 12

Jobs outlive whoever submitted them, and those that wait know nothing of him. This process does not outlive him for long: he is gone,
it runs the command and removes the files. Should the whole host be gone, nobody touches the file ``--beat`` any more,
and a controller that looks at it leaves by itself (``enginery.net.beat``).
"""

from __future__ import annotations

import os
import select
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final

from enginery.cluster.launchers import batch_commands
from enginery.errors import LauncherError
from enginery.net import connection_file
from enginery.net.beat import PERIOD, beat

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

#: How often the command is tried, how long it may take, and how long to wait before the next time, in seconds.
ATTEMPTS: Final = 5
PATIENCE: Final = 30.0
PAUSE: Final = 5.0


class Leash:
    """The process that holds one job. Made when the job was submitted; ``release`` when it is over."""

    def __init__(
        self,
        command: Sequence[str],
        *,
        environment: Mapping[str, str],
        files: Iterable[Path],
        beat_file: Path | None,
    ) -> None:
        """``command`` removes the job, ``files`` go with the owner, who is this process."""
        self._beat_file = beat_file
        if beat_file is not None:
            beat(beat_file)
        told = [f"--owner-pid={os.getpid()}", *(f"--owner-file={path}" for path in files)]
        told += [f"--beat={beat_file}"] if beat_file is not None else []
        variables = {name: value for name, value in os.environ.items() if name != batch_commands.SECRET}
        self._process = subprocess.Popen(
            [sys.executable, "-m", "enginery.cluster.launchers.batch_leash", *told, "--", *command],
            env={**variables, **environment},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,  # what ends the owner's session shall not end it
        )

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    def release(self) -> None:
        """The job is over: end the process."""
        self._process.kill()
        self._process.wait()
        if self._beat_file is not None:
            self._beat_file.unlink(missing_ok=True)


def can_hold() -> bool:
    """Whether this system can tell of the end of a process that is no child."""
    return hasattr(os, "pidfd_open")


def hold(owner: int, beat_file: Path | None, files: Sequence[Path], command: Sequence[str]) -> int:
    """Wait until ``owner`` is gone, then run ``command`` and remove the files. Returns the command's exit code."""
    _wait_for_end(owner, beat_file)
    code = _try(command)
    # Now: by the next attempt, somebody may have started another cluster with files of these names.
    for path in [*files, *([beat_file] if beat_file is not None else [])]:
        if not _is_used_again(path):
            path.unlink(missing_ok=True)
    for _ in range(ATTEMPTS - 1):
        if code == 0:
            break
        time.sleep(PAUSE)  # batch systems tell nobody when they are up again
        code = _try(command)
    return code


def _wait_for_end(owner: int, beat_file: Path | None) -> None:
    try:
        descriptor = os.pidfd_open(owner)
    except ProcessLookupError:
        return
    while not select.select([descriptor], [], [], PERIOD if beat_file is not None else None)[0]:
        if beat_file is not None:
            beat(beat_file)


def _try(command: Sequence[str]) -> int:
    """Run the command. A failure may mean that the job is over, or that the system is down."""
    try:
        return batch_commands.run(command, environment={}, timeout=PATIENCE).code
    except LauncherError:
        return 1


def _is_used_again(path: Path) -> bool:
    """Whether it is a connection file that the next controller is to use (``--reuse``)."""
    try:
        return bool(connection_file.load(path).reuse)
    except (OSError, ValueError):
        return False


def main(argv: Sequence[str]) -> int:
    """Understand the command line and do it."""
    at = argv.index("--")
    values = [(name, value) for name, _, value in (each.partition("=") for each in argv[:at])]
    owner = next(int(value) for name, value in values if name == "--owner-pid")
    beat_file = next((Path(value) for name, value in values if name == "--beat"), None)
    files = [Path(value) for name, value in values if name == "--owner-file"]
    return hold(owner, beat_file, files, argv[at + 1 :])


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
