"""How many no-op tasks a second: one call each, and as items of a map with one item per task."""

from __future__ import annotations

from harness import Figures, perform, rate
from payload import nothing, same
from systems import system


def tasks(name: str, seconds: float) -> Figures:
    """Measure with two engines, for about ``seconds`` each."""
    under_test = system(name)
    with under_test.running(2):
        submit = under_test.submit
        return {
            "apply": rate(lambda count: under_test.finish([submit(nothing) for _ in range(count)]), seconds),
            "map": rate(lambda count: under_test.map(same, range(count)), seconds),
        }


if __name__ == "__main__":
    perform(tasks)
