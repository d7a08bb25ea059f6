"""ipcluster as a user runs it: start, list, status, engines, stop, clean; what is printed and the exit codes."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from commands import Commands
from enginery.cli.cluster_look import table
from enginery.client.client import Client
from enginery.config.application import ALREADY_STARTED, ALREADY_STOPPED, NO_CLUSTER, USAGE
from enginery.errors import EngineError
from waiting import PATIENCE, is_alive

real = [pytest.mark.slow, pytest.mark.skipif(sys.platform == "win32", reason="not tried on Windows")]


@pytest.fixture
def home(tmp_path):
    return tmp_path


@pytest.fixture
def run(home, warm):
    """Run ipcluster to its end in a private IPython folder."""
    commands = Commands(home, warm)

    def run(*argv):
        return commands.run("cluster", *argv)

    return run


@pytest.fixture
def start(home):
    """Start ipcluster and wait until it has said how to stop it; it is made to leave at the end."""
    started = []

    def start(*argv, until="ipcluster stop"):
        process = subprocess.Popen(
            [sys.executable, "-m", "enginery.cluster", *argv],
            env=environment(home),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        started.append(process)
        process.said = []
        for line in process.stdout:
            process.said.append(line)
            if until in line:
                return process
        pytest.fail(f"{argv} ended: {process.said} {process.stderr.read()}")

    yield start
    for process in started:
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=PATIENCE)


def environment(home):
    env = {name: value for name, value in os.environ.items() if not name.startswith("IPP_")}
    return {**env, "IPYTHONDIR": str(home), "PYTHONUNBUFFERED": "1"}


def files_in(folder):
    return sorted(str(path.relative_to(folder)) for path in Path(folder).rglob("*") if not path.is_dir())


class TestWhatIsSaid:
    def test_without_a_subcommand(self, run):
        done = run()
        assert done.returncode == USAGE
        assert "start" in done.stdout

    def test_an_unknown_subcommand(self, run):
        done = run("strat")
        assert done.returncode == USAGE
        assert "no subcommand 'strat'" in done.stderr

    def test_a_misspelt_flag(self, run):
        done = run("start", "--engnes=mpi")
        assert done.returncode == USAGE
        assert "Did you mean --engines?" in done.stderr

    def test_an_unknown_launcher(self, run):
        done = run("start", "--engines=lokal")
        assert done.returncode == 1
        assert "no engine launcher 'lokal'. Did you mean 'local'?" in done.stderr
        assert "Traceback" not in done.stderr

    def test_help(self, run):
        done = run("start", "--help")
        assert done.returncode == 0
        assert "--daemonize" in done.stdout

    def test_nothing_to_stop(self, run):
        done = run("stop", "--cluster-id=nobody")
        assert done.returncode == ALREADY_STOPPED
        assert "no such cluster runs" in done.stderr
        assert run("stop", "--all").returncode == 0

    def test_no_cluster(self, run):
        assert run("list").stdout.split()[:2] == ["PROFILE", "CLUSTER"]
        assert json.loads(run("list", "-o", "json").stdout) == []
        assert run("status").returncode == NO_CLUSTER

    def test_columns(self):
        assert list(table([("A", "LONG", "B"), ("wide", "x", "y")])) == ["A     LONG  B", "wide  x     y"]


class TestRealClusters:
    pytestmark = real

    def test_start_and_stop(self, run, start, home):
        process = start("start", "-n", "2", "--", "--scheme=lru")
        said = "".join(process.said)
        assert "controller and 2 engines" in said
        assert "rc = ipp.Client()" in said
        with Client(ipython_dir=home) as rc:
            rc.wait_for_engines(2, timeout=PATIENCE)
            assert rc[:].apply_sync(int) == [0, 0]
        assert run("start", "-n", "1").returncode == ALREADY_STARTED
        row = run("list").stdout.splitlines()[1].split()
        assert row == ["default", '""', "True", "2", "local"]
        (listed,) = json.loads(run("list", "-o", "json").stdout)
        assert listed["controller"]["state"]["pid"]
        assert run("status").returncode == 0
        assert run("clean").returncode == 1
        done = run("stop")
        assert (done.returncode, done.stdout) == (0, "Stopped cluster 'default:'\n")
        assert process.wait(PATIENCE) == 0
        assert files_in(home) == []

    def test_the_first_generation(self, start, home):
        process = start("-n", "1", "--cluster-id=old", "--profile=x")
        assert "    rc = ipp.Client(profile='x', cluster_id='old')\n" in process.said
        assert "    ipcluster stop --profile=x --cluster-id=old\n" in process.said

    @pytest.mark.parametrize("name", ["SIGINT", "SIGTERM"])
    def test_signals_stop_it(self, start, home, name):
        process = start("start", "-n", "1")
        process.send_signal(getattr(signal, name))
        out, _ = process.communicate(timeout=PATIENCE)
        assert process.returncode == 0
        assert f"Stopping on {name}" in out
        assert files_in(home) == []

    def test_daemonized(self, run, home):
        done = run("start", "-n", "1", "--daemonize", "--cluster-id=d")
        assert done.returncode == 0, done.stderr
        assert f"Leaving cluster running: {home}/profile_default/security/cluster-d.json" in done.stdout
        with Client(ipython_dir=home, cluster_id="d") as rc:
            rc.wait_for_engines(1, timeout=PATIENCE)
        assert run("stop", "d").returncode == 0
        assert run("stop", "d").returncode == ALREADY_STOPPED
        assert files_in(home) == []

    def test_more_engines(self, run, start, home):
        first = start("start", "-n", "1")
        more = start("engines", "-n", "2", until="2 engines")
        with Client(ipython_dir=home) as rc:
            rc.wait_for_engines(3, timeout=PATIENCE)
        assert run("stop").returncode == 0
        assert more.wait(PATIENCE) == 0
        assert first.wait(PATIENCE) == 0
        assert files_in(home) == []

    def test_engines_without_a_controller(self, start, home):
        process = start("engines", "--init", "-n", "1", until="1 engine")
        process.send_signal(signal.SIGHUP)
        assert process.wait(PATIENCE) == 0

    def test_engines_that_are_stopped_before_they_can_tell(self, run, start, home):
        """As good as told: who stops a cluster that is just starting sees no failure."""
        command = [sys.executable, "-c", "import time; time.sleep(60)"]
        process = start("start", "-n", "1", f"--LocalEngineSetLauncher.engine_cmd={command}")
        assert run("stop").returncode == 0
        assert process.wait(PATIENCE) == 0
        assert files_in(home) == []

    def test_a_controller_that_fails(self, run, home):
        done = run("start", "-n", "1", "--", "--scheme=nonsense")
        assert done.returncode == 1
        assert "nonsense" in done.stderr
        assert "exit code" in done.stderr
        assert "Traceback" not in done.stderr
        assert files_in(home) == []

    def test_files_of_a_cluster_that_was_killed_are_cleaned(self, run, start, home):
        process = start("start", "-n", "1", "--cluster-id=k")
        assert run("clean").returncode == 1
        plain = json.loads((home / "profile_default/security/cluster-k.json").read_text())
        for each in (plain["controller"], *plain["engines"]["sets"].values()):
            with contextlib.suppress(ProcessLookupError):  # engines leave when their controller has gone
                os.kill(each["state"]["pid"], signal.SIGKILL)
        process.wait(PATIENCE)
        assert run("clean").returncode == 0
        assert files_in(home) == []

    def test_status_says_who_is_there_and_who_died(self, run, start, home):
        start("start", "-n", "2", until="2 engines are connected")
        assert "2 engines connected; 0 tasks unfinished.\n" in run("status").stdout
        with Client(ipython_dir=home) as rc, pytest.raises(EngineError):
            rc[1].apply_sync(os._exit, 5)
        said = run("status").stdout
        assert "1 engine connected" in said
        assert "Engine 1 died: ended with exit code 5" in said
        told = json.loads(run("status", "-o", "json").stdout)
        assert told["running"] is True
        assert told["now"]["connected"] == [0]

    def test_engines_of_another_command_are_listed_and_leave_with_it(self, run, start):
        first = start("start", "-n", "1", until="1 engine is connected")
        more = start("engines", "-n", "2", until="2 engines are connected")
        assert run("list").stdout.splitlines()[1].split()[2:4] == ["True", "3"]
        more.send_signal(signal.SIGHUP)
        assert more.wait(PATIENCE) == 0
        assert run("list").stdout.splitlines()[1].split()[2:4] == ["True", "1"]
        assert first.poll() is None

    @pytest.mark.parametrize("way", [(), ("--daemonize",)])
    def test_engines_that_fail(self, run, home, way):
        done = run("start", "-n", "2", "--Cluster.engine_args=--IPEngine.startup_script=/no/such/script", *way)
        assert done.returncode == 1
        assert "there is no start-up script '/no/such/script'" in done.stderr
        assert "(exit code 1)" in done.stderr
        assert "Traceback" not in done.stderr
        assert files_in(home) == []

    @pytest.mark.parametrize(("who", "words"), [("controller", "The controller (pid "), ("engines", "Engine set ")])
    def test_a_program_that_is_killed_ends_the_command(self, start, home, who, words):
        process = start("start", "-n", "2", until="2 engines are connected")
        os.kill(pid_of(home, who), signal.SIGKILL)
        _, said = process.communicate(timeout=PATIENCE)
        assert process.returncode == 1
        assert words in said
        assert "died: killed by SIGKILL" in said
        assert "ended (killed by SIGKILL). Everything else was stopped." in said
        assert files_in(home) == []

    def test_engines_that_come_back_do_not_end_the_command(self, start, home):
        process = start("start", "-n", "2", "--Cluster.restart_on_crash=True", until="2 engines are connected")
        with Client(ipython_dir=home) as rc:
            os.kill(pid_of(home, "engines"), signal.SIGKILL)
            assert rc.link.wait_for(lambda: not rc.ids, PATIENCE)
            assert rc.link.wait_for(lambda: len(rc) == 2, PATIENCE)
            assert rc[:].apply_sync(int) == [0, 0]
        assert process.poll() is None

    def test_nothing_outlives_the_command_when_it_is_killed(self, start, home):
        process = start("start", "-n", "2", until="2 engines are connected")
        everybody = processes(home)
        assert len(everybody) >= 5  # controller, host, nanny, engines
        process.kill()
        assert all_gone(everybody)
        assert wait_until(lambda: files_in(home) == [])

    @pytest.mark.parametrize("who", ["controller", "engines"])
    def test_nothing_of_a_cluster_left_alone_outlives_its_parts(self, run, home, who):
        assert run("start", "-n", "2", "--daemonize").returncode == 0
        everybody = processes(home)
        controller = pid_of(home, "controller")
        os.kill(pid_of(home, who), signal.SIGKILL)
        if who == "engines":  # which the controller outlives, for others may come
            assert all_gone([each for each in everybody if each.pid != controller])
            assert "0 engines connected" in run("status").stdout
            assert run("stop").returncode == 0
        else:
            assert all_gone(everybody)
            assert run("status").returncode == NO_CLUSTER
            assert run("stop").returncode == ALREADY_STOPPED
        assert all(path.startswith("profile_default/log/") for path in files_in(home))
        assert run("clean").returncode == 0
        assert files_in(home) == []


def pid_of(home, what, cluster_id=""):
    plain = json.loads((home / f"profile_default/security/cluster-{cluster_id}.json").read_text())
    described = plain["controller"] if what == "controller" else next(iter(plain["engines"]["sets"].values()))
    return described["state"]["pid"]


def processes(home):
    """Every program of the clusters in a folder."""
    found = psutil.process_iter(["cmdline"])
    return [each for each in found if any(str(home) in word for word in each.info["cmdline"] or [])]


def all_gone(everybody):
    """Whether all end in good time. Those that nobody has reaped yet have ended."""
    _, alive = psutil.wait_procs(everybody, timeout=PATIENCE)
    return not any(is_alive(each) for each in alive)


def wait_until(condition):
    """For what nobody can wait for: whether ``condition`` comes true in good time."""
    deadline = time.monotonic() + PATIENCE
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.01)
    return True
