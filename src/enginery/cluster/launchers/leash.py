"""A program on this host for foreign programs: it runs one for as long as its owner lives, and ends with it.

    python -m enginery.cluster.launchers.leash --owner-pid=4711 [--owner-file=PATH …] -- mpiexec …

Our own programs watch their owner themselves; mpiexec does not know of any. Signals are passed on to the program. When
the owner is gone the program is asked to leave, killed if it does not, and the files are removed. The exit code is the
program's.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import FrameType

#: How long the program may take to leave when its owner is gone, in seconds.
PATIENCE: Final = 5.0
#: What is passed on, beside what ends this program.
PASSED_ON: Final = ("SIGTERM", "SIGINT", "SIGHUP", "SIGQUIT", "SIGUSR1", "SIGUSR2", "SIGCONT")
#: Shells report a signal of a child as 128 plus its number.
SIGNALLED: Final = 128


def run(owner: int, files: Sequence[Path], command: Sequence[str]) -> int:
    """Run ``command`` until it ends or ``owner`` is gone; returns its exit code."""
    started: list[subprocess.Popen[bytes]] = []
    early: list[int] = []

    def pass_on(number: int, _frame: FrameType | None) -> None:
        if started:
            started[0].send_signal(number)
        else:
            early.append(number)

    # Before there is a program, or a signal in its first instant would end this one alone.
    for name in PASSED_ON:
        signal.signal(getattr(signal, name), pass_on)
    process = subprocess.Popen(list(command))
    started.append(process)
    for number in early:
        process.send_signal(number)
    if not _ends_before(process, owner):
        process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(PATIENCE)
        for path in files:
            path.unlink(missing_ok=True)
        # The launcher has made a session for us: whatever is left in it goes, and this program with it.
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(0, signal.SIGKILL)
    code = process.wait()
    return code if code >= 0 else SIGNALLED - code


def _ends_before(process: subprocess.Popen[bytes], owner: int) -> bool:
    """Wait for the end of the program or of its owner; whether it was the program's."""
    ours = os.pidfd_open(process.pid)
    try:
        theirs = os.pidfd_open(owner)
    except ProcessLookupError:
        return False
    ends = select.poll()
    ends.register(ours, select.POLLIN)
    ends.register(theirs, select.POLLIN)
    return ours in dict(ends.poll())


def main(argv: Sequence[str]) -> int:
    """Understand the command line and run the program."""
    at = argv.index("--")
    values = [(name, value) for name, _, value in (each.partition("=") for each in argv[:at])]
    owner = next(int(value) for name, value in values if name == "--owner-pid")
    files = [Path(value) for name, value in values if name == "--owner-file"]
    return run(owner, files, argv[at + 1 :])


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
