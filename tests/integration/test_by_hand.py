"""Controllers and engines started by command, in any order, and stopped in any way."""

from __future__ import annotations

import json
import os
import signal
import time
from pathlib import Path

import pytest

from commands import begin
from enginery.client.client import Client
from enginery.errors import ConnectionLost

PATIENCE = 30
pytestmark = pytest.mark.slow


@pytest.fixture
def start(tmp_path, warm):
    """Start a command; it is killed at the end if it still runs."""
    started = []

    def start(what, *arguments, profile="p"):
        arguments = [f"--profile-dir={tmp_path / profile}", *arguments]
        with (tmp_path / f"{what}-{len(started)}.log").open("wb") as log:
            process = begin(warm, f"enginery.{what}", arguments, dict(os.environ), out=log.fileno(), err=log.fileno())
        process.log = Path(log.name)
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()
        process.wait()


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "p"


def connect(folder, engines=0, **kwargs):
    client = Client(profile_dir=folder, timeout=PATIENCE, **kwargs)
    if engines:
        client.wait_for_engines(engines, timeout=PATIENCE)
    return client


def places_of(rc):
    """Where the controller of a client keeps what it must not leave behind."""
    sockets = [Path(url.removeprefix("ipc://")).parent for url in rc.link.info.urls if url.startswith("ipc")]
    shared = rc.link._requests.welcome.runtime
    return [*sockets, *([Path(shared)] if shared else [])]


def wait_until(condition):
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_controller_then_engines_then_a_client(start, folder):
    controller = start("controller")
    engine = start("engine", "--n=2")
    with connect(folder, 2) as rc:
        places = places_of(rc)
        assert all(place.is_dir() for place in places)
        assert rc[:].apply_sync(int) == [0, 0]
        pids = rc[:].apply_sync(os.getppid)
        assert pids == [engine.pid] * 2
        controller.send_signal(signal.SIGTERM)
        assert controller.wait(PATIENCE) == 0
        assert engine.wait(PATIENCE) == 0
        with pytest.raises(ConnectionLost, match="SIGTERM"):
            rc[:].apply_sync(int)
    assert not any(place.exists() for place in places)
    assert list((folder / "security").iterdir()) == []


def test_an_engine_before_its_controller(start, folder):
    engine = start("engine")
    wait_until(lambda: b"Waiting" in engine.log.read_bytes())
    start("controller")
    with connect(folder, 1) as rc:
        assert rc[0].apply_sync(os.getppid) == engine.pid


def test_an_engine_whose_controller_never_comes(start, folder):
    engine = start("engine", "--IPEngine.wait_for_url_file=0.1")
    assert engine.wait(PATIENCE) == 1
    text = engine.log.read_text()
    assert "no connection file" in text
    assert "Start the controller first" in text
    assert "Traceback" not in text


def test_an_engine_with_a_damaged_file(start, folder, tmp_path):
    path = tmp_path / "damaged.json"
    path.write_text("{")
    engine = start("engine", f"--file={path}")
    assert engine.wait(PATIENCE) == 1
    assert "damaged.json' is not valid JSON" in engine.log.read_text()
    start("controller")
    wait_until((folder / "security/ipcontroller-client.json").exists)
    wrong = start("engine", f"--file={folder}/security/ipcontroller-client.json")
    assert wrong.wait(PATIENCE) != 0
    assert "ends in -engine.json" in wrong.log.read_text()


def test_ids_are_given_in_order_and_asked_for(start, folder):
    start("controller")
    first = start("engine")
    with connect(folder, 1) as rc:
        start("engine", "--id=7")
        rc.wait_for_engines(2, timeout=PATIENCE)
        assert rc.ids == [0, 7]
        start("engine")
        rc.wait_for_engines(3, timeout=PATIENCE)
        assert rc.ids == [0, 7, 8]
        first.send_signal(signal.SIGINT)
        assert first.wait(PATIENCE) == 0
        assert rc.link.wait_for(lambda: rc.ids == [7, 8], PATIENCE)


def test_start_up_code_runs_first(start, folder, tmp_path):
    script = tmp_path / "startup.py"
    script.write_text("from_script = 1")
    start("controller")
    start("engine", f"-s={script}", "-c", "from_command = from_script + 1")
    with connect(folder, 1) as rc:
        assert rc[0].pull(["from_script", "from_command"], block=True) == [1, 2]


def test_without_tcp(start, folder):
    start("controller", "--transport=ipc")
    start("engine")
    with connect(folder, 1) as rc:
        assert all(url.startswith("ipc://") for url in rc.link.info.urls)
        assert rc[0].apply_sync(int) == 0


def test_schemes_and_limits(start, folder):
    for scheme in ("lru", "pure"):
        controller = start("controller", f"--scheme={scheme}", "--hwm=1", f"--cluster-id={scheme}")
        start("engine", "--n=2", f"--cluster-id={scheme}")
        with connect(folder, 2, cluster_id=scheme) as rc:
            assert rc.load_balanced_view().map_sync(abs, range(40)) == list(range(40))
        controller.terminate()
        assert controller.wait(PATIENCE) == 0


def test_a_taken_port_is_said(start, folder):
    start("controller")
    path = folder / "security/ipcontroller-client.json"
    wait_until(path.exists)
    (url,) = [url for url in json.loads(path.read_text())["urls"] if url.startswith("tcp")]
    other = start("controller", f"--client-port={url.rpartition(':')[2]}", "--cluster-id=other", "--ip=127.0.0.1")
    assert other.wait(PATIENCE) == 1
    text = other.log.read_text()
    assert "Choose another port" in text
    assert "Traceback" not in text


def test_a_controller_stopped_by_a_client(start, folder):
    controller, engine = start("controller"), start("engine")
    rc = connect(folder, 1)
    places = places_of(rc)
    rc.shutdown(hub=True)
    assert controller.wait(PATIENCE) == 0
    assert engine.wait(PATIENCE) == 0
    assert rc.link.closed
    assert not any(place.exists() for place in places)


def test_engines_stopped_and_restarted_by_a_client(start, folder):
    start("controller")
    engine = start("engine", "--n=2")
    with connect(folder, 2) as rc:
        pids = rc[:].apply_sync(os.getpid)
        rc.shutdown(0, restart=True, block=True)
        rc.wait_for_engines(2, timeout=PATIENCE)
        assert pids[1] in rc[:].apply_sync(os.getpid)
        assert pids[0] not in rc[:].apply_sync(os.getpid)
        rc.shutdown(block=True)
        assert rc.ids == []
    assert engine.wait(PATIENCE) == 0


def test_killed_and_started_again_in_the_same_place(start, folder):
    """What a killed controller leaves behind is in nobody's way, and is swept away by the next."""
    first = start("controller", "--reuse")
    path = folder / "security/ipcontroller-client.json"
    wait_until(path.exists)
    before = json.loads(path.read_text())
    with connect(folder):
        first.kill()
        first.wait()
    second = start("controller", "--reuse")
    wait_until(lambda: json.loads(path.read_text())["pid"] == second.pid)
    after = json.loads(path.read_text())
    assert after["urls"] == before["urls"]
    assert after["server_key"] == before["server_key"]
    assert after["epoch"] == before["epoch"] + 1
    start("engine")
    with connect(folder, 1) as rc:
        assert rc[0].apply_sync(int) == 0
