"""What commands and clients take from environment variables."""

from __future__ import annotations

import json
import sys

import pytest

from enginery.client.client import Client
from enginery.errors import ConnectionFileError
from enginery.net.connection_file import load
from enginery.net.profile_paths import connection_path

pytestmark = [pytest.mark.slow, pytest.mark.skipif(sys.platform == "win32", reason="not tried on Windows")]
KEYS = {"server_key": "SERVERKEY", "public_key": "PUBLICKEY", "secret_key": "SECRETKEY"}


def over_tcp(info):
    """The same controller, to be reached over tcp only."""
    tcp = [url for url in info.urls if url.startswith("tcp://")]
    return {**info.to_dict(), "url": tcp[0], "urls": tcp}


def test_profile_and_cluster(commands, tmp_path, monkeypatch):
    where = {"IPP_PROFILE_DIR": str(tmp_path / "here"), "IPP_CLUSTER_ID": "x"}
    commands.controller(**where)
    commands.start("engine", until="Completed registration", **where)
    assert connection_path(tmp_path / "here", "client", "x").exists()
    assert commands.run("cluster", "status", **where).returncode == 0
    for name, value in where.items():
        monkeypatch.setenv(name, value)
    with Client() as rc:
        assert rc.ids == [0]
    # What is said wins over what is inherited.
    commands.controller("--profile=other", "--cluster-id=y", **where)
    assert connection_path(commands.profile("other"), "client", "y").exists()


def test_connection_info(commands, tmp_path):
    commands.controller()
    info = connection_path(commands.profile(), "engine").read_text()
    there = {"IPYTHONDIR": str(tmp_path / "there")}
    commands.start("engine", until="Completed registration", IPP_CONNECTION_INFO=info, **there)
    done = commands.run("engine", IPP_CONNECTION_INFO="nonsense", **there)
    assert done.returncode == 1
    assert "$IPP_CONNECTION_INFO is not valid JSON" in done.stderr


def test_no_curve(commands):
    commands.controller("--ip=0.0.0.0", IPP_ENABLE_CURVE="0")
    signed = load(connection_path(commands.profile(), "client"))
    assert signed.server_key == ""
    assert signed.exec_key
    commands.controller("--cluster-id=b", IPP_ENABLE_CURVE="1")
    assert load(connection_path(commands.profile(), "client", "b")).server_key


def test_the_secret_that_keys_are_made_from(commands):
    paths = [connection_path(commands.profile(), "client", each) for each in "abc"]
    for each, secret in zip("abc", ("ours", "ours", "others"), strict=True):
        commands.controller(f"--cluster-id={each}", IPP_SESSION_KEY=secret)
    ours, same, others = (load(path) for path in paths)
    assert (ours.server_key, ours.secret_key) == (same.server_key, same.secret_key)
    assert ours.server_key != others.server_key
    engine = load(connection_path(commands.profile(), "engine", "a"))
    assert engine.secret_key != ours.secret_key
    with Client(over_tcp(ours)) as rc:
        assert rc.ids == []


def test_keys_that_are_kept_apart_from_the_file(commands, monkeypatch):
    import zmq

    public, secret = (key.decode() for key in zmq.curve_keypair())
    commands.controller(IPP_CURVE_SECRETKEY=secret)
    path = connection_path(commands.profile(), "client")
    info = load(path)
    assert info.server_key == public
    without = {**over_tcp(info), **dict.fromkeys(KEYS, "")}
    with pytest.raises((TimeoutError, ConnectionError)):
        Client(without, timeout=1)
    for field, name in KEYS.items():
        monkeypatch.setenv(f"IPP_CURVE_{name}", getattr(info, field))
    with Client(without) as rc:
        assert rc.ids == []
    engine = load(connection_path(commands.profile(), "engine"))
    keys = {f"IPP_CURVE_{name}": getattr(engine, field) for field, name in KEYS.items()}
    bare = json.dumps({**over_tcp(engine), **dict.fromkeys(KEYS, "")})
    commands.start("engine", until="Completed registration", IPP_CONNECTION_INFO=bare, **keys)
    done = commands.run("controller", "--cluster-id=b", IPP_CURVE_SECRETKEY="short")
    assert done.returncode == 1
    assert "$IPP_CURVE_SECRETKEY" in done.stderr
    assert "short" not in done.stderr, "it is a secret"
    monkeypatch.setenv("IPP_CURVE_SERVERKEY", "short")
    with pytest.raises((ConnectionFileError, ValueError)):
        Client(without, timeout=1)
