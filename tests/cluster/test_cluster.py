"""Cluster with fake programs: what is started, remembered, handed over, and what is said when it fails."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import signal
import stat
import subprocess
import sys
import textwrap
from pathlib import Path

import psutil
import pytest
from traitlets.config import Config

from enginery.cluster import cluster_file, outfit
from enginery.cluster.cleaning import clean_cluster_files
from enginery.cluster.cluster import Cluster
from enginery.cluster.launchers.base import EngineLauncher
from enginery.cluster.launchers.local import LocalEngineSetLauncher
from enginery.cluster.manager import ClusterManager
from enginery.cluster.waiting import statuses
from enginery.errors import LauncherError
from enginery.net.profile_paths import wait_for_file

posix_only = pytest.mark.skipif(sys.platform == "win32", reason="fake programs need POSIX signals")
FAKES = str(Path(__file__).with_name("fake_programs.py"))


@pytest.fixture
def make(tmp_path, monkeypatch):
    """Make clusters of fake programs; they are stopped at the end."""
    monkeypatch.setenv("FAKE_MARK", str(tmp_path / "mark"))
    made = []

    def make(controller="controller", engines="engines", **kwargs):
        config = Config()
        config.LocalControllerLauncher.controller_cmd = [sys.executable, FAKES, controller]
        config.LocalEngineSetLauncher.engine_cmd = [sys.executable, FAKES, engines]
        config.LocalProcessLauncher.stop_seconds_until_kill = 1.0
        cluster = Cluster(**{"profile_dir": str(tmp_path / "profile_x"), "config": config, "n": 2, **kwargs})
        made.append(cluster)
        return cluster

    yield make
    for cluster in made:
        cluster.stop_cluster_sync()


@posix_only
def test_a_cluster_is_started_and_stopped(make, tmp_path):
    cluster = make(controller_ip="*", controller_args=["--scheme=lru"])
    assert cluster.start_cluster_sync(3) is cluster
    assert cluster.is_running
    assert cluster.controller.args[-2:] == ["--ip=*", "--scheme=lru"]
    assert cluster.engine_set.n == 3
    assert wait_for_file(tmp_path / "mark", 30)
    told = json.loads(cluster.engine_set.get_output())
    assert told["info"]["pid"] == cluster.controller.pid
    cluster.stop_cluster_sync()
    assert not cluster.is_running
    assert cluster.engines == {}
    assert cluster.controller is None
    left = [path for path in (tmp_path / "profile_x").rglob("*") if path.is_file()]
    assert left == []


@posix_only
def test_the_cluster_file_follows_what_runs(make):
    cluster = make(cluster_id="one")
    path = Path(cluster.cluster_file)
    assert path.name == "cluster-one.json"
    cluster.start_controller_sync()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert cluster_file.read_cluster_file(path) == cluster.to_dict()
    first = cluster.start_engines_sync(1)
    second = cluster.start_engines_sync(2, "mine")
    assert second == "mine"
    assert list(cluster_file.read_cluster_file(path)["engines"]["sets"]) == [first, "mine"]
    cluster.stop_engines_sync("mine")
    assert list(cluster.engines) == [first]
    with pytest.raises(KeyError, match="nobody"):
        cluster.stop_engines_sync("nobody")
    cluster.stop_engines_sync()
    assert path.exists()
    cluster.stop_controller_sync()
    assert not path.exists()
    cluster.stop_controller_sync()


@posix_only
def test_another_process_takes_over(make, tmp_path):
    cluster = make(cluster_id="one")
    cluster.start_cluster_sync()
    heir = Cluster.from_file(profile_dir=tmp_path / "profile_x", cluster_id="one")
    assert heir.controller.pid == cluster.controller.pid
    assert heir.engine_set.n == 2
    assert heir.shutdown_atexit is False
    ended = [cluster.controller, cluster.engine_set]
    heir.stop_cluster_sync()
    assert all(launcher.join(30) for launcher in ended)
    with pytest.raises(FileNotFoundError, match="ipcluster list"):
        Cluster.from_file(profile_dir=tmp_path / "profile_x", cluster_id="one")


@posix_only
def test_a_controller_that_fails_ends_the_start(make, tmp_path):
    cluster = make(controller="broken_controller")
    with pytest.raises(LauncherError, match="flux capacitor"):
        cluster.start_cluster_sync()
    assert not cluster.is_running
    assert not Path(cluster.cluster_file).exists()
    with pytest.raises(LauncherError, match="flux capacitor"):
        make(controller="broken_controller").start_and_connect_sync()


@posix_only
def test_it_stops_though_its_file_cannot_be_written(make, monkeypatch):
    cluster = make()
    cluster.start_cluster_sync(1)
    launchers = [cluster.controller, cluster.engine_set]

    def fail(*_args, **_kwargs):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(type(cluster), "update_cluster_file", fail)
        with pytest.raises(OSError, match="No space left"):
            cluster.stop_cluster_sync()
    assert not any(psutil.pid_exists(launcher.pid) for launcher in launchers)
    assert not cluster.is_running


@posix_only
def test_a_set_that_cannot_be_stopped_keeps_no_other_from_it(make, monkeypatch):
    cluster = make()
    cluster.start_cluster_sync(1)
    cluster.start_engines_sync(1)
    first, second = cluster.engines.values()
    controller = cluster.controller

    def refuse():
        raise LauncherError("the queue does not let go of job 7")

    with monkeypatch.context() as patch:
        patch.setattr(first, "begin_stop", lambda: None)
        patch.setattr(first, "stop", refuse)
        with pytest.raises(LauncherError, match="job 7"):
            cluster.stop_cluster_sync()
        assert first.state != "after"
        assert not psutil.pid_exists(second.pid)
        assert not psutil.pid_exists(controller.pid)
        patch.setattr(cluster, "engines", {"a": first, "b": first})
        with pytest.raises(LauncherError, match="(?s)job 7.*job 7"):
            cluster.stop_engines_sync()
    cluster.stop_cluster_sync()
    assert not psutil.pid_exists(first.pid)


@posix_only
def test_an_end_nobody_asked_for_is_logged(make, caplog):
    cluster = make()
    cluster.start_cluster_sync(1)
    controller = cluster.controller
    with caplog.at_level(logging.WARNING, "enginery.cluster"):
        os.kill(controller.pid, signal.SIGKILL)
        assert controller.join(30)
        cluster.stop_cluster_sync()
    assert "died: killed by SIGKILL. Its engines leave" in caplog.text
    assert "Engine set" not in caplog.text


@posix_only
def test_a_controller_runs_once(make):
    cluster = make()
    cluster.start_controller_sync()
    with pytest.raises(RuntimeError, match="stop_controller"):
        cluster.start_controller_sync()


@posix_only
def test_engine_sets_are_restarted_under_their_ids(make):
    cluster = make()
    cluster.start_controller_sync()
    cluster.start_engines_sync(2, "a")
    cluster.start_engines_sync(1, "b")
    before = {name: launcher.pid for name, launcher in cluster.engines.items()}
    cluster.restart_engines_sync("a")
    after = {name: launcher.pid for name, launcher in cluster.engines.items()}
    assert after["a"] != before["a"]
    assert after["b"] == before["b"]
    assert cluster.engines["a"].n == 2
    with pytest.raises(RuntimeError, match="runs already"):
        cluster.start_engines_sync(1, "b")


@posix_only
def test_the_awaitable_twins(make):
    async def main():
        cluster = make()
        assert await cluster.start_cluster(1) is cluster
        assert cluster.is_running
        engine_set_id = await cluster.start_engines(1)
        await cluster.stop_engines(engine_set_id)
        await cluster.stop_cluster()
        assert not cluster.is_running

    asyncio.run(main())


def test_a_launcher_of_ones_own_may_be_made_of_coroutines(tmp_path):
    class Remote(EngineLauncher):
        async def start(self, n=None):
            await asyncio.sleep(0)
            self.notify_start()

        async def stop(self):
            await asyncio.sleep(0)
            self.notify_stop({"exit_code": 0})

        async def signal(self, sig):
            received.append(sig)

    received = []
    cluster = Cluster(profile_dir=str(tmp_path / "profile_x"), engines=Remote, shutdown_atexit=False)
    engine_set_id = cluster.start_engines_sync(2)
    assert cluster.engines[engine_set_id].running
    cluster.signal_engines_sync("SIGUSR1")
    assert received == [signal.SIGUSR1]
    cluster.stop_cluster_sync()
    assert cluster.engines == {}


def test_a_client_needs_a_controller(make):
    with pytest.raises(LauncherError, match=r"start_cluster\(\)"):
        make(cluster_id="nobody").connect_client_sync()


@posix_only
def test_connecting_to_a_controller_that_was_killed(make):
    cluster = make(cluster_id="one")
    cluster.start_controller_sync()
    os.kill(cluster.controller.pid, signal.SIGKILL)
    assert cluster.controller.join(30)
    with pytest.raises(LauncherError, match=r"^The controller ended before it was connected to \(killed by SIGKILL\)"):
        cluster.connect_client_sync()


def test_arguments(tmp_path):
    cluster = Cluster(profile_dir=str(tmp_path), cluster_id="x", engines="local", n=0)
    assert repr(cluster) == f"<Cluster(cluster_id='x', profile_dir={str(tmp_path)!r})>"
    assert cluster.engine_launcher_class == "local"
    with pytest.raises(TypeError, match="given twice"):
        Cluster(engines="local", engine_launcher_class="mpi")
    with pytest.raises(TypeError, match=r"no argument 'nn'\. It takes engines, controller, cluster_file"):
        Cluster(nn=3)
    with pytest.raises(ValueError, match="no engine launcher 'nope'"):
        Cluster(profile_dir=str(tmp_path), engines="nope").start_engines_sync(1)


class Elsewhere(EngineLauncher):
    """Engines on another host, as far as anybody can tell."""

    needs_network = True

    def start(self, n=None):
        self.notify_start()

    def stop(self):
        self.notify_stop({"exit_code": 0})


class TestWhereTheControllerListens:
    def ip(self, tmp_path, **kwargs):
        """What the controller is told, by a launcher that is not started."""
        cluster = Cluster(**{"profile_dir": str(tmp_path), "engines": Elsewhere, **kwargs})
        launcher = outfit.make_controller_launcher(cluster, {})
        return [each for each in launcher.controller_args if "ip" in each]

    def test_everywhere_for_engines_on_other_hosts(self, tmp_path):
        assert self.ip(tmp_path) == ["--ip=*"]
        assert self.ip(tmp_path, engines="local") == []

    def test_where_the_user_says(self, tmp_path):
        assert self.ip(tmp_path, controller_ip="10.0.0.1") == ["--ip=10.0.0.1"]
        for told in ("--ip=10.0.0.1", "--IPController.ip=10.0.0.1", "--IPController.engine_ip=10.0.0.1"):
            assert self.ip(tmp_path, controller_args=[told]) == [told]

    def test_where_the_profile_says(self, tmp_path):
        (tmp_path / "ipcontroller_config.py").write_text("c.IPController.ip = '10.0.0.1'\n")
        assert self.ip(tmp_path) == []


@posix_only
def test_two_processes_that_start_engines_keep_each_others_in_the_file(make, tmp_path):
    cluster = make(engines="steady_engines", cluster_id="one")  # those that hear nothing from a controller shall stay
    cluster.start_controller_sync()
    mine = cluster.start_engines_sync(1)
    other = Cluster.from_file(cluster.cluster_file, config=cluster.config)
    theirs = other.start_engines_sync(2)
    cluster.update_cluster_file()
    assert list(cluster_file.read_cluster_file(Path(cluster.cluster_file))["engines"]["sets"]) == [mine, theirs]
    other.stop_engines_sync(theirs)
    cluster.update_cluster_file()
    other.update_cluster_file()
    assert list(cluster_file.read_cluster_file(Path(cluster.cluster_file))["engines"]["sets"]) == [mine]


@posix_only
def test_a_file_that_another_process_has_removed_does_not_come_back_by_an_end(make):
    """`ipcluster stop` removes it; the process that had started the engines notices their ends one by one."""
    cluster = make(cluster_id="one")
    cluster.start_cluster_sync(1)
    path = Path(cluster.cluster_file)
    path.unlink()
    cluster.stop_engines_sync()
    assert cluster.is_running
    assert not path.exists()
    cluster.start_engines_sync(1)
    assert path.exists()


def test_a_file_that_is_being_written_is_written_to_its_end_when_the_process_ends(tmp_path):
    code = f"""
        import threading, time
        from enginery.cluster import cluster_file
        from enginery.cluster.cluster import Cluster

        def slowly(path, plain):
            begun.set()
            time.sleep(0.2)
            path.write_text("whole")

        begun = threading.Event()
        cluster_file.write_cluster_file = slowly
        cluster = Cluster(cluster_file={str(tmp_path / "file")!r})
        threading.Thread(target=cluster.write_cluster_file, daemon=True).start()
        begun.wait()
    """
    subprocess.run([sys.executable, "-c", textwrap.dedent(code)], check=True)
    assert (tmp_path / "file").read_text() == "whole"


@posix_only
def test_one_process_at_a_time_changes_cluster_files(tmp_path, monkeypatch):
    import fcntl

    folder = os.open(tmp_path, os.O_RDONLY)
    try:
        with cluster_file.exclusive(tmp_path / "cluster.json"), pytest.raises(BlockingIOError):
            fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
        fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
        monkeypatch.setattr(cluster_file, "PATIENCE", 0.02)
        with cluster_file.exclusive(tmp_path / "cluster.json"):
            pass  # whoever has the lock may have been stopped
    finally:
        os.close(folder)
    with cluster_file.exclusive(tmp_path / "nowhere" / "cluster.json"):
        pass


def test_what_launchers_wait_for_is_said(tmp_path):
    class Queued(Elsewhere):
        def status(self):
            return "job 7 is PENDING"

    made = [Queued(), Queued(), Elsewhere()]
    assert statuses(made) == ""
    for launcher in made:
        launcher.start()
    assert statuses(made) == "job 7 is PENDING"


def test_ids_differ():
    assert Cluster().cluster_id != Cluster().cluster_id


def test_keywords_win_over_config_over_profile(tmp_path):
    (tmp_path / "ipcluster_config.py").write_text(
        "c.Cluster.n = 3\nc.Cluster.engine_timeout = 7\nc.Cluster.delay = 2\n"
    )
    config = Config({"Cluster": {"n": 4, "engine_timeout": 8}})
    cluster = Cluster(profile_dir=str(tmp_path), config=config, n=5)
    assert (cluster.n, cluster.engine_timeout, cluster.delay) == (5, 8, 2)
    assert Cluster(profile_dir=str(tmp_path), load_profile=False).delay == 0


def test_the_profile_decides_where_files_are(monkeypatch, tmp_path):
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path))
    cluster = Cluster(profile="mpi", cluster_id="a")
    assert cluster.cluster_file == str(tmp_path / "profile_mpi" / "security" / "cluster-a.json")
    assert repr(cluster) == "<Cluster(cluster_id='a', profile='mpi')>"


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"cluster": 3}'])
def test_a_damaged_cluster_file(tmp_path, text):
    path = tmp_path / "cluster-.json"
    path.write_text(text)
    with pytest.raises(ValueError, match="ipcluster clean"):
        Cluster.from_file(path)


def test_a_cluster_whose_programs_are_gone(tmp_path):
    plain = Cluster(profile_dir=str(tmp_path), cluster_id="x").to_dict()
    plain["controller"] = {"class": "local", "state": {"pid": 2**22 + 1, "born": 1.0, "state": "running"}}
    plain["engines"]["sets"]["a"] = {"class": "local", "state": {"pid": 2**22 + 1, "born": 1.0, "n": 3}}
    cluster = Cluster.from_dict(plain)
    assert not cluster.is_running
    assert cluster.cluster_id == "x"


class TestManager:
    @posix_only
    def test_clusters_are_found_by_their_files(self, make, tmp_path):
        cluster = make(cluster_id="one")
        cluster.start_controller_sync()
        manager = ClusterManager()
        found = manager.load_clusters(profile_dir=tmp_path / "profile_x")
        assert list(found) == ["x:one"]
        assert manager.get_cluster("x:one").controller.pid == cluster.controller.pid
        assert manager.load_clusters(profile_dir=tmp_path / "profile_x")["x:one"] is found["x:one"]
        with pytest.raises(ValueError, match="'x:one' runs"):
            clean_cluster_files([tmp_path / "profile_x"])
        controller = found["x:one"].controller
        cluster.stop_cluster_sync()
        assert controller.join(30)
        assert manager.load_clusters(profile_dir=tmp_path / "profile_x") == {}

    def test_new_clusters(self, tmp_path):
        manager = ClusterManager()
        key, cluster = manager.new_cluster(profile_dir=str(tmp_path / "profile_y"))
        assert key == "y:"
        assert manager.get_cluster(key) is cluster
        assert manager.new_cluster(profile_dir=str(tmp_path / "profile_y"))[0] != key
        with pytest.raises(KeyError, match="Choose another"):
            manager.new_cluster(profile_dir=str(tmp_path / "profile_y"), cluster_id="")
        manager.remove_cluster(key)
        with pytest.raises(KeyError, match="no cluster 'y:'"):
            manager.get_cluster(key)

    def test_default_clusters(self, tmp_path, monkeypatch):
        monkeypatch.setenv("IPYTHONDIR", str(tmp_path))
        for name in ("profile_a", "profile_b"):
            (tmp_path / name).mkdir()
        clusters = ClusterManager().load_clusters(init_default_clusters=True)
        assert list(clusters) == ["a:", "b:"]
        assert not clusters["a:"].is_running

    def test_cleaning(self, tmp_path):
        for name in ("security/cluster-x.json", "security/ipcontroller-x-client.json", "log/ipengine-99999999.log"):
            path = tmp_path / name
            path.parent.mkdir(exist_ok=True)
            path.write_text("{}")
        (tmp_path / "security" / "other").touch()
        clean_cluster_files([tmp_path])
        assert [path.name for path in tmp_path.rglob("*") if path.is_file()] == ["other"]


def test_the_launcher_of_the_first_set_is_local_by_default():
    assert Cluster().engine_launcher_class == "local"
    assert LocalEngineSetLauncher.starts_early
