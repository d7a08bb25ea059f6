"""The fixture ``fake_ssh``: tunnels of a test are made by the program in ``fake_ssh.py``, which does what it is told."""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from pathlib import Path

import psutil

PROGRAM = Path(__file__).parent / "fake_ssh.py"
PATIENCE = 30


class FakeSsh:
    """What the program is to do from the next call on, and how it was called."""

    def __init__(self, folder: Path, monkeypatch) -> None:
        self._orders = folder / "fake-ssh"
        self.tell("")
        monkeypatch.setenv("FAKE_SSH", str(self._orders))
        monkeypatch.setenv("ENGINERY_SSH", f"{sys.executable} -I -S {PROGRAM}")

    def tell(self, order: str) -> None:
        self._orders.write_text(order)

    @property
    def calls(self) -> list[dict]:
        path = Path(f"{self._orders}.calls")
        return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []

    @property
    def pid(self) -> int:
        """The process of the last call."""
        return self.calls[-1]["pid"]

    def kill(self) -> None:
        os.kill(self.pid, signal.SIGKILL)

    def is_gone(self, pid: int) -> bool:
        """Whether a call has ended, at the latest after some time."""
        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < deadline:
            try:
                # The first thread may have ended, and the others still hold the socket.
                if psutil.Process(pid).status() == psutil.STATUS_ZOMBIE and len(os.listdir(f"/proc/{pid}/task")) == 1:
                    return True
            except (psutil.NoSuchProcess, FileNotFoundError):
                return True
            time.sleep(0.01)  # it is no child of this process
        return False
