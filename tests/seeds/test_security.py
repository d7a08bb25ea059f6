"""Rows of the interface's list about keys and how connections are protected, as a user types them."""

from __future__ import annotations

import json
import secrets
import socket
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
def commands(tmp_path, warm):
    commands = Commands(tmp_path, warm)
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


@pytest.mark.row(83)
def test_row_083_ports_and_keys_that_stay(commands):
    """With fixed ports and --reuse, copies of connection files stay good over restarts."""
    ports = []
    while len(ports) < 2:
        with socket.create_server(("127.0.0.1", 0)) as free:
            ports.append(free.getsockname()[1])
    arguments = ["--reuse", f"--client-port={ports[0]}", f"--engine-port={ports[1]}"]
    first = commands.controller(*arguments)
    copy = info(commands, "client")
    assert copy.url.endswith(f":{ports[0]}")
    assert info(commands, "engine").url.endswith(f":{ports[1]}")
    first.end()
    commands.controller(*arguments)
    work(commands, copy)


@pytest.mark.row(84)
def test_row_084_the_shape_of_the_file(commands):
    """``url``, ``exec_key``, ``ssh`` and ``location`` are there, and with the kind of peer they are enough."""
    commands.controller("--no-curve", "--location=localhost", "--ssh=", "--enginessh=")
    plain = info(commands, "client").to_dict()
    assert plain["location"] == "localhost"
    assert plain["ssh"] == ""
    few = {name: plain[name] for name in ("kind", "exec_key", "ssh", "location")}
    work(commands, {**few, "url": plain["urls"][0]})


@pytest.mark.row(86)
def test_row_086_by_hand(commands, tmp_path_factory):
    """Somebody copies one file to an engine's host and one to a client's, which know nothing else."""
    commands.controller("--ip=127.0.0.1")
    there = Commands(tmp_path_factory.mktemp("there"))
    try:
        copy = info(commands, "engine").save(there.home / "ipcontroller-engine.json")
        there.start("engine", f"--file={copy}")
        mine = info(commands, "client").save(tmp_path_factory.mktemp("mine") / "ipcontroller-client.json")
        with Client(mine, timeout=PATIENCE) as rc:
            rc.wait_for_engines(1, timeout=PATIENCE)
            assert rc[0].apply_async(abs, -1).get(PATIENCE) == 1
    finally:
        there.end()


@pytest.mark.row(87)
def test_row_087_this_host_only_and_any_port(commands):
    """Several controllers live beside each other; nobody reaches them from elsewhere."""
    for name in ("a", "b"):
        commands.start("controller", f"--cluster-id={name}", until="-engine.json")
    urls = [
        url
        for path in (commands.profile() / "security").glob("ipcontroller-*.json")
        for url in json.loads(path.read_text())["urls"]
        if url.startswith("tcp")
    ]
    assert len(set(urls)) == 4
    for url in urls:
        host, port = url.removeprefix("tcp://").split(":")
        assert host == "127.0.0.1"
        assert int(port) > 1023
        for address in {each[4][0] for each in socket.getaddrinfo(socket.gethostname(), None, socket.AF_INET)}:
            if not address.startswith("127."):
                with pytest.raises(OSError):
                    socket.create_connection((address, int(port)), timeout=2)


@pytest.mark.row(90)
def test_row_090_engines_may_come_first(commands):
    """They wait for the connection file."""
    commands.start("engine", until="Waiting")
    commands.controller()
    with Client(info(commands, "client"), timeout=PATIENCE) as rc:
        rc.wait_for_engines(1, timeout=PATIENCE)
        assert rc[0].apply_async(abs, -1).get(PATIENCE) == 1
