"""Tunnels by a program that behaves like ssh: what it is told, when a tunnel is up, how it drops, returns and ends."""

from __future__ import annotations

import logging
import os
import signal
import socket
import stat
import subprocess
import sys
import textwrap
import threading
from pathlib import Path

import pytest

from enginery.controller.options import ControllerOptions
from enginery.errors import TunnelError
from enginery.net import tunnel as tunnels
from enginery.net.addresses import TUNNEL, endpoints_to_try, quoted, runtime_base
from enginery.net.channel import ChannelClosed
from enginery.net.connection_file import ConnectionInfo
from enginery.net.routed import Router, new_context
from enginery.net.sockets import dial
from enginery.net.ssh_server import Server
from enginery.net.tunnel import through
from ssh_fixture import FakeSsh

PATIENCE = 30
pytestmark = pytest.mark.skipif(not hasattr(socket, "AF_UNIX"), reason="tunnels need Unix sockets")


@pytest.fixture
def fake_ssh(tmp_path, monkeypatch):
    return FakeSsh(tmp_path, monkeypatch)


@pytest.fixture
def echo():
    """A server on loopback that gives back what it gets; its port."""
    listener = socket.create_server(("127.0.0.1", 0))

    def serve():
        while True:
            try:
                peer, _ = listener.accept()
            except OSError:
                return
            with peer:
                peer.sendall(b"!")
                while data := peer.recv(100):
                    peer.sendall(data)

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    yield listener.getsockname()[1]
    listener.shutdown(socket.SHUT_RDWR)
    listener.close()
    thread.join(PATIENCE)


def info(port=5, **more):
    return ConnectionInfo("client", f"tcp://127.0.0.1:{port}", **{"location": "far.example", "ssh": "far", **more})


def talk(path):
    with socket.socket(socket.AF_UNIX) as peer:
        peer.settimeout(PATIENCE)
        peer.connect(path)
        assert peer.recv(1) == b"!"
        peer.sendall(b"hello")
        return peer.recv(5)


def test_a_tunnel_from_the_first_to_the_last_user(fake_ssh, echo, tmp_path):
    key = tmp_path / "key"
    key.touch()
    reached, tunnel = through(info(echo), "me@far:2222", key=key, timeout=PATIENCE)
    path = tunnel.path
    assert endpoints_to_try(reached) == [f"{TUNNEL}{path}"]
    assert quoted(reached) == f"tcp://127.0.0.1:{echo} through ssh server me@far:2222"
    assert talk(path) == b"hello"
    assert stat.S_IMODE(Path(path).parent.stat().st_mode) == 0o700
    (call,) = fake_ssh.calls
    assert call["argv"][:2] == ["-N", "-T"]
    assert (
        call["argv"][-9:]
        == [
            *("-i", str(key), "-l", "me", "-p", "2222"),
            *("-L", f"{path}:127.0.0.1:{echo}", "--", "far"),
        ][1:]
    )
    assert {"BatchMode=yes", "ExitOnForwardFailure=yes"} < set(call["argv"])
    again, same = through(info(echo), "me@far:2222", key=key, timeout=PATIENCE)
    assert (again, same) == (reached, tunnel)
    other = through(info(echo), "far", timeout=PATIENCE)[1]
    assert other.path != path
    other.release()
    same.release()
    assert talk(path) == b"hello"
    tunnel.release()
    assert fake_ssh.is_gone(call["pid"])
    assert not Path(path).parent.exists()
    assert not tunnels._tunnels


def test_options_of_the_user_come_before_ours(monkeypatch):
    """ssh takes the first value it is given, and ours notice a cut cable within the patience of a controller."""
    monkeypatch.setenv(tunnels.PROGRAM, "ssh -o ServerAliveInterval=60")
    command = tunnels.Tunnel(Server("far"), "127.0.0.1", 5, "").command()
    given = [each.partition("=")[2] for each in command if each.startswith("ServerAliveInterval=")]
    assert given[0] == "60"
    options = tunnels.OPTIONS
    assert int(given[1]) * (int(options["ServerAliveCountMax"]) + 1) < ControllerOptions(Path()).reconnect


@pytest.mark.parametrize(
    ("said", "advice"),
    [
        ("root@far: Permission denied (publickey).", "ssh-add"),
        ("ssh: Could not resolve hostname far: Name or service not known", "~/.ssh/config"),
        ("Host key verification failed.", "known_hosts"),
        ("ssh: connect to host far port 22: Connection refused", "server:port"),
        ("ssh: connect to host far port 22: Connection timed out", "ProxyJump"),
        ("something new", "`ssh far true` must work"),
    ],
)
def test_what_ssh_said_and_what_to_do(fake_ssh, said, advice):
    fake_ssh.tell(f"refuse {said}")
    with pytest.raises(TunnelError) as caught:
        through(info(), "far", timeout=PATIENCE)
    assert str(caught.value).startswith(f"ssh to far failed: {said.rstrip('.')}. ")
    assert advice in str(caught.value)
    assert not tunnels._tunnels
    assert not list(runtime_base().glob("ssh-*"))


def test_one_that_does_not_log_in_is_given_up(fake_ssh):
    fake_ssh.tell("hang")
    with pytest.raises(TunnelError, match="ssh to far failed: it was not there within 0.5 s"):
        through(info(), "far", timeout=0.5)
    assert fake_ssh.is_gone(fake_ssh.pid)


def test_no_ssh_and_no_key(fake_ssh, monkeypatch):
    with pytest.raises(TunnelError, match="There is no key file '/no/key'"):
        through(info(), "far", key="/no/key")
    monkeypatch.setenv("ENGINERY_SSH", "ssh 'half")
    with pytest.raises(TunnelError, match="it could not be started: No closing quotation"):
        through(info(), "far")
    monkeypatch.setenv("ENGINERY_SSH", "/no/ssh -v")
    with pytest.raises(
        TunnelError, match=r"no program '/no/ssh'; install OpenSSH's client, or name it in \$ENGINERY_SSH"
    ):
        through(info(), "far")


def test_a_dropped_tunnel_is_made_anew(fake_ssh, echo, caplog):
    caplog.set_level(logging.WARNING)
    tunnel = through(info(echo), "far", timeout=PATIENCE)[1]
    fake_ssh.kill()
    assert tunnel.why_down() == "The ssh tunnel through far dropped: it was ended by signal 9."
    tunnel.wait_until_up(PATIENCE)
    assert tunnel.drops == 1
    assert len(fake_ssh.calls) == 2
    assert talk(tunnel.path) == b"hello"
    # While it cannot be made anew, that is an error for those who wait, but not the end.
    fake_ssh.tell("refuse Permission denied (publickey).")
    fake_ssh.kill()
    tunnel.why_down()
    with pytest.raises(TunnelError, match="Permission denied"):
        tunnel.wait_until_up(1)
    fake_ssh.tell("")
    assert through(info(echo), "far", timeout=PATIENCE)[1] is tunnel
    assert talk(tunnel.path) == b"hello"
    tunnel.release()
    tunnel.release()
    said = [record.getMessage() for record in caplog.records]
    assert "The ssh tunnel through far dropped: it was ended by signal 9. It is made anew." in said
    assert said[-1] == "The ssh tunnel through far is up again."


def test_the_socket_and_its_folder_may_be_swept_while_it_is_down(fake_ssh, echo):
    tunnel = through(info(echo), "far", timeout=PATIENCE)[1]
    Path(tunnel.path).unlink()
    Path(tunnel.path).parent.rmdir()
    fake_ssh.kill()
    tunnel.why_down()
    tunnel.wait_until_up(PATIENCE)
    assert talk(tunnel.path) == b"hello"
    tunnel.release()


def test_it_ends_with_its_owner_and_what_that_left_is_swept(fake_ssh, echo):
    code = f"""
        import sys
        from enginery.net.connection_file import ConnectionInfo
        from enginery.net.tunnel import through
        _, tunnel = through(ConnectionInfo("client", "tcp://127.0.0.1:{echo}", location="far.example"), "far")
        print(tunnel.path, flush=True)
        sys.stdin.read()
    """
    owner = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(code)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    with owner:
        path = Path(owner.stdout.readline().strip())
        assert talk(str(path)) == b"hello"
        owner.kill()
    assert fake_ssh.is_gone(fake_ssh.pid)
    assert path.exists()
    through(info(echo), "far", timeout=PATIENCE)[1].release()
    assert not path.parent.exists()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork")
def test_a_forked_child_leaves_it_alone(fake_ssh, echo):
    code = f"""
        import os
        from enginery.net.connection_file import ConnectionInfo
        from enginery.net import tunnel as tunnels
        info = ConnectionInfo("client", "tcp://127.0.0.1:{echo}", location="far.example")
        _, tunnel = tunnels.through(info, "far")
        if os.fork() == 0:
            tunnel.release()
            tunnels._close_all()
            os._exit(0)
        os.wait()
        print(tunnel._process.poll(), os.path.exists(tunnel.path))
        tunnel.release()
        print(os.path.exists(tunnel.path))
    """
    command = [sys.executable, "-W", "ignore", "-c", textwrap.dedent(code)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, check=True)
    assert done.stdout.split() == ["None", "True", "False"]


def test_a_controller_that_comes_later_is_waited_for_and_the_end_of_the_tunnel_is_told(fake_ssh):
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    reached, tunnel = through(info(port), "far", timeout=PATIENCE)
    channel = dial(reached)
    channel.send(b"hello", [])
    # Refused through the tunnel, which does not end the channel: it is dialled again.
    while "open failed" not in tunnel.trouble():
        assert list(channel.receive()) == []
    assert f"ssh server far cannot reach the controller at 127.0.0.1:{port}" in tunnel.trouble()
    assert "ipcontroller --ip" in tunnel.trouble()
    context = new_context()
    router = Router(context, f"tcp://127.0.0.1:{port}", domain="x", keys=None)
    assert router._socket.poll(PATIENCE * 1000)
    ((sender, header, _),) = list(router.receive())
    assert bytes(header) == b"hello"
    router.send(sender, b"welcome", [])
    assert channel._socket.poll(PATIENCE * 1000)
    assert [bytes(header) for header, _ in channel.receive()] == [b"welcome"]
    os.kill(fake_ssh.pid, signal.SIGKILL)
    assert channel._monitor.poll(PATIENCE * 1000)
    with pytest.raises(ChannelClosed, match="The ssh tunnel through far dropped: it was ended by signal 9"):
        list(channel.receive())
    channel.close(0)
    router.close(0)
    context.term()
    tunnel.release()
