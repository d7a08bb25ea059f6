"""iplogger as a user runs it: lines of controller and engines with their topics, and how it ends."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys

import pytest

from enginery.config.application import USAGE
from enginery.net.profile_paths import wait_for_file

PATIENCE = 30
pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="not tried on Windows")


@pytest.fixture
def spawn(tmp_path):
    """Start a command in a private IPython folder; it is made to leave at the end."""
    env = {name: value for name, value in os.environ.items() if not name.startswith("IPP_")}
    env |= {"IPYTHONDIR": str(tmp_path), "PYTHONUNBUFFERED": "1"}
    started = []

    def spawn(module, *argv):
        process = subprocess.Popen(
            [sys.executable, "-m", f"enginery.{module}", *argv],
            env=env,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        started.append(process)
        return process

    yield spawn
    for process in reversed(started):
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
        process.communicate(timeout=PATIENCE)


@pytest.fixture
def url():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"tcp://127.0.0.1:{probe.getsockname()[1]}"


def read_until(lines, *wanted):
    """Lines up to the one that completes all that is wanted."""
    seen = []
    left = set(wanted)
    for line in lines:
        seen.append(line)
        left -= {word for word in left if word in line}
        if not left:
            return "".join(seen)
    raise AssertionError(f"{left} not in {seen}")


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_lines_of_a_whole_cluster(spawn, url, number):
    logger = spawn("logger", f"--url={url}")
    read_until(logger.stdout, "Collecting")
    cluster = spawn("cluster", "start", "-n", "2", f"--log-url={url}")
    read_until(cluster.stdout, "ipcluster stop")
    said = read_until(logger.stdout, "[controller.INFO]", "[engine.0.INFO]", "[engine.1.INFO]")
    cluster.send_signal(signal.SIGTERM)
    assert cluster.wait(PATIENCE) == 0
    logger.send_signal(number)
    rest, _ = logger.communicate(timeout=PATIENCE)
    assert logger.returncode == 0
    assert "Traceback" not in said + rest


@pytest.mark.slow
def test_only_the_topics_asked_for_and_into_a_file(spawn, url, tmp_path):
    logger = spawn("logger", f"--LogWatcher.url={url}", "--topics=controller.")
    read_until(logger.stdout, "Collecting")
    controller = spawn("controller", f"--log-url={url}", "--log-to-file")
    read_until(logger.stdout, "[controller.INFO]")
    engine = spawn("engine", f"--log-url={url}", "--log-to-file", "--debug")
    log = tmp_path / "profile_default" / "log"
    assert wait_for_file(log / f"ipengine-{engine.pid}.log", PATIENCE)
    controller.send_signal(signal.SIGTERM)
    assert controller.wait(PATIENCE) == 0
    engine.send_signal(signal.SIGTERM)
    engine.wait(PATIENCE)
    logger.send_signal(signal.SIGTERM)
    rest, _ = logger.communicate(timeout=PATIENCE)
    assert "leaving" in rest
    assert "[engine" not in rest
    assert "leaving" in (log / f"ipcontroller-{controller.pid}.log").read_text()


def test_collected_lines_go_to_a_file(spawn, url, tmp_path):
    logger = spawn("logger", f"--url={url}", "--log-to-file")
    controller = spawn("controller", f"--log-url={url}", "--log-to-file")
    path = tmp_path / "profile_default" / "security" / "ipcontroller-client.json"
    assert wait_for_file(path, PATIENCE)
    controller.send_signal(signal.SIGTERM)
    assert controller.wait(PATIENCE) == 0
    logger.send_signal(signal.SIGTERM)
    assert logger.wait(PATIENCE) == 0
    text = (tmp_path / "profile_default" / "log" / f"iplogger-{logger.pid}.log").read_text()
    assert "[controller.INFO]" in text


def test_impossible_addresses(spawn, url):
    done = spawn("logger", "--url=tcp://127.0.0.1:99999")
    said, _ = done.communicate(timeout=PATIENCE)
    assert done.returncode == USAGE
    assert "99999" in said
    assert "tcp://127.0.0.1:20202" in said
    done = spawn("controller", "--log-url=nonsense")
    said, _ = done.communicate(timeout=PATIENCE)
    assert done.returncode == USAGE
    assert "'nonsense'" in said
    with socket.socket() as taken:
        host, port = url.removeprefix("tcp://").split(":")
        taken.bind((host, int(port)))
        taken.listen()
        done = spawn("logger", f"--url={url}")
        said, _ = done.communicate(timeout=PATIENCE)
    assert done.returncode == 1
    assert url in said
    assert "--url" in said
