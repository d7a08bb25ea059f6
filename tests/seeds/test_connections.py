"""Rows on connections that need no second host: what the commands listen on, what the files say, and who waits for whom."""

from __future__ import annotations

import json
import os
import signal
import socket
import stat
import sys
import threading
import time

import pytest

import enginery as ipp
from commands import begin
from enginery.net.addresses import local_addresses

PATIENCE = 45
pytestmark = [pytest.mark.slow, pytest.mark.skipif(sys.platform == "win32", reason="not tried on Windows")]


class Shell:
    """A user's shell with an IPython folder of its own."""

    def __init__(self, home, warm) -> None:
        self.home = home
        self.warm = warm
        self.started = []

    def type(self, program, *arguments):
        """Start one of the commands."""
        program = {"ipcontroller": "enginery.controller", "ipengine": "enginery.engine"}[program]
        environment = os.environ | {"IPYTHONDIR": str(self.home), "PYTHONUNBUFFERED": "1"}
        said, says = os.pipe()
        process = begin(self.warm, program, list(arguments), environment, out=1, err=says)
        os.close(says)
        process.stderr = open(said)  # noqa: SIM115 - closed when it is stopped
        process.said = []
        self.started.append(process)
        return process

    def path(self, kind, profile="default"):
        return self.home / f"profile_{profile}" / "security" / f"ipcontroller-{kind}.json"

    def info(self, kind):
        return json.loads(self.path(kind).read_text())

    def controller(self, *arguments):
        process = self.type("ipcontroller", *arguments)
        said(process, "writing connection info to")
        said(process, "writing connection info to")
        return process

    def stop(self, process, number=signal.SIGTERM):
        if process.poll() is None:
            process.send_signal(number)
        try:
            code = process.wait(PATIENCE)
        finally:
            process.stderr.close()
        self.started.remove(process)
        return code

    def ends(self, *command):
        """Run a command that ends by itself: its exit code and what it said."""
        process = self.type(*command)
        with process.stderr:
            text = process.stderr.read()
        process.wait(PATIENCE)
        self.started.remove(process)
        return process.returncode, text


def said(process, words):
    """Wait until a command has said some words; the line."""
    alarm = threading.Timer(PATIENCE, process.kill)
    alarm.start()
    try:
        for line in process.stderr:
            process.said.append(line)
            if words in line:
                return line
    finally:
        alarm.cancel()
    raise AssertionError(f"{words!r} was not said:\n{''.join(process.said)}")


@pytest.fixture
def shell(tmp_path, warm):
    shell = Shell(tmp_path, warm)
    yield shell
    for process in list(shell.started):
        shell.stop(process)


def free_ports(count):
    with_ports = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [each.getsockname()[1] for each in with_ports]
    for each in with_ports:
        each.close()
    return ports


def listening(process):
    """Addresses and ports that a process listens on."""
    import psutil

    return {each.laddr for each in psutil.Process(process.pid).net_connections("tcp") if each.status == "LISTEN"}


@pytest.mark.row(21, 87)
def test_row_087_loopback_and_high_ports_by_default_and_two_controllers_side_by_side(shell, tmp_path):
    first = shell.controller()
    second = shell.controller("--profile=other")
    ends = [listening(each) for each in (first, second)]
    assert {end.ip for each in ends for end in each} == {"127.0.0.1"}
    ports = [end.port for each in ends for end in each]
    assert len(set(ports)) == 4
    assert min(ports) > 1023


@pytest.mark.row(21)
def test_row_021_ip_is_every_interface_or_one(shell):
    every = shell.controller("--ip=*")
    assert {end.ip for end in listening(every)} == {"0.0.0.0"}
    assert shell.info("client")["location"] in {socket.gethostname(), *local_addresses()}
    with ipp.Client(shell.path("client")) as rc:
        assert rc.ids == []
    shell.stop(every)
    one = shell.controller("--ip=127.0.0.2")
    assert {end.ip for end in listening(one)} == {"127.0.0.2"}
    code, text = shell.ends("ipcontroller", "--ip=198.51.100.7", "--profile=x")
    assert code != 0
    assert "Cannot listen on tcp://198.51.100.7" in text
    assert "Traceback" not in text


@pytest.mark.row(22)
def test_row_022_transports(shell):
    ipc = shell.controller("--transport=ipc")
    assert listening(ipc) == set()
    assert shell.info("client")["url"].startswith("ipc://")
    engine = shell.type("ipengine")
    said(engine, "Completed registration with id 0")
    with ipp.Client(shell.path("client")) as rc:
        assert rc[:].apply_sync(int) == [0]
    shell.stop(ipc)
    shell.stop(engine)
    shell.controller("--transport=tcp")
    assert any(url.startswith("tcp://") for url in shell.info("client")["urls"])
    code, text = shell.ends("ipcontroller", "--transport=epgm", "--profile=x")
    assert code != 0
    assert "epgm" in text
    assert "'tcp'" in text
    code, text = shell.ends("ipcontroller", "--transport=ipc", "--enginessh=login", "--profile=x")
    assert code != 0
    assert "--enginessh: a tunnel needs a tcp port" in text


@pytest.mark.row(20)
def test_row_020_url(shell):
    (port,) = free_ports(1)
    shell.controller(f"--url=tcp://127.0.0.1:{port}")
    assert f"tcp://127.0.0.1:{port}" in shell.info("engine")["urls"]
    for url in ("epgm://127.0.0.1:5", "tcp://", "tcp://127.0.0.1:99999", "127.0.0.1"):
        code, text = shell.ends("ipcontroller", f"--url={url}", "--profile=x")
        assert code != 0
        assert "--url" in text
        assert "Traceback" not in text


@pytest.mark.row(23, 83)
def test_row_083_ports(shell):
    client, engine, other = free_ports(3)
    by_hand = shell.controller(f"--client-port={client}", f"--engine-port={engine}")
    assert {end.port for end in listening(by_hand)} == {client, engine}
    shell.stop(by_hand)
    by_list = shell.controller(f"--ports={client},{engine}")
    assert shell.info("client")["url"] == f"tcp://127.0.0.1:{client}"
    assert shell.info("engine")["url"] == f"tcp://127.0.0.1:{engine}"
    code, text = shell.ends("ipcontroller", f"--client-port={client}", "--profile=x")
    assert code != 0
    assert f"Cannot listen on tcp://127.0.0.1:{client}" in text
    shell.stop(by_list)
    # The port engines registered at, by its older name.
    registration = shell.type("ipcontroller", f"--port={other}")
    said(registration, "--port is now --engine-port")
    said(registration, "engine.json")
    assert shell.info("engine")["url"] == f"tcp://127.0.0.1:{other}"


@pytest.mark.row(17, 18, 19, 84, 85)
def test_row_084_what_connection_files_say(shell):
    shell.controller("--ssh=me@login:2222", "--enginessh=inner", "--location=node1.example")
    client, engine = shell.info("client"), shell.info("engine")
    assert {"url", "exec_key", "ssh", "location"} <= client.keys() & engine.keys()
    assert (client["ssh"], engine["ssh"]) == ("me@login:2222", "inner")
    assert client["location"] == engine["location"] == "node1.example"
    assert client["secret_key"] != engine["secret_key"]
    for kind in ("client", "engine"):
        assert stat.S_IMODE(shell.path(kind).stat().st_mode) == 0o600
    code, text = shell.ends("ipcontroller", "--ssh=me@", "--profile=x")
    assert code != 0
    assert "--ssh: 'me@' is no ssh server; expected [user@]server[:port]" in text


@pytest.mark.row(79)
def test_row_079_the_server_in_a_configuration_file(shell):
    folder = shell.home / "profile_default"
    folder.mkdir(mode=0o700)
    (folder / "ipcontroller_config.py").write_text("c.HubFactory.ssh_server = 'login.mycluster.net'\n")
    shell.controller()
    assert shell.info("client")["ssh"] == "login.mycluster.net"
    assert shell.info("engine")["ssh"] == ""


@pytest.mark.row(84)
def test_row_084_files_with_nothing_but_the_four_keys(shell, tmp_path):
    shell.controller("--no-secure")
    for kind in ("client", "engine"):
        four = {"url": shell.info(kind)["url"], "exec_key": "", "ssh": "", "location": "localhost"}
        (tmp_path / f"{kind}.json").write_text(json.dumps(four))
        (tmp_path / f"{kind}.json").chmod(0o600)
    engine = shell.type("ipengine", f"--file={tmp_path}/engine.json")
    said(engine, "Completed registration with id 0")
    with ipp.Client(str(tmp_path / "client.json")) as rc:
        assert rc[:].apply_sync(int) == [0]


@pytest.mark.row(19, 88)
def test_row_088_the_address_that_the_advice_gives_is_a_location(shell):
    address = socket.gethostbyname_ex(socket.gethostname())[-1][-1]
    controller = shell.controller("--ip=*", f"--location={address}")
    assert shell.info("client")["location"] == address
    with ipp.Client(shell.path("client")) as rc:
        assert rc.ids == []
    # An engine may be told another one than the file says.
    path = shell.home / "elsewhere.json"
    tcp = [url for url in shell.info("engine")["urls"] if url.startswith("tcp://")]
    path.write_text(json.dumps(shell.info("engine") | {"url": tcp[0], "urls": tcp, "location": "nowhere.invalid"}))
    path.chmod(0o600)
    engine = shell.type("ipengine", f"--file={path}", "--location=localhost")
    said(engine, "Completed registration with id 0")
    shell.stop(controller)


@pytest.mark.row(13, 90)
def test_row_090_with_reuse_engines_may_start_first_and_otherwise_wait_for_the_file(shell):
    waiting = shell.type("ipengine")
    assert "connection file" in said(waiting, "Waiting 10 s for connection file")
    first = shell.controller("--reuse")
    said(waiting, "Completed registration with id 0")
    before = {kind: shell.path(kind).read_text() for kind in ("client", "engine")}
    assert shell.stop(first) == 0
    assert shell.stop(waiting) == 0
    early = shell.type("ipengine", "--timeout=0.5")
    assert "still trying; dialled from" in said(early, "the controller is not reached")
    shell.controller("--reuse")
    said(early, "Completed registration with id 0")
    # The copy of a file from before opens the new one's door, too.
    old = shell.home / "old.json"
    old.write_text(before["client"])
    old.chmod(0o600)
    with ipp.Client(str(old)) as rc:
        rc.wait_for_engines(1, timeout=PATIENCE)
        assert rc[:].apply_sync(int) == [0]
    names = ("urls", "server_key", "public_key", "secret_key")
    for kind, text in before.items():
        assert [shell.info(kind)[name] for name in names] == [json.loads(text)[name] for name in names]


@pytest.mark.row(90)
def test_row_090_an_engine_without_a_controller_gives_up_and_says_so(shell):
    begun = time.monotonic()
    code, text = shell.ends("ipengine", "--IPEngine.wait_for_url_file=0.2")
    assert code != 0
    assert "no connection file" in text
    assert "ipcontroller" in text
    assert time.monotonic() - begun < PATIENCE


@pytest.mark.row(17)
def test_row_017_what_ssh_cannot_do_is_said(shell):
    shell.controller("--ssh=nowhere.invalid")
    with pytest.raises(ValueError, match="ssh-add"):
        ipp.Client(shell.path("client"), sshserver="nowhere.invalid", password="secret")
    with pytest.raises(ValueError, match="OpenSSH"):
        ipp.Client(shell.path("client"), paramiko=True)
    # The controller is on this host: the server in its file is for others.
    with ipp.Client(shell.path("client")) as rc:
        assert rc.ids == []
