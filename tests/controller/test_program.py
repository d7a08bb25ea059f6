"""The controller program in this process: what it writes, what it says when it cannot start, and what it removes."""

from __future__ import annotations

import json
import logging
import os
import signal
import stat
import threading
from pathlib import Path

import pytest

from enginery.client.link import Link
from enginery.controller import program
from enginery.controller.options import ControllerOptions
from enginery.controller.program import Controller, run
from enginery.net.beat import BeatWatch
from enginery.net.connection_file import load
from enginery.net.sockets import listen_on_path

PATIENCE = 20


@pytest.fixture
def options(tmp_path):
    return ControllerOptions(profile_dir=tmp_path, listen_tcp=False)


@pytest.fixture(autouse=True)
def signals():
    """Put back what a loop in this process took over."""
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    before = {number: signal.getsignal(number) for number in numbers}
    yield
    signal.set_wakeup_fd(-1)
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.fixture
def make():
    made = []

    def make(options):
        made.append(Controller(options))
        return made[-1]

    yield make
    for controller in made:
        controller.close()


def files(options):
    return {kind: options.connection_path(kind) for kind in ("client", "engine")}


class TestStart:
    def test_connection_files(self, make, options):
        controller = make(options)
        controller.start()
        for kind, path in files(options).items():
            info = load(path)
            assert (info.kind, info.pid, info.epoch) == (kind, os.getpid(), 1)
            assert stat.S_IMODE(path.stat().st_mode) == 0o600
            assert all(Path(url.removeprefix("ipc://")).is_socket() for url in info.urls)
        controller.close()
        assert not any(path.exists() for path in files(options).values())

    def test_with_tcp_each_kind_gets_its_own_key(self, make, tmp_path):
        options = ControllerOptions(profile_dir=tmp_path)
        make(options).start()
        client, engine = (load(path) for path in files(options).values())
        assert client.server_key == engine.server_key != ""
        assert client.secret_key != engine.secret_key
        assert client.url.startswith("tcp://127.0.0.1:")

    @pytest.mark.parametrize("kwargs", [{"secure": False}, {"curve": False}])
    def test_without_keys(self, make, tmp_path, kwargs):
        options = ControllerOptions(profile_dir=tmp_path, **kwargs)
        make(options).start()
        assert load(files(options)["client"]).server_key == ""

    def test_it_reports_when_it_listens(self, make, tmp_path):
        reader, writer = os.pipe()
        make(ControllerOptions(profile_dir=tmp_path, listen_tcp=False, ready_fd=writer)).start()
        with os.fdopen(reader) as pipe:
            told = json.loads(pipe.read())
        assert told["engine"] == json.loads(files(ControllerOptions(tmp_path))["engine"].read_text())

    def test_reuse_keeps_keys_and_places(self, make, tmp_path):
        options = ControllerOptions(profile_dir=tmp_path, reuse=True)
        first = make(options)
        first.start()
        before = load(files(options)["client"])
        first.close()
        make(options).start()
        after = load(files(options)["client"])
        assert (after.urls, after.server_key, after.secret_key) == (before.urls, before.server_key, before.secret_key)
        assert after.epoch == before.epoch + 1

    def test_a_living_one_is_not_robbed_of_its_place(self, make, tmp_path):
        options = ControllerOptions(profile_dir=tmp_path, listen_tcp=False, reuse=True)
        make(options).start()
        with pytest.raises(OSError, match="listens at .* already"):
            Controller(options).start()

    def test_what_a_killed_one_left_is_replaced(self, make, tmp_path):
        options = ControllerOptions(profile_dir=tmp_path, listen_tcp=False, reuse=True)
        controller = make(options)
        listen_on_path(controller._folder / "clients").close()
        controller.start()

    def test_files_of_another_one_stay(self, make, options):
        first, second = make(options), make(options)
        first.start()
        for path in files(options).values():
            plain = json.loads(path.read_text()) | {"pid": 1}
            path.write_text(json.dumps(plain))
        first.close()
        assert all(path.exists() for path in files(options).values())
        second.close()


class TestRun:
    def test_a_port_that_is_taken(self, make, tmp_path, caplog):
        options = ControllerOptions(profile_dir=tmp_path)
        make(options).start()
        port = int(load(files(options)["engine"]).url.rpartition(":")[2])
        with caplog.at_level(logging.ERROR, "enginery.controller"):
            assert run(ControllerOptions(profile_dir=tmp_path, cluster_id="2", engine_port=port)) == 1
        assert "Choose another port" in caplog.text

    def test_a_living_one_is_left_alone(self, make, tmp_path, caplog):
        options = ControllerOptions(profile_dir=tmp_path, listen_tcp=False, reuse=True)
        make(options).start()
        with caplog.at_level(logging.ERROR, "enginery.controller"):
            assert run(options) == 1
        assert "already" in caplog.text
        for path in files(options).values():
            assert all(Path(url.removeprefix("ipc://")).exists() for url in load(path).urls)

    def test_a_damaged_key_file(self, tmp_path, caplog):
        options = ControllerOptions(profile_dir=tmp_path, reuse=True)
        (tmp_path / "security").mkdir()
        (tmp_path / "security/ipcontroller-keys.json").write_text("{")
        (tmp_path / "security/ipcontroller-keys.json").chmod(0o600)
        with caplog.at_level(logging.ERROR, "enginery.controller"):
            assert run(options) == 1
        assert "damaged" in caplog.text
        assert "Remove it" in caplog.text

    @pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
    def test_until_a_signal_comes(self, options, number):
        def stop():
            path = files(options)["client"]
            while not path.exists():
                pass
            link = Link.connect(load(path), timeout=PATIENCE)
            os.kill(os.getpid(), number)
            try:
                link.wait_for(lambda: False, PATIENCE)
            except ConnectionError as error:
                said.append(str(error))
            link.close()

        said = []
        thread = threading.Thread(target=stop)
        thread.start()
        assert run(options) == 0
        thread.join()
        assert number.name in said[0]
        assert not files(options)["client"].exists()

    def test_until_its_owner_is_gone(self, tmp_path):
        pid = os.posix_spawn("/bin/true", ["true"], {})
        os.waitpid(pid, 0)
        assert run(ControllerOptions(profile_dir=tmp_path, listen_tcp=False, owner_pid=pid)) == 0

    def test_until_nothing_is_heard_of_an_owner_on_another_host(self, tmp_path, monkeypatch):
        monkeypatch.setattr(program, "BeatWatch", lambda path: BeatWatch(path, lease=0.06))
        log = tmp_path / "log.txt"
        options = ControllerOptions(profile_dir=tmp_path, listen_tcp=False, owner_beat=tmp_path / "owner", log=str(log))
        assert run(options) == 0
        assert f"leaving: nothing was heard of its owner for 0.06 s ({tmp_path / 'owner'} has not" in log.read_text()
        assert not files(options)["client"].exists()

    def test_its_log(self, tmp_path):
        pid = os.posix_spawn("/bin/true", ["true"], {})
        os.waitpid(pid, 0)
        log = tmp_path / "log.txt"
        run(ControllerOptions(profile_dir=tmp_path, listen_tcp=False, owner_pid=pid, log=str(log)))
        assert "leaving: its owner" in log.read_text()
