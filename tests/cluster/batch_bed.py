"""A folder of fake commands of batch systems, for a search path of its own."""

from __future__ import annotations

import os
import shlex
import sys
from pathlib import Path

#: Runs one of them: without site-packages, which it does not need, for launchers ask often.
FAKE = f"import sys; sys.path.insert(0, {str(Path(__file__).parent)!r}); import fake_batch; fake_batch.main()"
COMMANDS = {
    "slurm": ("sbatch", "srun", "squeue", "scancel"),
    "openpbs": ("qsub", "qstat", "qdel", "qsig"),
    "torque": ("qsub", "qstat", "qdel", "qsig"),
    "lsf": ("bsub", "bjobs", "bkill"),
    "condor": ("condor_submit", "condor_q", "condor_history", "condor_rm"),
    "hpc": ("job",),
}


class Bed:
    """The commands of one system, and the files by which its behaviour is chosen."""

    def __init__(self, folder: Path, dialect: str, monkeypatch) -> None:
        self.state = folder / "state"
        self.state.mkdir()
        self.bin = folder / "bin"
        self.bin.mkdir()
        for name in COMMANDS[dialect]:
            self.install(name, [sys.executable, "-IS", "-c", FAKE, name])
        # The usual folders are there for the shell's own commands only.
        monkeypatch.setenv("PATH", f"{self.bin}:/usr/bin:/bin")
        monkeypatch.setenv("FAKE_BATCH", str(self.state))
        monkeypatch.setenv("FAKE_DIALECT", dialect)

    def command(self, name: str, program: str) -> None:
        """Make a command of a Python program."""
        self.install(name, [sys.executable, "-c", program])

    def install(self, name: str, words: list[str]) -> None:
        """Make a command that stands for others."""
        path = self.bin / name
        path.write_text(f'#!/bin/sh\nexec {shlex.join(words)} "$@"\n')
        path.chmod(0o755)

    def say(self, name: str, text: str = "") -> None:
        """Switch a behaviour on: ``full``, ``refuse`` or ``down``."""
        (self.state / name).write_text(text)

    def unsay(self, name: str) -> None:
        (self.state / name).unlink()

    def running(self) -> list[int]:
        """Processes of jobs that are still there."""
        pids = [int(path.read_text()) for path in self.state.glob("*.pid")]
        return [pid for pid in pids if is_alive(pid)]


def is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False
