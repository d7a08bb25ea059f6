"""Whether tasks that wait slow those that need not: 50,000 behind one that does not end, beside a stream of free ones."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from harness import Figures, median_and_p99, perform, rate, time_each
from payload import nothing, wait_for
from systems import system


def waiting(name: str, tasks: int, seconds: float) -> Figures:
    """Measure with two engines, one of which is busy, first without the waiting tasks and then beside them."""
    under_test = system(name)
    with under_test.running(2), tempfile.TemporaryDirectory() as folder:
        fifo = str(Path(folder) / "gate")
        os.mkfifo(fifo)
        view = under_test.views["balanced"]

        def run(count: int) -> None:
            under_test.finish([under_test.submit(nothing) for _ in range(count)])

        def measure() -> tuple[float, float]:
            trips = time_each(lambda: under_test.call("balanced", nothing), seconds)
            return rate(run, seconds), median_and_p99(trips)[0] * 1000

        gate = under_test.submit(wait_for, fifo)
        alone, trip_alone = measure()
        with view.temp_flags(after=gate):
            held_back = [view.apply_async(nothing) for _ in range(tasks)]
        beside, trip_beside = measure()
        Path(fifo).write_text("")
        under_test.finish(held_back)
    return {
        "slowdown": alone / beside,
        "trip_slowdown": trip_beside / trip_alone,
        "rate": beside,
        "trip": trip_beside,
    }


if __name__ == "__main__":
    perform(waiting)
