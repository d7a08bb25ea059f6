"""Waiting for what nobody can wait for."""

from __future__ import annotations

import contextlib
import time

import psutil

#: Longest wait for anything, in seconds; reached only when something is broken.
PATIENCE = 30


def wait_until(condition, told=lambda: "it never came true"):
    """Look until ``condition`` is true."""
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline, told()
        time.sleep(0.005)


def is_alive(process):
    """Whether a ``psutil.Process`` has not ended. One that nobody has reaped yet has."""
    with contextlib.suppress(psutil.NoSuchProcess):
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    return False
