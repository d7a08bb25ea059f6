"""What tasks of the benchmarks run: importable by clients and engines alike, so that functions go by reference."""

from __future__ import annotations

import os
import time

import numpy as np

_held: dict[int, np.ndarray] = {}


def nothing() -> None:
    """Do nothing: all that is measured is the way there and back."""


def same(value: object) -> object:
    """Return what came."""
    return value


def last_byte(array: np.ndarray) -> int:
    """Read the end of an array: proof that it has arrived."""
    return int(array[-1])


def held(size: int) -> np.ndarray:
    """Return an array of ``size`` bytes that was made by the first call of that size."""
    if size not in _held:
        _held[size] = np.ones(size, np.uint8)
    return _held[size]


def doze(seconds: float) -> float:
    """Sleep, and say how long."""
    time.sleep(seconds)
    return seconds


def wait_for(fifo: str) -> str:
    """Wait until somebody writes to ``fifo``."""
    with open(fifo) as stream:
        return stream.read()


def announce(fifo: str) -> None:
    """Write the pid of this process to ``fifo``, which waits until somebody reads it."""
    with open(fifo, "w") as stream:
        stream.write(str(os.getpid()))


def announce_and_sleep(fifo: str) -> None:
    """Write the pid of this process to ``fifo``, then stay busy until killed."""
    announce(fifo)
    time.sleep(60)
