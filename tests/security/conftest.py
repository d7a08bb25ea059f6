"""Fixtures of the tests of security: a fortress, which is a controller with low limits and two engines, over tcp."""

from __future__ import annotations

import contextlib
import json
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from enginery.client.client import Client
from enginery.net.connection_file import ConnectionInfo, load

#: Longest wait for anything, in seconds; reached only when something is broken.
PATIENCE = 25

if sys.platform == "win32":
    collect_ignore_glob = ["test_*.py"]  # not tried on Windows


class Fortress:
    """A controller and two engines started by hand, and a client that notices whether something is wrong."""

    def __init__(self, folder, *arguments) -> None:
        self.folder = Path(folder)
        self.processes = []
        self.controller = self.start(
            "controller", "--ping=100", "--HeartMonitor.max_heartmonitor_misses=200", *arguments
        )
        self.wait_until(lambda: all(self.path(kind).exists() for kind in ("client", "engine")))
        self.info = {kind: self.over_tcp(kind) for kind in ("client", "engine")}
        self.info["engine"].save(self.folder / "tcp-engine.json")
        self.start("engine", "--n=2", f"--file={self.folder / 'tcp-engine.json'}", f"--work-dir={folder}")
        self.rc = Client(self.info["client"], timeout=PATIENCE)
        self.rc.wait_for_engines(2, timeout=PATIENCE)

    def start(self, what, *arguments):
        command = [sys.executable, "-m", f"enginery.{what}", f"--profile-dir={self.folder}", *arguments]
        with (self.folder / f"{what}.log").open("wb") as log:
            self.processes.append(subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT))
        return self.processes[-1]

    def path(self, kind):
        return self.folder / "security" / f"ipcontroller-{kind}.json"

    def over_tcp(self, kind):
        """What a peer on another host sees: it has no use for Unix sockets."""
        plain = json.loads(self.path(kind).read_text())
        (url,) = [url for url in plain["urls"] if url.startswith("tcp://")]
        return ConnectionInfo.from_dict({**plain, "url": url, "urls": [url]})

    def over_ipc(self, kind):
        """What a peer on this host sees."""
        return load(self.path(kind))

    def port(self, kind="client"):
        return int(self.info[kind].url.rpartition(":")[2])

    def knock(self, kind="client"):
        """A bare connection to a tcp port."""
        return socket.create_connection(("127.0.0.1", self.port(kind)), timeout=PATIENCE)

    def log(self):
        return "\n".join(path.read_text() for path in self.folder.glob("*.log"))

    def wait_for_log(self, words, before=""):
        """Until the log says something that it had not said ``before``, which is an earlier ``log()``."""
        self.wait_until(lambda: self.log().count(words) > before.count(words))

    def wait_until(self, condition):
        """For what nobody can wait for: look until ``condition`` is true."""
        deadline = time.monotonic() + PATIENCE
        while not condition():
            assert time.monotonic() < deadline, self.log()
            time.sleep(0.005)

    def assert_works(self):
        assert self.rc.ids == [0, 1]
        assert self.rc[:].apply_async(abs, -1).get(PATIENCE) == [1, 1]
        assert self.rc.load_balanced_view().map_async(abs, range(-20, 0)).get(PATIENCE) == list(range(20, 0, -1))
        assert self.controller.poll() is None
        assert "Traceback" not in self.log()

    def stop(self):
        self.rc.close()
        for process in reversed(self.processes):
            process.terminate()
        for process in self.processes:
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(PATIENCE)
            process.kill()
            process.wait()


#: Low, so that they are reached soon; but who means well says hello in time on a busy machine, too.
MANY = 40
LIMITS = [
    "--PeerLimits.hello=3",
    f"--PeerLimits.strangers={MANY}",
    "--PeerLimits.queue=4000000",
    "--PeerLimits.message=50000000",
    "--PeerLimits.rejected=10",
]


@pytest.fixture(scope="module")
def encrypted(tmp_path_factory):
    fortress = Fortress(tmp_path_factory.mktemp("encrypted"), *LIMITS)
    yield fortress
    fortress.stop()


@pytest.fixture(scope="module")
def signed(tmp_path_factory):
    fortress = Fortress(tmp_path_factory.mktemp("signed"), *LIMITS, "--no-curve")
    yield fortress
    fortress.stop()


@pytest.fixture(scope="module", params=[[], ["--no-curve"]], ids=["encrypted", "signed"])
def either(request, tmp_path_factory):
    """One that encrypts, then one that signs."""
    fortress = Fortress(tmp_path_factory.mktemp("fortress"), *LIMITS, *request.param)
    yield fortress
    fortress.stop()


@pytest.fixture
def fortress(either):
    """One of both; it goes on whatever a test does to it."""
    yield either
    either.assert_works()
