"""How well uneven tasks are balanced: 400 heavy-tailed sleeps on four engines, one task each."""

from __future__ import annotations

import heapq
import random
import time

from harness import Figures, perform
from payload import doze
from systems import system


def sleeps(name: str, seed: int) -> Figures:
    """Return the makespan divided by the shortest possible one, and by that of an ideal queue."""
    generator = random.Random(seed)
    durations = [min(4.0, 0.02 * generator.paretovariate(1.1)) for _ in range(400)]
    under_test = system(name)
    with under_test.running(4):
        under_test.map(doze, [0.001] * 40)
        began = time.perf_counter()
        under_test.map(doze, durations)
        taken = time.perf_counter() - began
    return {"makespan": taken / max(sum(durations) / 4, *durations), "greedy": taken / greedy(durations, 4)}


def greedy(durations: list[float], engines: int) -> float:
    """Return the makespan if each engine takes the next task the moment it is free."""
    free_at = [0.0] * engines
    for duration in durations:
        heapq.heapreplace(free_at, free_at[0] + duration)
    return max(free_at)


if __name__ == "__main__":
    perform(sleeps)
