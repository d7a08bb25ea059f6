"""How long one no-op task takes when nothing else is going on."""

from __future__ import annotations

from harness import Figures, median_and_p99, perform, time_each
from payload import nothing
from systems import system


def round_trip(name: str, seconds: float) -> Figures:
    """Measure with two engines: to any engine, to a certain one, to both; ``seconds`` each; in milliseconds."""
    under_test = system(name)
    figures: Figures = {}
    with under_test.running(2):
        for address in under_test.addresses:
            median, p99 = median_and_p99(time_each(lambda to=address: under_test.call(to, nothing), seconds))
            figures[address] = median * 1e3
            figures[f"{address}_p99"] = p99 * 1e3
    return figures


if __name__ == "__main__":
    perform(round_trip)
