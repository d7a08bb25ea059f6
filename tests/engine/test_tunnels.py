"""The process that keeps a host's tunnel: what it tells, how it ends, and that engines return with the tunnel."""

from __future__ import annotations

import dataclasses
import logging
import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from enginery.engine import children, tunnels
from enginery.engine.options import EngineOptions
from enginery.engine.tunnels import run_through_tunnel
from enginery.errors import TunnelError
from enginery.net.addresses import TUNNEL, runtime_base
from enginery.net.connection_file import ConnectionInfo
from ssh_fixture import FakeSsh

PATIENCE = 30
pytestmark = [pytest.mark.slow, pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork")]


@pytest.fixture
def fake_ssh(tmp_path, monkeypatch):
    return FakeSsh(tmp_path, monkeypatch)


@pytest.fixture(params=["kept", "own"])
def keeping(request, monkeypatch):
    """Both ways: a child keeps the tunnel, or a thread of this process."""
    monkeypatch.setattr(children, "can_fork", lambda: request.param == "kept")
    return request.param


def options(**more):
    info = ConnectionInfo("engine", "tcp://127.0.0.1:9", location="far.example", ssh="far")
    return EngineOptions(connection=info, timeout=0.1, max_misses=20, **more)


def through(options, run, monkeypatch):
    monkeypatch.setattr(tunnels, "run", run)
    return run_through_tunnel(options, "far", "")


def test_engines_are_told_the_local_end_and_nothing_is_left(fake_ssh, keeping, monkeypatch):
    seen = []

    def run(options, *, again):
        (url,) = options.connection.urls
        assert Path(url.removeprefix(TUNNEL)).is_socket()
        assert os.path.exists(f"/proc/{fake_ssh.pid}")
        seen.append(again())
        return 7

    assert through(options(), run, monkeypatch) == 7
    assert seen == [False]
    assert fake_ssh.is_gone(fake_ssh.pid)
    assert not list(runtime_base().glob("ssh-*"))


def test_they_start_anew_when_a_dropped_tunnel_is_up_again(fake_ssh, keeping, monkeypatch, caplog):
    caplog.set_level(logging.INFO)
    seen = []

    def run(options, *, again):
        for _ in range(2):
            fake_ssh.kill()
            seen.append(again())
        fake_ssh.tell("refuse Permission denied (publickey).")
        fake_ssh.kill()
        seen.append(again())
        return 0

    assert through(options(), run, monkeypatch) == 0
    assert seen == [True, True, False]
    assert "the engines have lost the controller with the tunnel through far" in caplog.text
    assert "the engines are not started anew: The ssh tunnel through far dropped: Permission denied" in caplog.text


def test_under_mpi_an_engine_has_one_life(fake_ssh, keeping, monkeypatch):
    assert through(options(use_mpi=True), lambda options, *, again: again is None, monkeypatch)


def test_what_ssh_said_when_it_did_not_get_through(fake_ssh, keeping, monkeypatch):
    fake_ssh.tell("refuse Permission denied (publickey).")
    with pytest.raises(TunnelError, match=r"ssh to far failed: Permission denied \(publickey\)"):
        through(options(), None, monkeypatch)
    with pytest.raises(ValueError, match="'a b' is no ssh server"):
        run_through_tunnel(options(), "a b", "")


def test_a_killed_keeper_is_told_of(fake_ssh, monkeypatch):
    monkeypatch.setattr(children, "can_fork", lambda: True)
    kept = tunnels._keep(options(), "far", "", PATIENCE)
    os.kill(kept._pid, signal.SIGKILL)
    assert kept.drops() == -1
    assert "has ended" in kept.wait(1) or "Broken pipe" in kept.wait(1)
    kept.close()
    assert fake_ssh.is_gone(fake_ssh.pid)


def test_who_waits_for_the_tunnel_notices_the_end_of_its_owner(fake_ssh, monkeypatch, caplog):
    monkeypatch.setattr(children, "can_fork", lambda: True)
    owner = subprocess.Popen(["sleep", "600"])

    def run(options, *, again):
        fake_ssh.tell("refuse Permission denied (publickey).")
        fake_ssh.kill()
        owner.kill()
        return again()

    with owner:
        more = options(owner_pid=owner.pid)
        assert through(dataclasses.replace(more, timeout=10), run, monkeypatch) is False
    assert "the owner (pid" in caplog.text
    assert not list(runtime_base().glob("ssh-*"))  # the keeper left by itself, though it was waiting


def test_nothing_outlives_a_killed_host(fake_ssh):
    code = """
        import os, signal
        from enginery.engine import tunnels
        from enginery.engine.options import EngineOptions
        from enginery.net.connection_file import ConnectionInfo
        info = ConnectionInfo("engine", "tcp://127.0.0.1:9", location="far.example")
        kept = tunnels._keep(EngineOptions(connection=info), "far", "", 30)
        child = os.fork()  # as user code may: it holds the host's end of the channel
        if child == 0:
            signal.pause()
        print(kept._pid, child, flush=True)
        os.kill(os.getpid(), signal.SIGKILL)
    """
    with subprocess.Popen([sys.executable, "-c", textwrap.dedent(code)], stdout=subprocess.PIPE, text=True) as host:
        keeper, child = map(int, host.stdout.readline().split())
    try:
        assert fake_ssh.is_gone(keeper)
        assert fake_ssh.is_gone(fake_ssh.pid)
        assert not list(runtime_base().glob("ssh-*"))
    finally:
        os.kill(child, signal.SIGKILL)
