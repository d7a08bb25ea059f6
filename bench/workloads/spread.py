"""How long one array takes to all engines, whole or in parts, and back in parts."""

from __future__ import annotations

import numpy as np

from harness import Figures, median_time, perform
from systems import system

MEGA = 1_000_000


def spread(name: str, repeats: int, n: int) -> Figures:
    """Measure 50 MB to each of ``n`` engines, and 100 MB shared out over them and gathered; in seconds."""
    under_test = system(name)
    whole = np.ones(50 * MEGA, np.uint8)
    parts = np.ones(100 * MEGA, np.uint8)
    with under_test.running(n):
        figures = {"broadcast": median_time(lambda: under_test.broadcast(whole), repeats)}
        if under_test.scatters:
            figures["scatter"] = median_time(lambda: under_test.scatter(parts), repeats)
            assert len(under_test.gather()) == len(parts)
            figures["gather"] = median_time(under_test.gather, repeats)
    return figures


if __name__ == "__main__":
    perform(spread)
