"""From nothing to the first result of a cluster with all its engines, and from stop until all processes are gone."""

from __future__ import annotations

import time

import psutil

from harness import Figures, perform, processes_of_run
from payload import nothing
from systems import system


def start(name: str, n: int) -> Figures:
    """Measure with ``n`` engines, in seconds. The import of the system is not counted: it has its own workload."""
    under_test = system(name)
    began = time.perf_counter()
    with under_test.running(n):
        under_test.call("balanced", nothing)
        first = time.perf_counter() - began
        running = processes_of_run()
        began = time.perf_counter()
    _, left = psutil.wait_procs(running, timeout=30)
    stopped = time.perf_counter() - began
    return {f"start_{n}": first, f"stop_{n}": stopped, f"left_{n}": float(len(left))}


if __name__ == "__main__":
    perform(start)
