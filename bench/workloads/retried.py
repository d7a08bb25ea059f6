"""How soon the task of a killed engine runs elsewhere, if it may be tried again."""

from __future__ import annotations

import os
import signal
import tempfile
import time
from pathlib import Path

from harness import Figures, perform
from payload import announce_and_sleep
from systems import system


def retried(name: str) -> Figures:
    """Measure with two engines, in seconds."""
    under_test = system(name)
    with under_test.running(2), tempfile.TemporaryDirectory() as folder:
        fifo = str(Path(folder) / "pid")
        os.mkfifo(fifo)
        view = under_test.views["balanced"]
        view.retries = 2
        handle = view.apply_async(announce_and_sleep, fifo)
        pid = int(Path(fifo).read_text())
        began = time.perf_counter()
        os.kill(pid, signal.SIGKILL)
        again = int(Path(fifo).read_text())
        taken = time.perf_counter() - began
        assert again != pid
        os.kill(again, signal.SIGKILL)
        handle.wait(1)
    return {"resumed": taken}


if __name__ == "__main__":
    perform(retried)
