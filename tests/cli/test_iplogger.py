"""iplogger as a user runs it: lines of controller and engines with their topics, and how it ends."""

from __future__ import annotations

import signal
import socket
import sys

import pytest

from commands import PATIENCE
from enginery.config.application import USAGE
from enginery.net.profile_paths import wait_for_file

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="not tried on Windows")


@pytest.fixture
def url():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"tcp://127.0.0.1:{probe.getsockname()[1]}"


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_lines_of_a_whole_cluster(commands, url, number):
    logger = commands.start("logger", f"--url={url}")
    logger.read_until("Collecting")
    cluster = commands.start("cluster", "start", "-n", "2", f"--log-url={url}")
    cluster.read_until("ipcluster stop")
    said = logger.read_until("[controller.INFO]", "[engine.0.INFO]", "[engine.1.INFO]")
    cluster.signal(signal.SIGTERM)
    assert cluster.wait() == 0
    logger.signal(number)
    rest = logger.rest()
    assert logger.wait() == 0
    assert "Traceback" not in said + rest


@pytest.mark.slow
def test_only_the_topics_asked_for_and_into_a_file(commands, url, tmp_path):
    logger = commands.start("logger", f"--LogWatcher.url={url}", "--topics=controller.")
    logger.read_until("Collecting")
    controller = commands.start("controller", f"--log-url={url}", "--log-to-file")
    logger.read_until("[controller.INFO]")
    engine = commands.start("engine", f"--log-url={url}", "--log-to-file", "--debug")
    log = tmp_path / "profile_default" / "log"
    assert wait_for_file(log / f"ipengine-{engine.pid}.log", PATIENCE)
    controller.signal(signal.SIGTERM)
    assert controller.wait() == 0
    engine.signal(signal.SIGTERM)
    engine.wait()
    logger.signal(signal.SIGTERM)
    rest = logger.rest()
    assert "leaving" in rest
    assert "[engine" not in rest
    assert "leaving" in (log / f"ipcontroller-{controller.pid}.log").read_text()


def test_collected_lines_go_to_a_file(commands, url, tmp_path):
    logger = commands.start("logger", f"--url={url}", "--log-to-file")
    controller = commands.start("controller", f"--log-url={url}", "--log-to-file")
    path = tmp_path / "profile_default" / "security" / "ipcontroller-client.json"
    assert wait_for_file(path, PATIENCE)
    controller.signal(signal.SIGTERM)
    assert controller.wait() == 0
    logger.signal(signal.SIGTERM)
    assert logger.wait() == 0
    text = (tmp_path / "profile_default" / "log" / f"iplogger-{logger.pid}.log").read_text()
    assert "[controller.INFO]" in text


def test_impossible_addresses(commands, url):
    done = commands.run("controller", "--log-url=nonsense")
    assert done.returncode == USAGE
    assert "'nonsense'" in done.stderr
    with socket.socket() as taken:
        host, port = url.removeprefix("tcp://").split(":")
        taken.bind((host, int(port)))
        taken.listen()
        done = commands.run("logger", f"--url={url}")
    assert done.returncode == 1
    assert url in done.stderr
    assert "--url" in done.stderr
