"""Drill: each way a start can fail is told at once, with command and output and what to do, and leaves nothing behind."""

from __future__ import annotations

import contextlib
import os
import queue
import signal
import socket
import sys
import time
from pathlib import Path

import psutil
import pytest
from traitlets.config import Config

from enginery.cluster.cluster import Cluster
from enginery.cluster.launchers.local import LocalEngineSetLauncher
from enginery.errors import LauncherError
from enginery.net.start_lock import start_lock_path

pytestmark = [pytest.mark.slow, pytest.mark.skipif(sys.platform == "win32", reason="not tried on Windows")]

#: What the drill's clusters would wait for if nothing were noticed: longer than a test may take.
FOR_EVER = 600


@pytest.fixture
def profile(tmp_path):
    return tmp_path / "profile_x"


@pytest.fixture
def fail(profile):
    """Start a cluster that cannot start; returns the error, and checks that nothing is left of it."""
    others = set(psutil.Process().children(recursive=True))  # that serve other tests

    def fail(error=LauncherError, n=2, **kwargs):
        cluster = Cluster(n=n, profile_dir=str(profile), engine_timeout=FOR_EVER, **kwargs)
        with pytest.raises(error) as caught:
            cluster.start_and_connect_sync()
        assert not cluster.is_running
        assert set(psutil.Process().children(recursive=True)) <= others
        return caught.value

    yield fail
    assert [str(path) for path in profile.rglob("*") if path.is_file()] == []


def command(kind, *words):
    config = Config()
    if kind == "controller":
        config.LocalControllerLauncher.controller_cmd = list(words)
    else:
        config.LocalEngineSetLauncher.engine_cmd = list(words)
    return config


class TestTheCommand:
    @pytest.mark.parametrize("kind", ["controller", "engine"])
    def test_is_not_there(self, fail, kind):
        error = fail(config=command(kind, "/no/such/python", "-m", f"enginery.{kind}"))
        assert str(error).startswith("Cannot start '/no/such/python': [Errno 2] No such file or directory")
        assert f"The command was: /no/such/python -m enginery.{kind} --profile-dir=" in str(error)

    @pytest.mark.parametrize("kind", ["controller", "engine"])
    def test_is_a_python_without_enginery(self, fail, kind):
        error = fail(config=command(kind, sys.executable, "-S", "-c", "import no_such_package"))
        assert "(exit code 1)" in str(error)
        assert "No module named 'no_such_package'" in error.output
        assert error.code == 1

    def test_is_no_program(self, fail, tmp_path):
        (tmp_path / "notes").write_text("to do")
        error = fail(config=command("engine", str(tmp_path / "notes")))
        assert "Permission denied" in str(error)


class TestTheController:
    def test_its_port_is_taken(self, fail):
        with socket.create_server(("127.0.0.1", 0)) as server:
            port = server.getsockname()[1]
            error = fail(controller_args=["--ip=127.0.0.1", f"--client-port={port}"])
        assert "The controller ended before it was ready (exit code 1)" in str(error)
        assert str(port) in error.output
        assert "use" in error.output

    def test_it_is_killed_during_its_start(self, fail):
        error = fail(config=command("controller", "sh", "-c", "echo half way; kill -9 $$"))
        assert "The controller ended before it was ready (killed by SIGKILL)" in str(error)
        assert error.code == -signal.SIGKILL
        assert error.output == "half way"

    def test_it_is_killed_while_engines_are_waited_for(self, profile, fail):
        # A set whose engines never come, and whose start ends the controller.
        class Deadly(LocalEngineSetLauncher):
            starts_early = False

            def find_args(self):
                return [sys.executable, "-c", "import time; time.sleep(600)"]

            def start(self, n=None):
                super().start(n)
                start_lock_path(
                    self.parent.controller.connection_files["client"]
                ).touch()  # which it may have just then
                os.kill(self.parent.controller.pid, signal.SIGKILL)

        error = fail(engines=Deadly)
        assert str(error).startswith("The controller ended before ")
        assert "(killed by SIGKILL)" in str(error)

    def test_it_gets_an_argument_it_does_not_know(self, fail):
        error = fail(controller_args=["--schema=lru"])
        assert "Did you mean --scheme?" in error.output


class TestTheEngines:
    def test_a_startup_script_that_is_not_there(self, fail, tmp_path):
        error = fail(engine_args=[f"--IPEngine.startup_script={tmp_path}/begin.py"])
        assert f"there is no start-up script '{tmp_path}/begin.py' on " in error.output

    def test_a_startup_script_that_crashes(self, profile, tmp_path):
        script = tmp_path / "begin.py"
        script.write_text("import faulthandler\nfaulthandler._sigsegv()\n")
        cluster = Cluster(n=1, profile_dir=str(profile), engine_args=[f"--IPEngine.startup_script={script}"])
        told = queue.SimpleQueue()
        cluster.on_crash(told.put)
        # It has connected by then, so that the start may have been done.
        with contextlib.suppress(LauncherError):
            cluster.start_and_connect_sync()
        crash = told.get(timeout=30)
        cluster.stop_cluster_sync()
        assert "killed by SIGSEGV" in str(crash)  # the engine's end or its set's, whichever is heard of first
        assert f'File "{script}", line 2' in crash.output

    def test_one_of_them_alone(self, fail, tmp_path):
        # The host's first child is the nanny.
        (tmp_path / "sitecustomize.py").write_text(
            "import os\n"
            "forks = []\n"
            "def leave():\n"
            "    if len(forks) == 3:\n"
            "        os._exit(4)\n"
            "os.register_at_fork(before=lambda: forks.append(1), after_in_child=leave)\n"
        )
        config = Config()
        path = os.pathsep.join([str(tmp_path), *filter(None, [os.environ.get("PYTHONPATH")])])
        config.LocalEngineSetLauncher.environment = {"PYTHONPATH": path}
        error = fail(n=3, config=config)
        assert "The set of 3 engines lost an engine before 3 had connected: ended with exit code 4" in str(error)

    def test_a_folder_that_is_not_there(self, fail):
        error = fail(engine_args=["--work-dir=/no/such/folder"])
        assert "/no/such/folder" in error.output

    def test_they_need_longer_than_they_may(self, profile):
        class Slow(LocalEngineSetLauncher):
            starts_early = False

            def find_args(self):
                return [sys.executable, "-c", "import time; print('loading', flush=True); time.sleep(600)"]

            def status(self):
                return "job 4711 is PENDING: Resources"

        cluster = Cluster(n=2, profile_dir=str(profile), engine_timeout=1, engines=Slow)
        began = time.monotonic()
        with pytest.raises(TimeoutError) as caught:
            cluster.start_and_connect_sync()
        assert time.monotonic() - began >= 1
        assert str(caught.value).startswith(
            "0 of 2 engines connected within 1 s: job 4711 is PENDING: Resources. Raise engine_timeout"
        )
        assert "loading" in str(caught.value)
        assert not cluster.is_running


class TestTheFolders:
    def test_the_log_folder_is_a_file(self, profile, fail):
        profile.mkdir()
        (profile / "log").write_text("")
        error = fail(OSError)
        assert str(profile / "log") in str(error)
        (profile / "log").unlink()

    def test_the_profile_cannot_be_written(self, profile, fail):
        profile.parent.joinpath("file").write_text("")
        with pytest.raises(OSError, match="file"):
            Cluster(n=1, profile_dir=str(profile.parent / "file" / "profile_y")).start_cluster_sync()

    @pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no full disk to offer")
    def test_the_disk_is_full_where_logs_go(self, profile, monkeypatch):
        monkeypatch.setattr("enginery.net.profile_paths.log_path", lambda *_parts: Path("/dev/full"))
        monkeypatch.setattr(Path, "unlink", _unlink_but_devices)
        with Cluster(n=2, profile_dir=str(profile)) as rc:
            assert rc[:].apply_sync(_print_a_lot) == [1, 1]


_unlink = Path.unlink


def _unlink_but_devices(path, missing_ok=False):
    if not path.is_char_device():
        _unlink(path, missing_ok=missing_ok)


def _print_a_lot():
    import os

    print("x" * 100_000)
    os.write(2, b"y" * 100_000)
    return 1
