"""Which ssh server is meant and needed, and where its tunnel leads."""

from __future__ import annotations

import socket

import pytest

from enginery.errors import TunnelError
from enginery.net.connection_file import ConnectionInfo
from enginery.net.ssh_server import Server, check_arguments, parse_server, server_for, target_of


def info(port=5, **more):
    return ConnectionInfo("client", f"tcp://127.0.0.1:{port}", **{"location": "far.example", "ssh": "far", **more})


@pytest.mark.parametrize(
    ("text", "server"),
    [
        ("login", Server("login")),
        ("me@login.example.org:2222", Server("login.example.org", "me", 2222)),
        ("me@corp@login", Server("login", "me@corp")),
        ("10.0.0.1:22", Server("10.0.0.1", "", 22)),
        ("[fe80::1]:22", Server("fe80::1", "", 22)),
        ("fe80::1", Server("fe80::1")),
    ],
)
def test_servers(text, server):
    assert parse_server(text) == server
    assert parse_server(str(server)) == server


@pytest.mark.parametrize(
    "text",
    ["", "@login", "me@", "login:", "login:x", "login:0", "login:70000", "-oProxyCommand=x", "-l@login", "a b", "[::1"],
)
def test_what_is_no_server(text):
    with pytest.raises(ValueError, match=r"is no ssh server; expected \[user@\]server\[:port\]"):
        parse_server(text)


def test_what_openssh_cannot_do_is_refused_with_what_to_do():
    check_arguments()
    check_arguments("", paramiko=False)
    with pytest.raises(ValueError, match="ssh-copy-id"):
        check_arguments("secret")
    with pytest.raises(ValueError, match="OpenSSH"):
        check_arguments(paramiko=True)


def test_who_needs_a_tunnel(tmp_path):
    assert server_for(info()) == "far"
    assert server_for(info(ssh="")) == ""
    assert server_for(info(location="")) == "far"
    assert server_for(info(location=socket.gethostname())) == ""
    there = tmp_path / "socket"
    there.touch()
    assert server_for(info(urls=(f"ipc://{there}", "tcp://127.0.0.1:5"))) == ""
    assert server_for(info(urls=(f"ipc://{there}-not", "tcp://127.0.0.1:5"))) == "far"


def test_where_a_tunnel_leads():
    assert target_of(info()) == ("127.0.0.1", 5)
    assert target_of(info(urls=("ipc:///x", "tcp://0.0.0.0:7"))) == ("far.example", 7)
    assert target_of(info(urls=("tcp://10.1.2.3:7",))) == ("10.1.2.3", 7)
    with pytest.raises(TunnelError, match="--transport=ipc"):
        target_of(info(urls=("ipc:///x",)))
