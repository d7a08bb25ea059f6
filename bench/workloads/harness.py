"""What all workloads share: they take a system's name and options, and say their figures in one JSON line."""

from __future__ import annotations

import json
import os
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil

#: Begins the line with the figures; libraries may print what they like around it.
MARK = "FIGURES "
#: In the environment of all processes of one run.
RUN_MARK = "ENGINERY_BENCH_RUN"

Figures = dict[str, float]


def perform(workload: Callable[..., Figures]) -> None:
    """Run ``workload(system name, **options)`` as the command line says, and print its figures."""
    figures = workload(sys.argv[1], **json.loads(sys.argv[2]))
    print(MARK + json.dumps(figures), flush=True)


def rate(run: Callable[[int], Any], seconds: float, most: int = 200_000) -> float:
    """Return how many per second ``run(count)`` does, with a count that keeps it busy for about ``seconds``.

    Measured when the same count was done before: no system is charged for memory that its process touches first.
    """
    count = 50
    while True:
        began = time.perf_counter()
        run(count)
        taken = time.perf_counter() - began
        if taken >= seconds / 2 or count >= most:
            began = time.perf_counter()
            run(count)
            return count / (time.perf_counter() - began)
        # Not more than tenfold: the first, short runs are slower than the long ones.
        count = min(most, int(count * min(10, max(2, seconds / taken))))


def time_each(run: Callable[[], Any], seconds: float, warm: int = 50, most: int = 3000) -> list[float]:
    """Return, sorted, how long each of many calls of ``run`` took."""
    for _ in range(warm):
        run()
    times: list[float] = []
    end = time.perf_counter() + seconds
    while len(times) < most and (began := time.perf_counter()) < end:
        run()
        times.append(time.perf_counter() - began)
    return sorted(times)


def median_time(run: Callable[[], Any], repeats: int) -> float:
    """Return the median duration of ``run``, after one run to warm up."""
    run()
    times = []
    for _ in range(repeats):
        began = time.perf_counter()
        run()
        times.append(time.perf_counter() - began)
    return statistics.median(times)


def median_and_p99(times: list[float]) -> tuple[float, float]:
    """Return median and 99th percentile of sorted ``times``."""
    return times[len(times) // 2], times[int(len(times) * 0.99)]


def processes_of_run() -> list[psutil.Process]:
    """All other processes of this run, whoever is their parent by now."""
    return [
        process
        for process in psutil.process_iter(["environ", "cmdline"])
        if process.pid != os.getpid()
        and (process.info["environ"] or {}).get(RUN_MARK) == os.environ[RUN_MARK]
        # Part of this interpreter, as it were: multiprocessing keeps it until the end.
        and "resource_tracker" not in " ".join(process.info["cmdline"] or [])
    ]


def pss(pid: int) -> float:
    """Proportional set size of a process in MB: shared pages count in parts."""
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1]) / 1024
    return 0.0
