"""The walk across three hosts, as a user types it: separate profiles, files copied by scp, tunnels by ssh."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import textwrap
import threading
import time

import pytest

from enginery.net.beat import LEASE

PATIENCE = 60
PYTHON = sys.executable
SECURITY = "ipython/profile_default/security"
pytestmark = [pytest.mark.slow, pytest.mark.timeout(180)]


class Program:
    """A program that runs on a host, and what it has said so far."""

    def __init__(self, bed, host, command, env) -> None:
        self.bed = bed
        self.lines: list[str] = []
        self._news = threading.Condition()
        self.process = bed.popen(host, command, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        for line in self.process.stdout:
            with self._news:
                self.lines.append(line.rstrip("\n"))
                self._news.notify_all()
        with self._news:
            self.lines.append("(end)")
            self._news.notify_all()

    def wait_for(self, pattern, count=1, timeout=PATIENCE):
        """Wait until it has said something so many times. The last of them, as a match."""

        def found():
            return [match for line in list(self.lines) if (match := re.search(pattern, line))]

        with self._news:
            over = lambda: len(found()) >= count or self.lines[-1:] == ["(end)"]
            self._news.wait_for(over, timeout)
        assert len(found()) >= count, f"{pattern!r} was not said {count} times by:\n{self.text}"
        return found()[count - 1]

    @property
    def text(self) -> str:
        return "\n".join(self.lines)

    def say(self, line) -> None:
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()

    def wait(self, timeout=PATIENCE) -> int:
        try:
            code = self.process.wait(timeout)
        except subprocess.TimeoutExpired:
            self.process.kill()
            pytest.fail(f"still runs:\n{self.text}")
        self._reader.join(timeout)
        self.process.stdout.close()
        return code

    def stop(self, number=signal.SIGTERM) -> int:
        if self.process.poll() is None:
            self.bed.send(self.process, number)
        return self.wait()


class Walk:
    """Three hosts with a home each, and what is typed on them. host0 is ``head``, host1 and host2 are ``h1`` and ``h2``."""

    def __init__(self, bed) -> None:
        self.bed = bed
        self.home = bed.local / "home"
        self.programs: list[Program] = []
        self.environment = bed.environment(IPYTHONDIR=str(self.home / "ipython"), PYTHONUNBUFFERED="1")

    def type(self, host, *command) -> Program:
        """Start one of our commands on a host."""
        program, *arguments = command
        program = {"ipcontroller": "enginery.controller", "ipengine": "enginery.engine"}[program]
        return self.start(host, [PYTHON, "-m", program, *arguments])

    def start(self, host, command) -> Program:
        started = Program(self.bed, host, command, self.environment)
        self.programs.append(started)
        return started

    def controller(self, *arguments) -> Program:
        started = self.type("head", "ipcontroller", *arguments)
        started.wait_for("writing connection info.*engine.json")
        return started

    def copy(self, kind, host, profile="default") -> None:
        """As a user on ``host``: fetch a connection file from host0 by scp, into the place where it is looked for."""
        path = self.home / SECURITY / f"ipcontroller-{kind}.json"
        folder = self.home / f"ipython/profile_{profile}/security"
        self.bed.run(host, ["mkdir", "-p", "-m", "700", str(folder)])
        self.bed.run(host, ["scp", "-p", f"head:{path}", str(folder)])

    def info(self, kind, host="head"):
        return json.loads(self.bed.run(host, ["cat", str(self.home / SECURITY / f"ipcontroller-{kind}.json")]).stdout)

    def python(self, host, code, *, check=True) -> str:
        """Run a script on a host. What it prints."""
        done = self.bed.run(
            host, [PYTHON, "-c", SCRIPT + textwrap.dedent(code)], env=self.environment, check=False, timeout=PATIENCE
        )
        assert not check or done.returncode == 0, done.stdout + done.stderr
        return done.stdout if check else done.stdout + done.stderr

    def ssh_clients(self, host):
        """Tunnels, by what keeps them: the ssh clients of a host."""
        return {pid: line for pid, line in self.bed.processes(host).items() if re.match(r"(\S*/)?ssh ", line)}

    def end(self) -> None:
        """Stop everything; what stays behind fails this test, and is not there for the next."""
        with contextlib.ExitStack() as ends:
            for host in self.bed.names:
                ends.callback(self.clear, host)
            ends.callback(self.bed.await_end, "enginery|^ssh ")
            for program in self.programs:
                ends.callback(program.stop)

    def clear(self, host) -> None:
        run = str(self.bed.local / "run")
        sockets = self.bed.run(host, ["find", run, "-type", "s"]).stdout
        self.bed.run(host, ["find", run, "-mindepth", "1", "-delete"])
        self.bed.run(host, ["rm", "-rf", str(self.home)])
        assert not sockets


SCRIPT = """
import os, socket, sys, time
import enginery as ipp
"""


@pytest.fixture
def walk(bed, ssh):
    walk = Walk(bed)
    yield walk
    walk.end()


@pytest.mark.row(17, 19, 21, 86)
def test_row_086_files_copied_by_scp_engines_on_two_hosts_and_a_client_through_a_tunnel(walk, bed):
    controller = walk.controller(f"--ip={bed.address('head')}", "--ssh=root@head", "--location=head")
    assert walk.info("client")["ssh"] == "root@head"
    assert walk.info("engine")["ssh"] == ""
    walk.copy("engine", "h1")
    walk.copy("engine", "h2", profile="ssh")
    engines = [walk.type("h1", "ipengine"), walk.type("h2", "ipengine", "--profile=ssh")]
    for engine in engines:
        engine.wait_for("Completed registration with id")
    walk.copy("client", "h2")
    said = walk.python(
        "h2",
        """
        with ipp.Client() as rc:
            rc.wait_for_engines(2, timeout=20)
            print(sorted(rc[:].apply_sync(socket.gethostname)))
            print(rc.load_balanced_view().map_sync(abs, range(-200, 0)) == list(range(200, 0, -1)))
            print(rc[0].apply_sync(len, bytes(3_000_000)), rc[1].apply_sync(lambda: b"x" * 3_000_000) == b"x" * 3_000_000)
            line = open(f"/proc/{rc._tunnel._process.pid}/cmdline").read().split("\\0")
            print(rc.link._line._channel._explain is not None, line[0], line[-2])
        """,
    )
    assert said.splitlines() == ["['h1', 'h2']", "True", "3000000 True", "True ssh head"]
    assert not walk.ssh_clients("h1")
    assert not walk.ssh_clients("h2")
    # On the controller's own host the same file leads to its Unix socket, without ssh.
    assert walk.python("head", "rc = ipp.Client(); print(rc._tunnel, rc.ids); rc.close()") == "None [0, 1]\n"
    assert controller.stop() == 0
    assert [engine.wait() for engine in engines] == [0, 0]


@pytest.mark.row(18, 78, 87)
def test_row_078_totally_restricted_only_ssh_goes_from_host_to_host(walk, bed):
    controller = walk.controller("--enginessh=head", "--ssh=head")
    info = walk.info("engine")
    assert info["ssh"] == "head"
    assert all("127.0.0.1" in url or url.startswith("ipc://") for url in info["urls"])
    for host in ("h1", "h2"):
        walk.copy("engine", host)
    engines = [walk.type("h1", "ipengine", "--n=2"), walk.type("h2", "ipengine")]
    controller.wait_for("joined .pid .* on h", 3)
    # One tunnel for both engines of a host and their nanny.
    assert [len(walk.ssh_clients(host)) for host in ("h1", "h2")] == [1, 1]
    walk.copy("client", "h1")
    said = walk.python(
        "h1",
        """
        rc = ipp.Client()
        rc.wait_for_engines(3, timeout=20)
        print(sorted(rc[:].apply_sync(socket.gethostname)))
        print(rc.load_balanced_view().map_sync(lambda x: x * x, range(50)) == [x * x for x in range(50)])
        rc.send_signal("SIGKILL", targets=rc.ids[-1])
        while len(rc.ids) > 2:
            time.sleep(0.01)
        print(len(rc))
        """,
    )
    assert said.splitlines() == ["['h1', 'h1', 'h2']", "True", "2"]
    # An engine on the controller's own host has no use for the server in its file.
    local = walk.type("head", "ipengine")
    local.wait_for("Completed registration")
    assert not walk.ssh_clients("head")
    assert controller.stop() == 0
    for engine in [*engines, local]:
        engine.wait()


@pytest.mark.row(13, 83, 86, 90)
def test_row_013_reuse_keeps_old_copies_valid_and_engines_may_start_first(walk, bed):
    address = bed.address("head")
    first = walk.controller("--reuse", "--ip=*", "--location=head", "--client-port=10101", "--engine-port=10102")
    for host in ("h1", "h2"):
        walk.copy("engine", host)
    walk.copy("client", "h2")
    before = walk.info("client")
    assert f"tcp://{address}:10101".replace(address, "0.0.0.0") in before["urls"]
    early = walk.type("h1", "ipengine")
    early.wait_for("Completed registration")
    assert first.stop() == 0
    early.wait()
    waiting = [walk.type("h1", "ipengine", "--timeout=1"), walk.type("h2", "ipengine", "--timeout=1", "--ssh=head")]
    waiting[0].wait_for("not reached, still trying; dialled from 'h1': tcp://head:10102: Connection refused")
    waiting[1].wait_for("still trying; dialled from 'h2': tcp://head:10102 through ssh server head: the server cannot")
    second = walk.controller("--reuse", "--ip=*", "--location=head")
    after = walk.info("client")
    assert [after[name] for name in ("urls", "server_key", "secret_key")] == [
        before[name] for name in ("urls", "server_key", "secret_key")
    ]
    for engine in waiting:
        engine.wait_for("Completed registration")
    said = walk.python(
        "h2",
        """
        rc = ipp.Client(timeout=20)
        rc.wait_for_engines(2, timeout=20)
        print(sorted(rc[:].apply_sync(socket.gethostname)))
        """,
    )
    assert said == "['h1', 'h2']\n"
    assert second.stop() == 0
    for engine in waiting:
        engine.wait()


@pytest.mark.row(20, 78)
def test_row_020_url_names_transport_address_and_port(walk, bed):
    walk.controller(f"--url=tcp://{bed.address('head')}:10102", "--client-port=10101")
    assert f"tcp://{bed.address('head')}:10102" in walk.info("engine")["urls"]
    walk.copy("engine", "h1")
    engine = walk.type("h1", "ipengine", f"--url=tcp://{bed.address('head')}:10102")
    engine.wait_for("Completed registration")
    wrong = walk.type("h1", "ipengine", "--url=10.0.0.1")
    assert wrong.wait() != 0
    assert "'10.0.0.1' is no endpoint" in wrong.text


def test_a_dropped_tunnel_of_engines_is_made_anew_and_they_with_it(walk, bed):
    walk.controller("--enginessh=head")
    walk.copy("engine", "h1")
    engine = walk.type("h1", "ipengine", "--n=2")
    engine.wait_for("Completed registration", 2)
    (tunnel,) = walk.ssh_clients("h1")
    os.kill(tunnel, signal.SIGKILL)
    engine.wait_for("The ssh tunnel through head dropped")
    engine.wait_for("The ssh tunnel through head is up again")
    engine.wait_for("the connection to the controller is back", 2)
    assert len(walk.ssh_clients("h1")) == 1
    said = walk.python("head", "rc = ipp.Client(); print(rc.ids, rc[:].apply_async(socket.gethostname).get(20))")
    assert said == "[0, 1] ['h1', 'h1']\n"
    assert engine.stop() == 0


def test_a_cut_cable_is_noticed_by_ssh_and_engines_return_when_it_is_back(walk, bed):
    walk.controller("--enginessh=head", "--ping=1000")
    walk.copy("engine", "h2")
    engine = walk.type("h2", "ipengine")
    engine.wait_for("Completed registration with id 0")
    walk.python("head", "print(ipp.Client()[:].apply_async(int).get(20))")  # by then its nanny is connected too
    bed.cut("h2")
    try:
        engine.wait_for("The ssh tunnel through head dropped: .*not responding")
        engine.wait_for("the connection to the controller is lost")
    finally:
        bed.join("h2")
    engine.wait_for("the connection to the controller is back")
    said = walk.python("head", "rc = ipp.Client(); print(rc.ids, rc[:].apply_async(socket.gethostname).get(20))")
    assert said == "[0] ['h2']\n"


def test_engines_leave_within_a_lease_when_the_controllers_host_has_vanished(walk, bed):
    walk.controller("--ip=*", "--location=head")
    walk.copy("engine", "h1")
    engine = walk.type("h1", "ipengine", "--n=2")
    engine.wait_for("Completed registration", 2)
    walk.python("head", "rc = ipp.Client(); print(rc[:].apply_async(int).get(20))")
    bed.cut("h1")
    try:
        # No word comes any more, not even that a connection is closed.
        engine.process.wait(LEASE + PATIENCE / 3)
    finally:
        bed.join("h1")
    engine.wait()
    assert "the connection to the controller is lost" in engine.text


def test_a_dropped_tunnel_of_a_client_is_made_anew_and_it_goes_on(walk, bed):
    walk.controller("--ssh=head")
    engine = walk.type("head", "ipengine")
    engine.wait_for("Completed registration")
    walk.copy("client", "h1")
    said = walk.python(
        "h1",
        """
        import signal
        rc = ipp.Client()
        working = rc[0].apply_async(lambda: __import__("time").sleep(1) or "done")
        os.kill(rc._tunnel._process.pid, signal.SIGKILL)
        print(working.get(30), rc._tunnel.drops)
        other = ipp.Client()
        print(other._tunnel is rc._tunnel)
        rc.close()
        print(other.ids)
        other.close()
        """,
    )
    assert said.splitlines()[-3:] == ["done 1", "True", "[0]"]


def test_no_ssh_stays_when_its_owner_is_killed(walk, bed):
    walk.controller("--ssh=head", "--enginessh=head")
    walk.copy("client", "h1")
    walk.copy("engine", "h1")
    client = walk.start("h1", [PYTHON, "-c", SCRIPT + "rc = ipp.Client(); print('there'); time.sleep(600)"])
    client.wait_for("there")
    engine = walk.type("h1", "ipengine")
    engine.wait_for("Completed registration")
    assert len(walk.ssh_clients("h1")) == 2
    client.stop(signal.SIGKILL)
    engine.stop(signal.SIGKILL)
    deadline = time.monotonic() + PATIENCE
    while walk.ssh_clients("h1"):
        assert time.monotonic() < deadline, walk.ssh_clients("h1")
        time.sleep(0.01)
    # The socket of a killed client goes when the next tunnel sweeps.
    walk.python("h1", "ipp.Client().close()")


@pytest.mark.row(17)
@pytest.mark.parametrize(
    ("server", "words"),
    [
        ("nowhere", ["ssh to nowhere failed", "Could not resolve hostname", "~/.ssh/config"]),
        ("head:1", ["ssh to head:1 failed", "Connection refused", "server:port"]),
        ("h2", ["ssh server h2 cannot reach the controller at 127.0.0.1", "Connection refused", "--ip"]),
        ("me@", ["'me@' is no ssh server", "[user@]server[:port]"]),
        ("-oProxyCommand=true", ["is no ssh server"]),
    ],
)
def test_ways_that_lead_nowhere(walk, bed, server, words):
    walk.controller("--ssh=head", "--enginessh=head")
    walk.copy("client", "h1")
    walk.copy("engine", "h1")
    begun = time.monotonic()
    said = walk.python("h1", f"ipp.Client(sshserver={server!r}, timeout=3)", check=False)
    assert time.monotonic() - begun < 30
    assert not [each for each in words if each not in said], said
    if server != "h2":  # engines wait for the controller, and say so
        engine = walk.type("h1", "ipengine", f"--ssh={server}")
        assert engine.wait() != 0
        assert not [each for each in words if each not in engine.text], engine.text
        assert "Traceback" not in engine.text


def test_a_key_that_opens_nothing(walk, bed, ssh):
    walk.controller("--ssh=head", "--enginessh=head")
    walk.copy("client", "h1")
    walk.copy("engine", "h1")
    # The bed's configuration knows the right key, and would offer it as well.
    bare = f"ssh -F /dev/null -o IdentitiesOnly=yes -o UserKnownHostsFile={ssh.folder}/known_hosts"
    walk.environment["ENGINERY_SSH"] = bare
    for key in (ssh.wrong_key, ssh.folder / "no_key"):
        said = walk.python("h1", f"ipp.Client(sshkey={str(key)!r})", check=False)
        engine = walk.type("h1", "ipengine", f"--sshkey={key}")
        assert engine.wait() != 0
        for text in (said, engine.text):
            if key == ssh.wrong_key:
                assert "ssh to head failed: root@head: Permission denied (publickey)" in text
                assert "ssh-add" in text
            else:
                assert f"There is no key file '{key}'" in text
    assert walk.python("h1", f"print(len(ipp.Client(sshkey={str(ssh.key)!r})))") == "0\n"


def test_agents_and_proxy_jumps_are_ssh_s_own(walk, bed, ssh):
    walk.controller("--ssh=head", "--location=head")
    walk.copy("client", "h1")
    look = "rc = ipp.Client(timeout=20); print(rc.ids); rc.close()"
    walk.environment["ENGINERY_SSH"] = "ssh -o ProxyJump=h2"
    assert walk.python("h1", look) == "[]\n"
    assert not walk.ssh_clients("h1")
    assert "Accepted publickey" in ssh.log("h2").read_text()
    # No key is named here; the agent has it.
    walk.environment["ENGINERY_SSH"] = f"ssh -F /dev/null -o UserKnownHostsFile={ssh.folder}/known_hosts"
    assert "Permission denied" in walk.python("h1", look, check=False)
    script = f"ssh-add -q {ssh.key} && {PYTHON} -c '{SCRIPT}{look}'; kill $SSH_AGENT_PID"
    agent = bed.run("h1", ["ssh-agent", "sh", "-c", script], env=walk.environment, timeout=PATIENCE)
    assert agent.stdout == "[]\n"


@pytest.mark.row(19)
def test_a_controller_on_loopback_of_another_host_is_told_of(walk, bed):
    walk.controller("--location=head")
    walk.copy("client", "h1")
    said = walk.python("h1", "ipp.Client(timeout=1)", check=False)
    assert "RuntimeWarning: The controller on 'head' listens on loopback only and this is 'h1'" in said
    assert "sshserver='head'" in said
    assert "--ip" in said
    assert walk.python("h1", "print(ipp.Client(sshserver='head').ids)") == "[]\n"
