"""What commands say of mistakes: the real commands, their exit codes, the value at fault and what to do about it."""

from __future__ import annotations

import json
import signal
import socket
import sys

import pytest

from commands import Commands
from enginery.client.client import Client
from enginery.cluster.cluster import Cluster
from enginery.cluster.launchers.local import LocalEngineSetLauncher
from enginery.cluster.registry import find_launcher_class
from enginery.config.application import ALREADY_STARTED, ALREADY_STOPPED, USAGE
from enginery.net.connection_file import load
from enginery.net.profile_paths import connection_path
from enginery.net.start_lock import StartLock
from waiting import wait_until

pytestmark = [pytest.mark.slow, pytest.mark.skipif(sys.platform == "win32", reason="not tried on Windows")]


@pytest.fixture(scope="module")
def idle(tmp_path_factory, warm):
    """Commands that start nothing."""
    return Commands(tmp_path_factory.mktemp("idle"), warm)


IMPOSSIBLE = [
    ("controller", "--shceme=lru", ["--shceme", "--scheme"]),
    ("engine", "--fil=x", ["--fil", "--file"]),
    ("cluster", "--IPClusterStart.daemonise=1", ["daemonise", "daemonize"]),
    ("controller", "--scheme=fastest", ["fastest", "leastload"]),
    ("controller", "--client-port=70000", ["70000", "65535", "--client-port"]),
    ("controller", "--ports=web", ["web", "10101"]),
    ("controller", "--transport=epgm", ["epgm", "tcp", "ipc"]),
    ("controller", "--ping=soon", ["soon", "HeartMonitor", "period", "float"]),
    ("controller", "--hwm=some", ["some", "hwm", "int"]),
    ("controller", "--log-level=loud", ["LOUD", "DEBUG"]),
    ("controller", "--cluster-id=a/b", ["a/b", "--cluster-id"]),
    ("engine", "--cluster-id=a/b", ["a/b", "--cluster-id"]),
    ("cluster", "--cluster-id=a/b", ["a/b", "--cluster-id"]),
    ("controller", "--profile=a/b", ["a/b", "--profile-dir"]),
    ("controller", "--config=/nowhere/c.py", ["/nowhere/c.py", "--config"]),
    ("engine", "--work-dir=/nowhere", ["/nowhere", "--work-dir"]),
    ("engine", "--file=/tmp", ["/tmp", "folder", "security"]),
    ("engine", "--n=0", ["IPEngine", "n", "0"]),
    ("controller", "--keyfile=/nowhere", ["/nowhere", "--keyfile"]),
    ("controller", "--url=tcp://*:nonsense", ["nonsense", "10101", "--url"]),
    ("cluster", "--engines=lokal", ["lokal", "local"]),
    ("cluster", "--engines=no.such.Launcher", ["--engines=no.such.Launcher", "No module named"]),
    ("cluster", "--Cluster.n=many", ["many", "int"]),
    ("logger", "--url=tcp://127.0.0.1:99999", ["99999", "tcp://127.0.0.1:20202"]),
]
#: Runs commands, each in a process of its own, which has what they import from its parent.
RUN_ALL = """
import json, os, sys
from enginery.cli import cluster_start, ipcluster, ipcontroller, ipengine, iplogger
for program, *argv in json.load(sys.stdin):
    read, write = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.dup2(write, 2)
        os.close(write)
        sys.argv = [program, *argv]
        sys.exit(sys.modules["enginery.cli.ip" + program].main())
    os.close(write)
    with open(read) as said:
        text = said.read()
    print(json.dumps([os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), text]), flush=True)
"""


@pytest.fixture(scope="module")
def outcomes(idle):
    """Of each command with an impossible argument, the exit code and what it says on stderr."""
    commands = [[program, *(["start"] if program == "cluster" else []), word] for program, word, _ in IMPOSSIBLE]
    done = idle.run_code(RUN_ALL, json.dumps(commands))
    assert done.returncode == 0, done.stderr
    return {row[:2]: json.loads(line) for row, line in zip(IMPOSSIBLE, done.stdout.splitlines(), strict=True)}


@pytest.mark.parametrize(("program", "argument", "words"), IMPOSSIBLE)
def test_impossible_arguments(outcomes, program, argument, words):
    code, said = outcomes[program, argument]
    assert code in {1, USAGE}
    assert all(word in said for word in words), said
    assert "Traceback" not in said


def test_profiles_that_cannot_be_made(idle, tmp_path):
    (tmp_path / "file").touch()
    for program, argv in (("cluster", ["start"]), ("controller", []), ("engine", [])):
        done = idle.run(program, *argv, f"--profile-dir={tmp_path}/file/profile")
        assert done.returncode == 1
        assert f"{tmp_path}/file/profile" in done.stderr
        assert "--profile-dir" in done.stderr
        assert "Traceback" not in done.stderr


def test_files_that_cannot_be_written(commands):
    (commands.profile() / "security").mkdir(parents=True)
    (commands.profile() / "security" / "ipcontroller-client.json").mkdir()
    done = commands.run("controller")
    assert done.returncode == 1
    assert "ipcontroller-client.json" in done.stderr
    assert "Traceback" not in done.stderr
    (commands.profile() / "ipcluster_config.py").mkdir()
    done = commands.run("cluster", "start", "--generate-config", "--BaseIPythonApplication.overwrite=True")
    assert done.returncode == 1
    assert "ipcluster_config.py" in done.stderr


def test_a_configuration_file_that_fails(commands):
    commands.configure("ipcontroller", "c.IPController.ip = nonsense")
    done = commands.run("controller")
    assert done.returncode == 1
    assert "ipcontroller_config" in done.stderr
    assert "name 'nonsense' is not defined" in done.stderr
    commands.configure("ipcontroller", "c.TaskScheduler.scheme_name = 'fastest'")
    done = commands.run("controller")
    assert done.returncode in {1, USAGE}
    assert "fastest" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_port_in_use(idle):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        for option in ("--client-port", "--engine-port"):
            done = idle.run("controller", f"{option}={port}")
            assert done.returncode == 1
            assert f"{port}: Address already in use" in done.stderr
            assert "Choose another port" in done.stderr


def test_a_damaged_connection_file(commands):
    commands.controller()
    path = connection_path(commands.profile(), "engine")
    whole = path.read_text()
    for text, word in (("", "JSON"), (whole[:40], "JSON"), ('{"url": 5}', "'kind'"), ("[1]", "list")):
        path.write_text(text)
        done = commands.run("engine")
        assert done.returncode == 1
        assert str(path) in done.stderr
        assert word in done.stderr
        assert "Traceback" not in done.stderr


def test_a_controller_where_another_is_just_being_started(commands):
    path = connection_path(commands.profile(), "client")
    lock = StartLock(path.with_name(f"{path.name}.lock"))
    done = commands.run("controller")
    assert done.returncode == ALREADY_STARTED
    assert f"{str(path)!r} is just being started" in done.stderr
    assert "--cluster-id" in done.stderr
    lock.release()
    commands.controller()
    wait_until(lambda: not lock.path.exists())


def test_two_controllers_in_one_profile(commands):
    first = commands.controller()
    for program, argv in (("controller", []), ("cluster", ["start", "-n", "1"])):
        done = commands.run(program, *argv)
        assert done.returncode == ALREADY_STARTED
        assert f"pid {first.pid}" in done.stderr
        assert "--cluster-id" in done.stderr
    beside = commands.controller("--cluster-id=b")
    with Client(ipython_dir=commands.home) as rc:
        assert rc.link.info.pid == first.pid
    first.signal(signal.SIGKILL)
    first.wait()
    third = commands.controller()
    with Client(ipython_dir=commands.home) as rc:
        assert rc.link.info.pid == third.pid
    with Client(ipython_dir=commands.home, cluster_id="b") as rc:
        assert rc.link.info.pid == beside.pid


def test_a_stale_connection_file(commands):
    killed = commands.controller()
    killed.signal(signal.SIGKILL)
    killed.wait()
    engine = commands.run("engine", "--IPEngine.wait_for_url_file=0.2")
    assert engine.returncode == 1
    assert f"pid {killed.pid}" in engine.stderr
    assert "Start a controller" in engine.stderr
    with pytest.raises(TimeoutError, match=f"pid {killed.pid}.*is gone.*ipcluster list"):
        Client(ipython_dir=commands.home)


def test_an_engine_that_came_before_the_new_controller(commands):
    killed = commands.controller()
    killed.signal(signal.SIGKILL)
    killed.wait()
    engine = commands.start("engine", until="Waiting")
    commands.controller()
    assert "Completed registration with id 0" in engine.read_until("Completed registration")


def test_an_engine_that_came_before_a_controller_that_reuses_its_files(commands):
    first = commands.controller("--reuse")
    first.end()
    engine = commands.start("engine", "--timeout=0.3", until="still trying")
    commands.controller("--reuse")
    assert "Completed registration with id 0" in engine.read_until("Completed registration")


def test_files_of_a_controller_on_another_port(commands):
    """Somebody else listens on the port of a controller that is gone."""
    commands.controller("--reuse").end()
    path = connection_path(commands.profile(), "client")
    info = load(path)
    (url,) = [url for url in info.urls if url.startswith("tcp://")]
    with socket.create_server(("127.0.0.1", int(url.rpartition(":")[2]))):
        done = commands.run("controller", "--reuse")
    assert done.returncode == 1
    assert "Address already in use" in done.stderr


def test_nothing_to_stop(idle):
    done = idle.run("cluster", "stop", "nobody")
    assert done.returncode == ALREADY_STOPPED
    assert "nobody" in done.stderr
    assert "no such cluster runs" in done.stderr


def test_launchers_of_earlier_generations(idle):
    for path in ("IPython.parallel.apps.launcher", "ipyparallel.cluster.launcher"):
        assert find_launcher_class(f"{path}.LocalEngineSetLauncher", "engine") is LocalEngineSetLauncher
    done = idle.run("cluster", "start", "-n", "1", "--engines=IPython.parallel.apps.launcher.NoEngineSetLauncher")
    assert done.returncode == 1
    assert "Known are" in done.stderr
    assert "Traceback" not in done.stderr


def test_from_python(tmp_path):
    with pytest.raises(ValueError, match="no engine launcher 'nonsense'.*Known are"):
        Cluster(engines="nonsense", n=1, profile_dir=str(tmp_path)).start_cluster_sync()
    with pytest.raises(ValueError, match="no controller launcher 'nonsense'"):
        Cluster(controller="nonsense", n=1, profile_dir=str(tmp_path)).start_cluster_sync()
    with pytest.raises(ValueError, match="'a/b' is no cluster id"):
        Client(cluster_id="a/b")
    with pytest.raises(IsADirectoryError, match="security"):
        Client(tmp_path)
    assert not list(tmp_path.rglob("*.json"))


def test_the_form_without_a_subcommand(commands):
    done = commands.run("cluster", "-n", "1", "--daemonize")
    try:
        assert done.returncode == 0
        assert "understood as `ipcluster start -n 1 --daemonize`" in done.stderr
    finally:
        assert commands.run("cluster", "stop").returncode == 0


def test_default_configuration_files_are_written_and_used(commands):
    done = commands.run("cluster", "start", "--profile=x", "--generate-config")
    assert done.returncode == 0, done.stderr
    for command, setting in (
        ("ipcluster", "Cluster.n"),
        ("ipcontroller", "IPController.ip"),
        ("ipengine", "IPEngine.n"),
    ):
        assert f"# c.{setting} =" in (commands.profile("x") / f"{command}_config.py").read_text()
        assert command in done.stdout
    again = commands.run("cluster", "start", "--profile=x", "--generate-config")
    assert again.returncode == 1
    assert "overwrite" in again.stderr
    assert commands.run("cluster", "start", "--profile=x", "-n", "2", "--daemonize").returncode == 0
    assert commands.run("cluster", "stop", "--profile=x").returncode == 0
