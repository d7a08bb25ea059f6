"""SecantusDB: a server that speaks MongoDB's protocol, in a folder and on a port of the test's own."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
from pathlib import Path

import pymongo

#: Where install_databases.sh puts the server.
INSTALLED = Path(__file__).parents[2] / "build" / "services" / "databases" / "bin" / "secantusd-py"
#: Seconds in which it has to answer.
PATIENCE = 30.0


class Secantus:
    """One server."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.port = _free_port()
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it, and wait until it answers. A server that is not there fails the test."""
        program = os.environ.get("ENGINERY_SECANTUSD") or shutil.which("secantusd-py") or str(INSTALLED)
        assert Path(program).is_file(), f"{program} is not there: run tests/services/install_databases.sh"
        command = [program, "--host", "127.0.0.1", "--port", str(self.port), "--storage-path", str(self.folder)]
        with (self.folder.parent / "secantusd.log").open("ab") as log:
            self._process = subprocess.Popen([*command, "--standalone"], stdout=log, stderr=log)
        with pymongo.MongoClient(port=self.port, serverSelectionTimeoutMS=PATIENCE * 1000) as client:
            client.admin.command("ping")

    def stop(self) -> None:
        """Stop it."""
        if self._process is not None:
            self._process.send_signal(signal.SIGTERM)
            self._process.wait(PATIENCE)
            self._process = None


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
