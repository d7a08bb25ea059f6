"""ipcluster as a user runs it: start, list, status, engines, stop, clean; what is printed and the exit codes."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sys
from functools import partial

import pytest

from commands import PATIENCE
from enginery.cli.cluster_look import table
from enginery.client.client import Client
from enginery.config.application import ALREADY_STARTED, ALREADY_STOPPED, NO_CLUSTER, USAGE

real = [pytest.mark.slow, pytest.mark.skipif(sys.platform == "win32", reason="not tried on Windows")]


@pytest.fixture
def home(commands):
    return commands.home


@pytest.fixture
def run(commands):
    """Run ipcluster to its end."""
    return partial(commands.run, "cluster")


@pytest.fixture
def start(commands):
    """Start ipcluster and wait until it has said how to stop it."""
    return partial(commands.start, "cluster", until="ipcluster stop")


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

    def test_start_and_stop(self, run, start, home, commands):
        process = start("start", "-n", "2", "--", "--scheme=lru")
        assert "controller and 2 engines" in process.said
        assert "rc = ipp.Client()" in process.said
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
        assert process.wait() == 0, process.rest()
        assert commands.files() == []

    def test_the_first_generation(self, start, home):
        process = start("-n", "1", "--cluster-id=old", "--profile=x")
        assert "    rc = ipp.Client(profile='x', cluster_id='old')\n" in process.said
        assert "    ipcluster stop --profile=x --cluster-id=old\n" in process.said

    @pytest.mark.parametrize("name", ["SIGINT", "SIGTERM"])
    def test_signals_stop_it(self, start, name, commands):
        process = start("start", "-n", "1")
        process.signal(getattr(signal, name))
        assert process.wait() == 0
        assert f"Stopping on {name}" in process.rest()
        assert commands.files() == []

    def test_daemonized(self, run, home, commands):
        done = run("start", "-n", "1", "--daemonize", "--cluster-id=d")
        assert done.returncode == 0, done.stderr
        assert f"Leaving cluster running: {home}/profile_default/security/cluster-d.json" in done.stdout
        with Client(ipython_dir=home, cluster_id="d") as rc:
            rc.wait_for_engines(1, timeout=PATIENCE)
        assert run("stop", "d").returncode == 0
        assert run("stop", "d").returncode == ALREADY_STOPPED
        assert commands.files() == []

    def test_more_engines(self, run, start, home, commands):
        start("start", "-n", "1")
        more = start("engines", "-n", "2", until="2 engines")
        with Client(ipython_dir=home) as rc:
            rc.wait_for_engines(3, timeout=PATIENCE)
        assert run("stop").returncode == 0
        assert more.wait() == 0
        assert commands.files() == []

    def test_engines_without_a_controller(self, start, home):
        process = start("engines", "--init", "-n", "1", until="1 engine")
        process.signal(signal.SIGHUP)
        assert process.wait() == 0

    def test_a_controller_that_fails(self, run, commands):
        done = run("start", "-n", "1", "--", "--scheme=nonsense")
        assert done.returncode == 1
        assert "nonsense" in done.stderr
        assert "exit code" in done.stderr
        assert "Traceback" not in done.stderr
        assert commands.files() == []

    def test_files_of_a_cluster_that_was_killed_are_cleaned(self, run, start, home, commands):
        process = start("start", "-n", "1", "--cluster-id=k")
        assert run("clean").returncode == 1
        plain = json.loads((home / "profile_default/security/cluster-k.json").read_text())
        for each in (plain["controller"], *plain["engines"]["sets"].values()):
            with contextlib.suppress(ProcessLookupError):  # engines leave when their controller has gone
                os.kill(each["state"]["pid"], signal.SIGKILL)
        process.wait()
        assert run("clean").returncode == 0
        assert commands.files() == []
