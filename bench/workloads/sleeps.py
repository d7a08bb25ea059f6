"""How well uneven tasks are balanced: 400 heavy-tailed sleeps on four engines, one task each."""

from __future__ import annotations

import random
import time

from harness import Figures, perform
from payload import doze
from systems import system


def sleeps(name: str, seed: int) -> Figures:
    """Return the makespan divided by the shortest possible one."""
    generator = random.Random(seed)
    durations = [min(4.0, 0.02 * generator.paretovariate(1.1)) for _ in range(400)]
    under_test = system(name)
    with under_test.running(4):
        under_test.map(doze, [0.001] * 40)
        began = time.perf_counter()
        under_test.map(doze, durations)
        taken = time.perf_counter() - began
    return {"makespan": taken / max(sum(durations) / 4, *durations)}


if __name__ == "__main__":
    perform(sleeps)
