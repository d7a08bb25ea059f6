"""How much more memory the machine uses once every engine has the same large array."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np

from harness import Figures, perform, processes_of_run, pss
from systems import system

MEGA = 1_000_000


def copies(name: str, n: int, megabytes: int) -> Figures:
    """Measure what an array on ``n`` engines costs, in copies of it besides the one at the client."""
    under_test = system(name)
    array = np.ones(megabytes * MEGA, np.uint8)
    with under_test.running(n):
        under_test.broadcast(array[:MEGA])
        before = used()
        under_test.broadcast(array)
        return {"copies": (used() - before) / megabytes}


def used() -> float:
    """Megabytes that this run uses: of its processes, and in files on tmpfs that no process has mapped."""
    status = os.statvfs("/dev/shm")  # noqa: S108 - the file system, not a file
    shared = (status.f_blocks - status.f_bfree) * status.f_frsize / MEGA
    return shared + sum(private(each) for each in [os.getpid(), *(process.pid for process in processes_of_run())])


def private(pid: int) -> float:
    """Megabytes of a process that are not in files on tmpfs, which are counted once and elsewhere."""
    try:
        text = Path(f"/proc/{pid}/smaps_rollup").read_text()
    except OSError:
        return 0.0
    sizes = {line.split(":")[0]: int(line.split()[1]) * 1024 / MEGA for line in text.splitlines()[1:]}
    return pss(pid) * 1024 * 1024 / MEGA - sizes.get("Pss_Shmem", 0.0)


if __name__ == "__main__":
    perform(copies)
