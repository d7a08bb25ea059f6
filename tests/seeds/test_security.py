"""Rows of the interface's list about keys and how connections are protected, as a user types them."""

from __future__ import annotations

import json
import secrets
import sys

import pytest

from commands import Commands
from enginery.client.client import Client
from enginery.net.connection_file import ConnectionInfo
from enginery.net.curve import has_curve

PATIENCE = 30
pytestmark = pytest.mark.slow

if sys.platform == "win32":
    collect_ignore_glob = ["test_*.py"]  # not tried on Windows


@pytest.fixture
def commands(tmp_path):
    commands = Commands(tmp_path)
    yield commands
    commands.end()


def info(commands, kind, way="tcp"):
    plain = json.loads((commands.profile() / "security" / f"ipcontroller-{kind}.json").read_text())
    return ConnectionInfo.from_dict({**plain, "urls": [url for url in plain["urls"] if url.startswith(way)]})


def work(commands, client):
    """An engine joins, and a client has it do something, both over tcp."""
    path = info(commands, "engine").save(commands.home / "engine.json")
    commands.start("engine", f"--file={path}")
    with Client(client, timeout=PATIENCE) as rc:
        rc.wait_for_engines(1, timeout=PATIENCE)
        assert rc[0].apply_async(abs, -1).get(PATIENCE) == 1


@pytest.mark.row(15)
@pytest.mark.parametrize("curve", [[], ["--no-curve"], ["--disable-curve"]])
def test_row_015_secure(commands, curve):
    """Messages are signed or encrypted with a new key, and nobody is heard without it."""
    if not curve and not has_curve():
        pytest.skip("this libzmq has no CURVE")
    commands.controller("--secure", *curve)
    good = info(commands, "client")
    assert len(good.exec_key) == 64
    assert bool(good.server_key) is not bool(curve)
    work(commands, good)
    bad = {**good.to_dict(), "exec_key": secrets.token_hex(32), "secret_key": "", "public_key": "", "server_key": ""}
    for way in ("tcp", "ipc"):
        urls = list(info(commands, "client", way).urls)
        with pytest.raises((ConnectionError, TimeoutError)):
            Client({**bad, "urls": urls}, timeout=2)


@pytest.mark.row(16)
@pytest.mark.parametrize("how", ["--no-secure", "--Session.key="])
def test_row_016_no_secure(commands, how):
    """Nobody needs a key."""
    commands.controller(how)
    for kind in ("client", "engine"):
        found = info(commands, kind)
        assert (found.exec_key, found.server_key, found.secret_key) == ("", "", "")
    work(commands, info(commands, "client"))


@pytest.mark.row(16)
def test_row_016_no_secure_beyond_this_host(commands):
    """Has to be said twice, and what it means is said."""
    done = commands.run("controller", "--no-secure", "--ip=*")
    assert done.returncode == 2
    assert "can run code here as this user" in done.stderr
    assert "--allow-anyone" in done.stderr
    running = commands.start("controller", "--no-secure", "--allow-anyone", "--ip=*", until="-engine.json")
    assert "can run code here as this user" in running.said


@pytest.mark.row(34)
def test_row_034_keyfile(commands, tmp_path):
    """The same key file gives the same keys each time; one that others can read is refused."""
    path = tmp_path / "key"
    path.write_text("a secret that nobody guesses\n")
    path.chmod(0o644)
    done = commands.run("controller", f"--keyfile={path}")
    assert done.returncode == 2
    assert "chmod 600" in done.stderr
    path.chmod(0o600)
    keys = []
    for _ in range(2):
        running = commands.controller(f"--keyfile={path}", "--ident=me", "--user=anna")
        found = [info(commands, kind) for kind in ("client", "engine")]
        keys.append([(each.exec_key, each.server_key, each.public_key) for each in found])
        running.end()
    assert keys[0] == keys[1]
    assert keys[0][0] != keys[0][1]
