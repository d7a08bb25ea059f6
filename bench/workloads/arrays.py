"""How fast arrays travel to an engine and back on one host."""

from __future__ import annotations

import numpy as np

from harness import Figures, median_time, perform
from payload import held, last_byte
from systems import system

MEGA = 1_000_000


def arrays(name: str, repeats: int) -> Figures:
    """Measure one array of 100 MB, then 100 of 1 MB, to and from one of two engines; in MB/s."""
    under_test = system(name)
    figures: Figures = {}
    with under_test.running(2):
        for label, size, count in (("100MB", 100 * MEGA, 1), ("1MBx100", MEGA, 100)):
            payloads = [np.ones(size, np.uint8) for _ in range(count)]

            def send(payloads: list[np.ndarray] = payloads) -> None:
                under_test.send(payloads, last_byte)

            def fetch(size: int = size, count: int = count) -> None:
                received = under_test.fetch(held, size, count)
                assert sum(int(array[-1]) for array in received) == count

            figures[f"{label}_to"] = size * count / MEGA / median_time(send, repeats)
            figures[f"{label}_back"] = size * count / MEGA / median_time(fetch, repeats)
    return figures


if __name__ == "__main__":
    perform(arrays)
