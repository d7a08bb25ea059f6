"""Launchers for MPI, with a program that stands in for mpiexec."""

from __future__ import annotations

import json
import os
import queue
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from enginery.cluster.launchers.leash import main
from enginery.cluster.launchers.mpi import MPIControllerLauncher, MPIEngineSetLauncher
from enginery.errors import LauncherError
from enginery.net.connection_file import ConnectionInfo
from enginery.net.profile_paths import wait_for_file

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="fake programs need POSIX signals")

FAKES = str(Path(__file__).with_name("fake_programs.py"))
ENGINE_INFO = ConnectionInfo(kind="engine", url="tcp://127.0.0.1:5", exec_key="hush")


@pytest.fixture
def launch(tmp_path, monkeypatch):
    """Make launchers that start fake programs by a fake mpiexec; they are stopped at the end."""
    monkeypatch.setenv("FAKE_MARK", str(tmp_path / "mark"))
    made = []

    def make(behaviour, mpiexec="mpiexec", **kwargs):
        launcher_class = MPIControllerLauncher if "controller" in behaviour else MPIEngineSetLauncher
        which = "controller_cmd" if launcher_class is MPIControllerLauncher else "engine_cmd"
        commands = {which: [sys.executable, FAKES, behaviour], "mpi_cmd": [sys.executable, FAKES, mpiexec]}
        launcher = launcher_class(**{**commands, "profile_dir": str(tmp_path), "cluster_id": "x", **kwargs})
        launcher.ends = queue.SimpleQueue()
        launcher.on_stop(launcher.ends.put)
        made.append(launcher)
        return launcher

    yield make
    for launcher in made:
        if launcher.state == "running":
            launcher.stop_seconds_until_kill = 0.0
            launcher.stop()


def test_the_command_line():
    launcher = MPIEngineSetLauncher(
        n=3, engine_cmd=["ipengine"], profile_dir="/p", cluster_id="x", mpi_args=["--hostfile", "h"], engine_args=["-c"]
    )
    assert (
        launcher.arg_str == "mpiexec -n 3 --hostfile h ipengine --profile-dir=/p --cluster-id=x --mpi --owner-pid=-1 -c"
    )
    launcher.mpi_cmd = ["srun", "--mpi=pmi2"]
    assert launcher.args[:5] == ["srun", "--mpi=pmi2", "-n", "3", "--hostfile"]
    launcher.mpi_args = ["-np", "8"]
    assert launcher.args[:4] == ["srun", "--mpi=pmi2", "-np", "8"]
    controller = MPIControllerLauncher(controller_cmd=["ipcontroller"], profile_dir="/p")
    assert controller.arg_str == "mpiexec -n 1 ipcontroller --profile-dir=/p --owner-pid=-1"
    assert launcher.needs_network
    assert controller.needs_network


def test_keys_go_through_the_environment_to_other_hosts_too(monkeypatch):
    launcher = MPIEngineSetLauncher(connection=ENGINE_INFO, engine_set_id="s", environment={"OMP_NUM_THREADS": "1"})
    environment = launcher.get_env()
    assert json.loads(environment["IPP_CONNECTION_INFO"])["exec_key"] == "hush"
    assert "hush" not in launcher.arg_str
    assert environment["IPP_ENGINE_SET"] == "s"
    passed_on = "OMPI_MCA_mca_base_env_list"
    assert {"IPP_CONNECTION_INFO", "IPP_ENGINE_SET", "OMP_NUM_THREADS"} <= set(environment[passed_on].split(";"))
    assert passed_on not in environment[passed_on]
    monkeypatch.setenv(passed_on, "MINE")
    assert launcher.get_env()[passed_on].startswith("MINE;")


def test_ranks_are_started(launch, tmp_path):
    launcher = launch("rank", engine_set_id="s", connection=ENGINE_INFO)
    launcher.start(3)
    assert wait_for_file(tmp_path / "mark", 30)
    told = json.loads(launcher.get_output())
    assert told["ranks"] == "3"
    assert "--mpi" in told["argv"]
    launcher.stop()
    assert launcher.state == "after"


def test_what_mpiexec_said_is_shown(launch):
    launcher = launch("rank", mpiexec="broken_mpiexec", n=2)
    launcher.start()
    assert launcher.ends.get(timeout=30)["exit_code"] == 213
    error = launcher.failure("ended")
    assert "There are not enough slots available" in str(error)
    assert "The set of 2 engines ended (exit code 213)" in str(error)


def test_no_mpiexec(launch):
    launcher = launch("rank", n=2)
    launcher.mpi_cmd = ["no-such-mpiexec"]
    with pytest.raises(LauncherError, match="Cannot start 'no-such-mpiexec'"):
        launcher.start()


def test_a_controller_reports_through_its_output(launch):
    launcher = launch("controller", owned=True)
    launcher.start()
    infos = launcher.get_connection_info()
    assert infos["client"].url == "tcp://127.0.0.1:5"
    launcher.stop()
    assert launcher.state == "after"
    assert launcher.ends.get(timeout=30)["exit_code"] is not None


def test_a_leash_ends_the_program_with_its_owner(tmp_path):
    litter = tmp_path / "litter"
    litter.touch()
    owner = subprocess.Popen(["sleep", "60"])
    command = ["-m", "enginery.cluster.launchers.leash", f"--owner-pid={owner.pid}", f"--owner-file={litter}", "--"]
    leash = subprocess.Popen([sys.executable, *command, "sleep", "60"], start_new_session=True)
    owner.kill()
    owner.wait()
    assert leash.wait(30) != 0
    assert not litter.exists()


def test_a_leash_without_an_owner_starts_nothing_that_stays(monkeypatch):
    monkeypatch.setattr(os, "killpg", lambda *_: None)
    before = [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)]
    gone = subprocess.Popen(["true"])
    gone.wait()
    try:
        assert main([f"--owner-pid={gone.pid}", "--", "sleep", "60"]) == 128 + signal.SIGTERM
    finally:
        for name in ("SIGHUP", "SIGQUIT", "SIGUSR1", "SIGUSR2", "SIGCONT"):
            signal.signal(getattr(signal, name), signal.SIG_DFL)
        for number, handler in zip((signal.SIGTERM, signal.SIGINT), before, strict=True):
            signal.signal(number, handler)


def test_a_leash_gives_the_program_its_signals_and_returns_its_code():
    command = ["-m", "enginery.cluster.launchers.leash", f"--owner-pid={os.getpid()}", "--"]
    script = "trap 'exit 7' USR1; echo on; while :; do sleep 0.05; done"
    leash = subprocess.Popen([sys.executable, *command, "sh", "-c", script], stdout=subprocess.PIPE)
    assert leash.stdout.readline() == b"on\n"
    leash.send_signal(signal.SIGUSR1)
    assert leash.wait(30) == 7
    leash.stdout.close()
