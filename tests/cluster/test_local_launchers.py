"""Launchers of this host, with fake programs in the place of controller and engines."""

from __future__ import annotations

import json
import os
import queue
import signal
import sys
from pathlib import Path

import pytest

from enginery.cluster.launchers import local
from enginery.cluster.launchers.base import NotRunning, describe_code
from enginery.cluster.launchers.local import LocalControllerLauncher, LocalEngineSetLauncher, read_line
from enginery.errors import LauncherError
from enginery.net.connection_file import ConnectionInfo

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="fake programs need POSIX signals")

FAKES = str(Path(__file__).with_name("fake_programs.py"))
ENGINE_INFO = ConnectionInfo(kind="engine", url="tcp://127.0.0.1:5", exec_key="hush")


@pytest.fixture
def launch(tmp_path, monkeypatch):
    """Make launchers of fake programs; they are stopped at the end."""
    monkeypatch.setenv("FAKE_MARK", str(tmp_path / "mark"))
    made = []

    def make(behaviour, **kwargs):
        launcher_class = LocalControllerLauncher if "controller" in behaviour else LocalEngineSetLauncher
        command = [sys.executable, FAKES, behaviour]
        which = "controller_cmd" if launcher_class is LocalControllerLauncher else "engine_cmd"
        launcher = launcher_class(**{which: command, "profile_dir": str(tmp_path), "cluster_id": "x", **kwargs})
        launcher.ends = queue.SimpleQueue()
        launcher.on_stop(launcher.ends.put)
        made.append(launcher)
        return launcher

    yield make
    for launcher in made:
        if launcher.state == "running":
            launcher.stop_seconds_until_kill = 0.0
            launcher.stop()


def test_a_controller_is_started_and_stopped(launch):
    launcher = launch("controller")
    assert launcher.state == "before"
    launcher.start()
    infos = launcher.get_connection_info()
    assert infos["client"].pid == infos["engine"].pid == launcher.pid
    assert launcher.running
    assert launcher.poll() is None
    launcher.stop()
    assert launcher.state == "after"
    assert launcher.ends.get(timeout=30)["exit_code"] == 0
    launcher.stop()


def test_what_it_is_told(launch, tmp_path):
    launcher = launch("controller", controller_args=["--ip=*"], owned=True, cluster_file="/c.json")
    assert launcher.args[3:] == [f"--profile-dir={tmp_path}", "--cluster-id=x", "--ip=*"]
    assert launcher.owner_args == [f"--owner-pid={os.getpid()}", "--owner-file=/c.json"]
    assert launcher.get_env() == {"IPP_CLUSTER_ID": "x", "IPP_PROFILE_DIR": str(tmp_path)}
    assert launch("controller").owner_args == []


def test_a_controller_that_fails_says_why_at_once(launch):
    launcher = launch("broken_controller")
    launcher.start()
    with pytest.raises(LauncherError) as caught:
        launcher.get_connection_info(timeout=30)
    assert caught.value.code == 1
    assert "broken_controller" in caught.value.command
    assert "loading the flux capacitor" in caught.value.output
    for words in ("ended before it was ready (exit code 1)", "it is missing", "Command: "):
        assert words in str(caught.value)


def test_a_controller_that_says_nothing_is_given_up(launch):
    launcher = launch("mute_controller")
    launcher.start()
    with pytest.raises(LauncherError, match=r"was not ready within 0\.01 s"):
        launcher.get_connection_info(timeout=0.01)


def test_a_controller_that_does_not_leave_is_killed(launch):
    launcher = launch("stubborn_controller", stop_seconds_until_kill=0.05)
    launcher.start()
    launcher.get_connection_info()
    launcher.stop()
    assert launcher.poll() == -signal.SIGKILL


def test_death_is_noticed_with_signal_and_output(launch):
    launcher = launch("controller")
    launcher.start()
    launcher.get_connection_info()
    launcher.signal(signal.SIGKILL)
    data = launcher.ends.get(timeout=30)
    assert data["exit_code"] == -signal.SIGKILL
    late = queue.SimpleQueue()
    launcher.on_stop(late.put)
    assert late.get(timeout=30) is data


def test_a_launcher_starts_once(launch):
    launcher = launch("controller")
    launcher.start()
    launcher.get_connection_info()
    with pytest.raises(LauncherError, match="make another"):
        launcher.start()


def test_engines_that_start_early_are_told_through_their_input(launch):
    launcher = launch("engines", n=3)
    launcher.start(early=True)
    launcher.connect(ENGINE_INFO)
    launcher.connect(ENGINE_INFO)
    wait_for_mark()
    told = json.loads(launcher.get_output())
    assert ConnectionInfo.from_dict(told["info"]) == ENGINE_INFO
    assert "--n=3" in told["argv"]
    assert "--connection-fd=0" in told["argv"]
    assert "hush" not in " ".join(told["argv"])
    launcher.stop()
    assert launcher.poll() == 0


def test_engines_whose_controller_failed_leave(launch):
    launcher = launch("engines")
    launcher.start(early=True)
    launcher.connect(None)
    assert launcher.ends.get(timeout=30)["exit_code"] == 0


def test_engines_that_know_the_controller_are_told_at_once(launch):
    launcher = launch("engines", connection=ENGINE_INFO)
    launcher.start(2)
    wait_for_mark()
    assert json.loads(launcher.get_output())["info"]["exec_key"] == "hush"
    assert launcher.n == 2


def test_engines_that_find_the_controller_themselves(launch):
    launcher = launch("engines")
    launcher.start()
    wait_for_mark()
    assert "--connection-fd=0" not in json.loads(launcher.get_output())["argv"]
    assert "IPP_CONNECTION_INFO" not in launcher.get_env()


def test_engines_that_fail_say_why(launch):
    launcher = launch("broken_engines", n=2)
    launcher.start(early=True)
    data = launcher.ends.get(timeout=30)
    assert data["exit_code"] == 1
    launcher.connect(ENGINE_INFO)
    error = launcher.failure("ended")
    assert "The set of 2 engines ended (exit code 1)" in str(error)
    assert error.output == "no numpy here"


def test_output_is_removed_on_request(launch):
    launcher = launch("broken_engines")
    launcher.start()
    launcher.ends.get(timeout=30)
    path = launcher.output_file
    assert launcher.get_output(remove=True) == "no numpy here"
    assert not path.exists()
    assert launcher.get_output() == "no numpy here"


def test_two_threads_remove_output_at_the_same_time(launch, monkeypatch):
    """Who stops an engine set, and who hears that it has ended."""
    launcher = launch("broken_engines")
    launcher.start()
    launcher.ends.get(timeout=30)

    def read(path, limit):
        monkeypatch.undo()
        launcher.get_output(remove=True)
        return ""

    monkeypatch.setattr(local, "last_lines", read)
    assert launcher.get_output(remove=True) == "no numpy here"


def test_another_process_takes_over(launch):
    launcher = launch("controller")
    launcher.start()
    launcher.get_connection_info()
    heir = LocalControllerLauncher.from_dict(json.loads(json.dumps(launcher.to_dict())), profile_dir="/p")
    assert heir.running
    assert heir.pid == launcher.pid
    heir.stop()
    assert launcher.ends.get(timeout=30)["exit_code"] == 0
    with pytest.raises(NotRunning, match=str(launcher.pid)):
        LocalControllerLauncher.from_dict(launcher.to_dict())
    with pytest.raises(NotRunning):
        LocalControllerLauncher.from_dict({})


def test_a_line_from_a_pipe():
    for text, expected in ((b"one\n", "one\n"), (b"half", ""), (b"", "")):
        reader, writer = os.pipe()
        os.write(writer, text)
        os.close(writer)
        assert read_line(reader, 10) == expected
        os.close(reader)


def test_codes_in_words():
    assert describe_code(None) == "exit code unknown"
    assert describe_code(3) == "exit code 3"
    assert describe_code(-9) == "killed by SIGKILL"
    assert describe_code(-999) == "killed by signal 999"


def wait_for_mark():
    from enginery.net.profile_paths import wait_for_file

    assert wait_for_file(Path(os.environ["FAKE_MARK"]), 30)
