"""How long after `kill -9` of an engine the result of its running task raises."""

from __future__ import annotations

import os
import signal
import tempfile
import time
from pathlib import Path

from harness import Figures, perform
from payload import announce_and_sleep
from systems import system


def killed(name: str) -> Figures:
    """Measure with two engines, in seconds."""
    under_test = system(name)
    with under_test.running(2), tempfile.TemporaryDirectory() as folder:
        fifo = str(Path(folder) / "pid")
        os.mkfifo(fifo)
        handle = under_test.submit_to_one(announce_and_sleep, fifo)
        # Opening the fifo waits for the task to open its end: then it runs for sure.
        pid = int(Path(fifo).read_text())
        began = time.perf_counter()
        os.kill(pid, signal.SIGKILL)
        try:
            under_test.finish([handle])
        except Exception as error:
            taken = time.perf_counter() - began
            print(f"{type(error).__name__}: {error}")
            return {"noticed": taken}
    message = "the task of a killed engine ended without an error"
    raise AssertionError(message)


if __name__ == "__main__":
    perform(killed)
