"""Processes of this host: started, adopted, watched, signalled, killed with all they started."""

from __future__ import annotations

import os
import queue
import signal
import subprocess
import sys

import pytest

from enginery.cluster.launchers import process as processes
from enginery.cluster.launchers.process import LocalProcess
from enginery.errors import LauncherError

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="signals and sessions of POSIX")

WAIT = "import sys; print('here', flush=True); sys.stdin.read()"


def start(code, tmp_path, **kwargs):
    ended = queue.SimpleQueue()
    process = LocalProcess.start([sys.executable, "-c", code], environment={}, output=tmp_path / "out", **kwargs)
    process.watch(ended.put)
    return process, ended


def test_the_end_is_noticed_with_its_code(tmp_path):
    process, ended = start("raise SystemExit(3)", tmp_path)
    assert ended.get(timeout=30) == 3
    assert process.code == 3
    assert not process.is_running


def test_a_killing_signal_is_noticed(tmp_path):
    process, ended = start(WAIT, tmp_path, pipe_stdin=True)
    process.signal(signal.SIGKILL)
    assert ended.get(timeout=30) == -signal.SIGKILL
    process.signal(signal.SIGKILL)
    process.stdin.close()


def test_it_is_asked_to_leave_once(tmp_path):
    code = (
        "import signal, sys\n"
        "signal.signal(signal.SIGTERM, lambda *_: print('asked', flush=True))\n"
        "print('here', flush=True)\n"
        "sys.stdin.read()\n"
    )
    reader, writer = os.pipe()
    process, ended = start(code, tmp_path, pipe_stdin=True, stdout=writer)
    os.close(writer)
    with os.fdopen(reader) as said:
        assert said.readline() == "here\n"
        process.terminate()
        assert said.readline() == "asked\n"
        process.terminate()
        process.stdin.close()
        assert said.read() == ""
    assert ended.get(timeout=30) == 0


def test_output_goes_to_the_file_and_environment_to_the_process(tmp_path):
    process = LocalProcess.start(
        [sys.executable, "-c", "import os, sys; print(os.environ['X']); sys.stderr.write('bad\\n')"],
        environment={"X": "7"},
        output=tmp_path / "out",
    )
    ended = queue.SimpleQueue()
    process.watch(ended.put)
    ended.get(timeout=30)
    assert sorted(processes.last_lines(tmp_path / "out", 5).split()) == ["7", "bad"]
    assert processes.last_lines(tmp_path / "out", 1).split() in (["7"], ["bad"])
    assert processes.last_lines(tmp_path / "none", 1) == ""


def test_it_has_a_session_of_its_own(tmp_path):
    process, ended = start(WAIT, tmp_path, pipe_stdin=True)
    assert os.getsid(process.pid) == process.pid != os.getsid(0)
    process.stdin.close()
    assert ended.get(timeout=30) == 0


def test_no_such_program(tmp_path):
    with pytest.raises(LauncherError, match="no-such-program") as caught:
        LocalProcess.start(["no-such-program", "-x"], environment={}, output=tmp_path / "out")
    assert caught.value.command == ["no-such-program", "-x"]


def test_no_place_for_output(tmp_path):
    with pytest.raises(LauncherError, match="nowhere"):
        LocalProcess.start([sys.executable], environment={}, output=tmp_path / "nowhere" / "out")


def test_killing_takes_the_whole_session(tmp_path):
    code = (
        "import os, signal, sys\n"
        "signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
        "child = os.fork()\n"
        "os.write(1, b'parent\\n' if child else b'child\\n')\n"
        "sys.stdin.read()\n"
        "signal.pause()\n"
    )
    reader, writer = os.pipe()
    process, ended = start(code, tmp_path, pipe_stdin=True, stdout=writer)
    os.close(writer)
    with os.fdopen(reader) as said:
        assert {said.readline() for _ in range(2)} == {"parent\n", "child\n"}
        assert len(process.children()) == 1
        process.kill()
        # The pipe ends once both are gone.
        assert said.read() == ""
    assert ended.get(timeout=30) == -signal.SIGKILL
    process.stdin.close()


def test_a_strangers_end_is_noticed():
    with subprocess.Popen([sys.executable, "-c", WAIT], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as popen:
        popen.stdout.readline()
        process = LocalProcess.adopt(popen.pid, processes.birth(popen.pid))
        ended = queue.SimpleQueue()
        process.watch(ended.put)
        assert process.is_running
        popen.stdin.close()
        assert ended.get(timeout=30) is None
        assert process.wait(30)


def test_the_end_of_a_stranger_that_is_gone():
    with subprocess.Popen([sys.executable, "-c", ""]) as popen:
        popen.wait()
    processes.wait_for_stranger(popen.pid)


def test_another_process_with_the_same_id_is_not_adopted():
    mine = processes.birth(os.getpid())
    assert mine is not None
    assert LocalProcess.adopt(os.getpid(), mine + 1) is None
    assert LocalProcess.adopt(os.getpid(), mine) is not None


def test_a_dead_process_has_no_birth():
    with subprocess.Popen([sys.executable, "-c", ""]) as popen:
        os.waitid(os.P_PID, popen.pid, os.WEXITED | os.WNOWAIT)
        assert processes.birth(popen.pid) is None, "a zombie is gone"
        popen.wait()
    assert processes.birth(popen.pid) is None


def test_children_of_nobody():
    with subprocess.Popen([sys.executable, "-c", ""]) as popen:
        popen.wait()
    assert processes.children_of(popen.pid) == []
