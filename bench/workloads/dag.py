"""How fast tasks with dependencies run: a graph of 2,000 no-op tasks, and a chain in which each waits for the last."""

from __future__ import annotations

import random
import time

from harness import Figures, perform
from payload import nothing
from systems import system


def dag(name: str, tasks: int, hops: int, seed: int) -> Figures:
    """Measure with two engines: tasks of a random graph per second, and milliseconds per hop of a chain."""
    generator = random.Random(seed)
    under_test = system(name)
    with under_test.running(2):
        view = under_test.views["balanced"]

        def graph(count: int) -> float:
            # Layers: two of the last hundred have to be done first.
            pairs = [generator.sample(range(max(0, number - 100), number), 2) for number in range(20, count)]
            began = time.perf_counter()
            handles = [view.apply_async(nothing) for _ in range(20)]
            for one, other in pairs:
                with view.temp_flags(after=[handles[one], handles[other]]):
                    handles.append(view.apply_async(nothing))
            under_test.finish(handles)
            return time.perf_counter() - began

        def chain(count: int) -> float:
            began = time.perf_counter()
            last = view.apply_async(nothing)
            for _ in range(count - 1):
                with view.temp_flags(after=last):
                    last = view.apply_async(nothing)
            under_test.finish([last])
            return time.perf_counter() - began

        graph(200)
        return {"graph": tasks / graph(tasks), "chain": chain(hops) / hops * 1000}


if __name__ == "__main__":
    perform(dag)
