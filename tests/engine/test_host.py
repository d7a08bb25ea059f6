"""The host and its nanny, with real processes: whatever dies, it is told, and nobody is left behind."""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
import tempfile
from collections import deque
from pathlib import Path

import pytest

from enginery.engine.watch import has_ended, watch_process
from enginery.net.channel import ChannelClosed
from enginery.net.sockets import listen_on_path
from enginery.net.stream import Stream
from enginery.wire.messages import (
    Bye,
    Deliver,
    EngineExited,
    EngineHello,
    NannyHello,
    Ping,
    Pong,
    Refused,
    Restart,
    Shutdown,
    Welcome,
    decode_from_engine,
    encode,
)

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform != "linux", reason="kills processes by pidfd"),
]

#: Longest wait for anything, in seconds; reached only when something is broken.
PATIENCE = 20.0
BOTH = pytest.mark.parametrize("fork", [True, False], ids=["forked", "started"])


class FakeController:
    """The controller's engine endpoint, with a memory of what was said to it. Peers are named by descriptor."""

    def __init__(self) -> None:
        self.folder = tempfile.TemporaryDirectory(prefix="eng-")
        self.url = f"ipc://{self.folder.name}/e"
        self.listener = listen_on_path(Path(self.folder.name, "e"))
        self.streams = {}
        self.heard = deque()

    def expect(self, kind, matching=lambda message: True):
        """The first message of this kind that has not been asked for yet, and who sent it."""
        while True:
            for index, (sender, message) in enumerate(self.heard):
                if isinstance(message, kind) and matching(message):
                    del self.heard[index]
                    return sender, message
            ready, _, _ = select.select([self.listener, *self.streams], [], [], PATIENCE)
            if not ready:
                pytest.fail(f"no {kind.__name__} came; heard {list(self.heard)}")
            for one in ready:
                self.hear(one)

    def hear(self, one):
        if one is self.listener:
            stream = Stream(self.listener.accept()[0])
            self.streams[stream.fileno()] = stream
            return
        try:
            for header, _ in self.streams[one].receive():
                self.heard.append((one, decode_from_engine(header)))
        except ChannelClosed:
            self.streams.pop(one).close(0)

    def say(self, receiver, message):
        self.streams[receiver].send(message if isinstance(message, bytes) else encode(message), [])

    def close(self):
        for stream in self.streams.values():
            stream.close(0)
        self.listener.close()
        self.folder.cleanup()


class Running:
    """A host process, its nanny and its engines, once all have said hello."""

    def __init__(self, controller, **options) -> None:
        self.controller = controller
        self.process = subprocess.Popen(**self.command(controller, **options))
        self.watches = [watch_process(self.process.pid)]
        self.engines = {}
        self.nanny, self.hello = controller.expect(NannyHello)
        for _ in self.hello.engines:
            self.engine_joined()
        self.watch(self.hello.pid)

    @staticmethod
    def command(controller, **options):
        program = Path(__file__).with_name("host_program.py")
        text = json.dumps({"url": controller.url, "n": 2, **options})
        environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(program.parent), *filter(None, sys.path)])}
        return {"args": [sys.executable, str(program), text], "env": environment}

    def engine_joined(self):
        _, hello = self.controller.expect(EngineHello)
        self.engines[hello.uuid] = hello
        self.watch(hello.pid)
        return hello

    def watch(self, pid):
        try:
            self.watches.append(watch_process(pid))
        except ProcessLookupError:
            pass

    def any_engine(self):
        return next(iter(self.engines.values()))

    def wait_until_all_gone(self):
        """Wait for the end of every process; returns the host's exit code."""
        code = self.process.wait(PATIENCE)
        left = [watch.pid for watch in self.watches if not has_ended(watch, PATIENCE)]
        assert not left
        return code

    def end(self):
        for watch in self.watches:
            watch.send(signal.SIGKILL)
            has_ended(watch, PATIENCE)
            watch.close()
        self.process.wait(PATIENCE)


@pytest.fixture
def controller():
    fake = FakeController()
    yield fake
    fake.close()


@pytest.fixture
def start(controller):
    running = []

    def start_host(**options):
        # Listed before it has finished starting, so that a failing start is cleaned up as well.
        host = Running.__new__(Running)
        running.append(host)
        host.__init__(controller, **options)
        return host

    yield start_host
    for host in running:
        host.end()


@BOTH
def test_nanny_and_engines_say_hello(start, fork):
    host = start(n=3, fork=fork)
    assert set(host.hello.engines) == set(host.engines)
    assert len({hello.pid for hello in host.engines.values()}) == 3
    # Where nothing is forked, the nanny is a thread of the host.
    assert (host.hello.pid == host.process.pid) is not fork


@BOTH
def test_killed_engine_is_reported_with_what_it_had_begun(controller, start, fork):
    host = start(fork=fork)
    victim = host.any_engine()
    os.kill(victim.pid, signal.SIGKILL)
    _, report = controller.expect(EngineExited)
    assert (report.uuid, report.pid, report.code) == (victim.uuid, victim.pid, -9)
    assert (report.balanced, report.direct) == (41, (1 << 41) + 7)
    assert report.note.startswith("killed by SIGKILL (")
    assert "last seen at" in report.note
    assert not report.restarting
    # The other engine is none the worse for it.
    (other,) = (hello for hello in host.engines.values() if hello is not victim)
    controller.say(host.nanny, Deliver(other.uuid, "SIGUSR1"))
    _, report = controller.expect(EngineExited)
    assert (report.uuid, report.code) == (other.uuid, 77)
    # A failure decides the exit code, and the first one does.
    assert host.wait_until_all_gone() == 128 + 9


@BOTH
@pytest.mark.parametrize("command", ["", "hang"])
def test_nobody_outlives_a_killed_host(controller, start, fork, command):
    host = start(fork=fork, startup_command=command)
    host.process.kill()
    host.wait_until_all_gone()
    if fork:
        reports = [controller.expect(EngineExited)[1] for _ in host.engines]
        assert {report.uuid for report in reports} == set(host.engines)
        assert {(report.code, report.balanced) for report in reports} == {(-9, 41)}
        assert f"its host process (pid {host.process.pid}) died" in reports[0].note


@BOTH
def test_everybody_leaves_when_the_owner_is_gone(start, fork):
    owner = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    host = start(fork=fork, owner_pid=owner.pid)
    owner.communicate()
    assert host.wait_until_all_gone() == 0


def test_an_owner_that_is_gone_already_is_noticed(controller):
    owner = subprocess.Popen([sys.executable, "-c", "pass"])
    owner.wait()
    # Its engines may be stopped before they have said a word, so only the host is waited for.
    assert (
        subprocess.run(**Running.command(controller, owner_pid=owner.pid), timeout=PATIENCE, check=False).returncode
        == 0
    )


@BOTH
def test_restart_ends_the_engine_and_starts_another(controller, start, fork):
    host = start(fork=fork, n=1)
    old = host.any_engine()
    controller.say(host.nanny, Restart(old.uuid))
    _, report = controller.expect(EngineExited)
    assert (report.uuid, report.code, report.restarting) == (old.uuid, -15, True)
    assert "restart on request" in report.note
    new = host.engine_joined()
    assert (new.uuid != old.uuid, new.pid != old.pid) == (True, True)
    controller.expect(NannyHello, lambda hello: hello.engines == [new.uuid])
    # The new one is watched like the old one was.
    os.kill(new.pid, signal.SIGKILL)
    _, report = controller.expect(EngineExited)
    assert (report.uuid, report.code) == (new.uuid, -9)


def test_restart_does_not_wait_for_ever(controller, start):
    host = start(n=1, startup_command="deaf", stop_timeout=0.1)
    controller.say(host.nanny, Restart(host.any_engine().uuid))
    _, report = controller.expect(EngineExited)
    assert (report.code, report.restarting) == (-9, True)
    assert "did not leave in time" in report.note
    host.engine_joined()


def test_engines_that_die_of_themselves_return_if_asked(controller, start):
    host = start(n=1, restart=True)
    for _ in range(2):
        last = list(host.engines.values())[-1]
        os.kill(last.pid, signal.SIGKILL)
        assert controller.expect(EngineExited)[1].restarting
        host.engine_joined()
    last = list(host.engines.values())[-1]
    os.kill(last.pid, signal.SIGKILL)
    assert not controller.expect(EngineExited)[1].restarting
    assert host.wait_until_all_gone() == 128 + 9


@pytest.mark.parametrize("number", ["SIGUSR1", int(signal.SIGUSR1)])
def test_signals_are_delivered_by_name_and_number(controller, start, number):
    host = start(n=1)
    controller.say(host.nanny, Deliver(host.any_engine().uuid, "SIGNONSENSE"))
    controller.say(host.nanny, Deliver("nobody", "SIGKILL"))
    controller.say(host.nanny, Deliver(host.any_engine().uuid, number))
    _, report = controller.expect(EngineExited)
    assert (report.code, report.note) == (77, report.note)
    assert report.note.startswith("ended with exit code 77")


def test_a_signal_sent_on_request_is_no_riddle(controller, start):
    host = start(n=1)
    controller.say(host.nanny, Deliver(host.any_engine().uuid, "SIGKILL"))
    assert controller.expect(EngineExited)[1].note == "killed by SIGKILL (sent on request of a client)"


@pytest.mark.parametrize("word", [Bye("done"), Shutdown(1, [])])
@BOTH
def test_everybody_leaves_when_the_controller_does(controller, start, word, fork):
    host = start(fork=fork)
    controller.say(host.nanny, word)
    assert host.wait_until_all_gone() == 0


def test_a_refused_host_leaves_with_an_error(controller, start):
    host = start()
    controller.say(host.nanny, Refused("VersionMismatch", "you speak version 1, I speak 2"))
    assert host.wait_until_all_gone() == 1


def test_a_controller_that_does_not_know_the_nanny_hears_its_hello_again(controller, start):
    host = start(n=1)
    controller.say(host.nanny, Refused("ConnectionLost", "say hello first"))
    _, hello = controller.expect(NannyHello)
    assert hello.engines == list(host.engines)


def test_everybody_leaves_when_the_controller_stays_silent(controller, start):
    host = start(max_misses=3)
    controller.say(host.nanny, Welcome(0, "", 1, 0.02))
    controller.expect(Ping)
    # Nobody answers; the nanny introduces itself again, in case a new controller has come.
    controller.expect(NannyHello)
    assert host.wait_until_all_gone() == 1


def test_pings_are_answered_and_garbage_is_ignored(controller, start):
    host = start(n=1)
    for garbage in (b"", b"\xff\xff", b"\x80", encode(["x"])):
        controller.say(host.nanny, garbage)
    controller.say(host.nanny, Ping(5))
    assert controller.expect(Pong)[1].number == 5


def test_a_lost_nanny_is_replaced_once(controller, start):
    host = start()
    os.kill(host.hello.pid, signal.SIGKILL)
    _, hello = controller.expect(NannyHello)
    host.watch(hello.pid)
    assert set(hello.engines) == set(host.engines)
    victim = host.any_engine()
    os.kill(victim.pid, signal.SIGKILL)
    assert controller.expect(EngineExited)[1].uuid == victim.uuid
    os.kill(hello.pid, signal.SIGKILL)
    assert host.wait_until_all_gone() != 0


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_signals_stop_the_host(controller, start, number):
    host = start(fork=True)
    host.process.send_signal(number)
    reports = [controller.expect(EngineExited)[1] for _ in host.engines]
    assert {report.note for report in reports} == {f"killed by SIGTERM (its host received {number.name})"}
    controller.expect(Bye)
    assert host.wait_until_all_gone() == 0


def test_deaf_and_stopped_engines_are_stopped_too(controller, start):
    host = start(n=3, startup_command="deaf", stop_timeout=0.1)
    os.kill(host.any_engine().pid, signal.SIGSTOP)
    host.process.terminate()
    codes = [controller.expect(EngineExited)[1].code for _ in host.engines]
    assert codes == [-9, -9, -9]
    host.wait_until_all_gone()


def test_the_host_leaves_when_all_engines_have(controller, start):
    host = start(startup_command="exit 0")
    assert controller.expect(EngineExited)[1].note == "left in good order"
    assert host.wait_until_all_gone() == 0


def test_an_engines_exit_code_becomes_the_hosts(controller, start):
    host = start(startup_command="exit 3", n=1)
    assert controller.expect(EngineExited)[1].code == 3
    assert host.wait_until_all_gone() == 3


@BOTH
def test_engines_get_their_folder_and_their_ids(start, fork, tmp_path):
    host = start(fork=fork, id=10, work_dir=str(tmp_path))
    assert sorted(hello.id for hello in host.engines.values()) == [10, 11]
    # The fake engine says its folder in place of its host's name.
    assert {hello.host for hello in host.engines.values()} == {str(tmp_path)}


@pytest.mark.parametrize(("number", "code"), [(signal.SIGKILL, -9), (signal.SIGSEGV, -11), (signal.SIGUSR1, 77)])
def test_an_engine_of_mpi_is_watched_by_its_child(controller, start, number, code):
    host = start(n=1, use_mpi=True)
    (engine,) = host.engines.values()
    assert engine.pid == host.process.pid
    os.kill(engine.pid, number)
    _, report = controller.expect(EngineExited)
    assert (report.uuid, report.code, report.balanced) == (engine.uuid, code, 41)
    host.wait_until_all_gone()


def test_an_engine_of_mpi_can_be_signalled_and_stopped(controller, start):
    host = start(n=1, use_mpi=True, startup_command="deaf", stop_timeout=0.1)
    controller.say(host.nanny, Bye("done"))
    assert host.wait_until_all_gone() == -9
