"""Processes and controllers that are there, and those that are gone."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from dataclasses import replace

import pytest

from enginery.net.connection_file import ConnectionInfo
from enginery.net.liveness import is_alive, is_controller_gone, is_controller_there

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="no Unix sockets on Windows")


@pytest.fixture
def gone():
    """The id of a process that has ended."""
    with subprocess.Popen([sys.executable, "-c", ""]) as process:
        process.wait()
    return process.pid


@pytest.fixture
def listening(tmp_path):
    """Info of a controller that listens, in this process."""
    path = tmp_path / "s"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen()
        yield ConnectionInfo(kind="engine", url=f"ipc://{path}", location=socket.gethostname(), pid=os.getpid())


def test_processes(gone):
    assert is_alive(os.getpid())
    assert not is_alive(gone)


def test_a_controller_that_serves(listening, gone):
    assert is_controller_there(listening)
    assert not is_controller_gone(listening)
    assert not is_controller_there(replace(listening, pid=gone)), "its socket is another one's now"
    assert is_controller_gone(replace(listening, pid=gone))


def test_a_process_that_has_the_id_of_a_former_controller(listening):
    other = replace(listening, url="ipc:///nowhere", urls=("ipc:///nowhere",))
    assert not is_controller_there(other)
    assert is_controller_gone(other)


def test_over_tcp(gone):
    with socket.create_server(("127.0.0.1", 0)) as server:
        url = f"tcp://127.0.0.1:{server.getsockname()[1]}"
        assert is_controller_there(ConnectionInfo(kind="client", url=url))
    assert not is_controller_there(ConnectionInfo(kind="client", url=url))


def test_who_cannot_know_does_not_say_gone(listening, gone):
    assert not is_controller_gone(ConnectionInfo(kind="client", url="tcp://127.0.0.1:1"))
    assert not is_controller_gone(replace(listening, pid=gone, location="other.invalid"))
    assert not is_controller_gone(replace(listening, pid=gone, location="other.invalid", ssh="login"))


def test_an_ssh_server_for_others_says_nothing_of_this_host(listening, gone):
    assert is_controller_there(replace(listening, ssh="login"))
    assert not is_controller_there(replace(listening, pid=gone, ssh="login"))
