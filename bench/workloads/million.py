"""Whether memory stays flat: a million no-op tasks whose results are dropped."""

from __future__ import annotations

import gc
import os

from harness import Figures, perform, processes_of_run, pss
from memory import is_controller
from payload import nothing
from systems import system

BATCH = 2000


def million(name: str, warm: int, tasks: int) -> Figures:
    """Return by how many MB each program grew after its first ``warm`` tasks."""
    under_test = system(name)

    def run(count: int) -> None:
        for _ in range(count // BATCH):
            under_test.finish([under_test.submit(nothing) for _ in range(BATCH)])

    def sizes() -> dict[str, float]:
        gc.collect()
        others = {process.pid: is_controller(process) for process in processes_of_run()}
        return {
            "client": pss(os.getpid()),
            "controller": sum(pss(pid) for pid, controls in others.items() if controls),
            "engines": sum(pss(pid) for pid, controls in others.items() if not controls),
        }

    with under_test.running(2):
        run(warm)
        before = sizes()
        run(tasks - warm)
        after = sizes()
    return {f"{program}_growth": after[program] - before[program] for program in before}


if __name__ == "__main__":
    perform(million)
