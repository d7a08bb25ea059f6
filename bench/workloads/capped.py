"""A million tasks through a controller whose address space is limited to 512 MB, as by ``ulimit -v 524288``."""

from __future__ import annotations

import resource
from pathlib import Path

from harness import Figures, perform
from payload import nothing, same
from systems import system

BATCH = 2000


def capped(name: str, tasks: int, megabytes: int) -> Figures:
    """Half of the tasks one call each, the others as one map of an item per task; what the controller needs, in MB.

    What is limited is all that it maps, memory that it shares with others included: the strictest way there is.
    """
    under_test = system(name)
    with under_test.running(2):
        controller = under_test.client.cluster.controller.pid
        resource.prlimit(controller, resource.RLIMIT_AS, (megabytes << 20, megabytes << 20))
        for _ in range(tasks // 2 // BATCH):
            under_test.finish([under_test.submit(nothing) for _ in range(BATCH)])
        assert under_test.map(same, range(tasks // 2)) == list(range(tasks // 2))
        assert under_test.client.cluster.controller.pid == controller, "it has survived"
        status = Path(f"/proc/{controller}/status").read_text().splitlines()
    sizes = dict(line.split(":", 1) for line in status)
    return {"resident": _megabytes(sizes["VmHWM"]), "mapped": _megabytes(sizes["VmPeak"])}


def _megabytes(text: str) -> float:
    return int(text.split(maxsplit=1)[0]) / 1024


if __name__ == "__main__":
    perform(capped)
