"""Broadcasts to engines on two other hosts: the link of each host carries the data once, and everything arrives."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest

PATIENCE = 90
PYTHON = sys.executable
ENGINES = 4
#: Bytes of one broadcast, and what else may cross a link meanwhile: heartbeats, headers, acknowledgements of TCP.
SIZE = 50_000_000
ELSE = SIZE // 10
#: A relayed buffer among the mappings of its owner; readers have it for themselves.
RELAYED = re.compile(r" rw-s .* /dev/shm/enginery-\d+/\w+/h\d+-\d+$", re.MULTILINE)
#: Open MPI refuses root, and more ranks than cores, unless told.
OPEN_MPI = {
    "OMPI_ALLOW_RUN_AS_ROOT": "1",
    "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1",
    "OMPI_MCA_rmaps_base_oversubscribe": "1",
}
pytestmark = [pytest.mark.slow, pytest.mark.timeout(240)]

SCRIPT = """
import sys
import numpy as np
import enginery as ipp

rc = ipp.Client({file!r}, timeout=60)
rc.wait_for_engines({engines}, timeout=60)
dv = rc[:]
array = np.random.default_rng(4711).integers(0, 256, {size}, dtype="u1")
digest = lambda: (__import__("zlib").crc32(array), array.flags.writeable, __import__("socket").gethostname())
expected = __import__("zlib").crc32(array)

def check():
    seen = dv.apply_sync(digest)
    assert all(each[:2] == (expected, True) for each in seen), seen
    dv.execute("del array", block=True)
    print("right on", *sorted({{each[2] for each in seen}}), flush=True)

print("ready", flush=True)
for line in sys.stdin:
    exec(line)
    print("done", flush=True)
"""


class Room:
    """A controller on ``head``, engines on ``h1`` and ``h2``, and a client on ``head`` that does what it is told."""

    def __init__(self, bed, together=ENGINES, ranks=False) -> None:
        """``together`` is how many engines each program starts that is started on a host; or all are ``ranks`` of MPI."""
        self.bed = bed
        self.folder = bed.folder / "broadcast"
        self.folder.mkdir()
        self.processes: list[subprocess.Popen] = []
        environment = bed.environment(IPYTHONDIR=str(bed.local / "ipython"), PYTHONUNBUFFERED="1", **OPEN_MPI)

        def start(host, *command, **kwargs):
            with (self.folder / f"{host}-{len(self.processes)}.log").open("wb") as log:
                given = {"stdout": log, "stderr": log, "env": environment}
                self.processes.append(bed.popen(host, command, **(given | kwargs)))
            return self.processes[-1]

        profile = self.folder / "profile"
        ip = f"--ip={bed.address('head')}"
        self.controller = start("head", PYTHON, "-m", "enginery.controller", f"--profile-dir={profile}", ip)
        files = {kind: profile / "security" / f"ipcontroller-{kind}.json" for kind in ("client", "engine")}
        self.wait_until(lambda: all(path.exists() for path in files.values()))
        engine = [PYTHON, "-m", "enginery.engine", f"--file={files['engine']}", f"--work-dir={bed.local}"]
        engine = ["mpiexec.openmpi", "-n", str(ENGINES), *engine] if ranks else [*engine, f"--n={together}"]
        self.programs = {host: [start(host, *engine) for _ in range(ENGINES // together)] for host in ("h1", "h2")}
        script = textwrap.dedent(SCRIPT).format(file=str(files["client"]), engines=2 * ENGINES, size=SIZE)
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
        self.client = start("head", PYTHON, "-c", script, **pipes)
        self.read_until("ready")

    def say(self, line) -> None:
        """Have the client run a line of code."""
        self.client.stdin.write(line + "\n")
        self.client.stdin.flush()

    def read_until(self, word="done") -> str:
        """What the client prints until it has said a word."""
        lines: list[str] = []
        while not lines or lines[-1] != word:
            line = self.client.stdout.readline()
            assert line, "\n".join([*lines, *(path.read_text() for path in self.folder.glob("*.log"))])
            lines.append(line.strip())
        return "\n".join(lines)

    def do(self, line) -> str:
        self.say(line)
        return self.read_until()

    def sent_to(self, host) -> int:
        """Bytes that have gone over a host's link to it."""
        number = re.search(r"\.(\d+)\.\d+$", self.bed.address(host))[1]
        return int(Path(f"/sys/class/net/ebed{number}v{host}/statistics/tx_bytes").read_text())

    def push(self) -> dict[str, int]:
        """Have the data pushed to all engines; how many bytes went over each link."""
        before = {host: self.sent_to(host) for host in ("h1", "h2")}
        self.do("dv.push({'array': array}, block=True)")
        return {host: self.sent_to(host) - before[host] for host in before}

    def nanny(self, host) -> int:
        """The process id, outside, of the nanny: the host process's child that was forked first."""
        (program,) = self.programs[host]
        (first,) = Path(f"/proc/{program.pid}/task/{program.pid}/children").read_text().split()
        return int(Path(f"/proc/{first}/task/{first}/children").read_text().split()[0])

    def relaying(self, host) -> int:
        """The process id, outside, of the nanny whose memory a relayed buffer is in."""
        (found,) = (pid for pid in self.bed.processes(host) if RELAYED.search(Path(f"/proc/{pid}/maps").read_text()))
        return found

    def segments(self, host) -> list[str]:
        return self.bed.run(host, ["find", "/dev/shm", "-type", "f", "-name", "h*"]).stdout.split()

    def left(self, host) -> list[str]:
        """Everything in a host's shared memory."""
        return self.bed.run(host, ["find", "/dev/shm", "-mindepth", "1"]).stdout.split()

    def wait_until(self, true) -> None:
        deadline = time.monotonic() + PATIENCE
        while not true():
            assert time.monotonic() < deadline, "\n".join(path.read_text() for path in self.folder.glob("*.log"))
            time.sleep(0.01)

    def end(self) -> None:
        for process in reversed(self.processes):
            self.bed.send(process)
        for process in self.processes:
            process.wait(PATIENCE)
        for pipe in (self.client.stdin, self.client.stdout):
            pipe.close()


@contextlib.contextmanager
def opened(room):
    yield room
    room.end()
    room.bed.await_end("enginery")
    for host in ("h1", "h2"):
        assert room.left(host) == []
    room.bed.run("head", ["rm", "-rf", str(room.folder)])


@pytest.fixture
def room(bed):
    with opened(Room(bed)) as room:
        yield room


@pytest.fixture(params=["one by one", "ranks"])
def apart(bed, request):
    """Engines with a nanny each: they were started one by one, as batch systems do, or are ranks of MPI."""
    with opened(Room(bed, ranks=True) if request.param == "ranks" else Room(bed, together=1)) as room:
        yield room


@pytest.mark.parametrize(
    "broadcast",
    [
        "dv.push({'array': array}, block=True)",
        "rc.broadcast_view().push({'array': array}, block=True)",
        "dv.apply_sync(lambda given: globals().update(array=given), array)",
    ],
    ids=["push", "broadcast view", "argument"],
)
def test_the_data_cross_each_link_once(room, broadcast):
    before = {host: room.sent_to(host) for host in ("h1", "h2")}
    room.do(broadcast)
    crossed = {host: room.sent_to(host) - before[host] for host in before}
    print(crossed)
    assert all(SIZE <= size < SIZE + ELSE for size in crossed.values()), crossed
    assert "right on h1 h2" in room.do("check()")


def test_a_host_without_room_gets_a_copy_for_each_engine(room):
    room.bed.run("h2", ["mount", "-o", "remount,size=8m", "/dev/shm"])
    try:
        before = {host: room.sent_to(host) for host in ("h1", "h2")}
        room.do("dv.push({'array': array}, block=True)")
        crossed = {host: room.sent_to(host) - before[host] for host in before}
        assert SIZE <= crossed["h1"] < SIZE + ELSE
        assert ENGINES * SIZE <= crossed["h2"] < ENGINES * (SIZE + ELSE)
        assert "right on h1 h2" in room.do("check()")
    finally:
        room.bed.run("h2", ["mount", "-o", "remount,size=50%", "/dev/shm"])


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP], ids=["killed", "stuck"])
def test_a_nanny_fails_in_the_middle(room, number):
    nanny, before = room.nanny("h1"), room.sent_to("h1")
    room.say("dv.push({'array': array}, block=True)")
    room.wait_until(lambda: room.sent_to("h1") - before > SIZE // 5)
    os.kill(nanny, number)
    room.read_until()
    assert "right on h1 h2" in room.do("check()")
    os.kill(nanny, signal.SIGCONT) if number == signal.SIGSTOP else None
    room.do("dv.push({'array': array}, block=True)")
    assert "right on h1 h2" in room.do("check()")


def test_memory_of_the_hosts_is_used_again(room):
    for _ in range(12):
        room.do("dv.push({'array': array}, block=True)")
    assert len(room.segments("h1")) <= 3
    assert "right on h1 h2" in room.do("check()")


def test_a_host_process_is_killed_in_the_middle(room):
    before = room.sent_to("h1")
    room.say("result = dv.push({'array': array}, block=False)")
    room.wait_until(lambda: room.sent_to("h1") - before > SIZE // 5)
    room.programs["h1"][0].kill()  # and all its engines with it
    room.read_until()
    said = room.do("print(type(result.exception(60)).__name__); dv = rc[[each for each in rc.ids]]; print(len(dv))")
    assert "EngineError" in said or "CompositeError" in said, said
    room.wait_until(lambda: room.segments("h1") == [])


def once(crossed) -> bool:
    print(crossed)
    return all(SIZE <= size < SIZE + ELSE for size in crossed.values())


def test_engines_with_a_nanny_each_get_one_copy_for_their_host(apart):
    assert once(apart.push())
    assert "right on h1 h2" in apart.do("check()")
    relaying = apart.relaying("h1")
    os.kill(relaying, signal.SIGKILL)
    apart.push()  # which may have begun before anybody noticed
    assert "right on h1 h2" in apart.do("check()")
    assert once(apart.push()), "another nanny has taken over"
    assert "right on h1 h2" in apart.do("check()")
    assert apart.relaying("h1") != relaying


def test_the_nanny_that_relays_is_killed_in_the_middle(apart):
    assert once(apart.push())
    relaying, before = apart.relaying("h1"), apart.sent_to("h1")
    apart.say("dv.push({'array': array + 1}, block=True)")
    apart.wait_until(lambda: apart.sent_to("h1") - before > SIZE // 5)
    os.kill(relaying, signal.SIGKILL)
    apart.read_until()
    apart.do("expected, before = __import__('zlib').crc32(array + 1), expected")
    assert "right on h1 h2" in apart.do("check()")
    apart.do("expected = before")
    assert once(apart.push())
    assert "right on h1 h2" in apart.do("check()")


@pytest.mark.parametrize("apart", ["one by one"], indirect=True)
def test_engines_that_leave_take_nothing_from_others_and_the_last_takes_everything(apart):
    assert once(apart.push())
    for number in (signal.SIGTERM, signal.SIGKILL):
        leaving = apart.programs["h1"].pop(0)
        apart.bed.send(leaving, number)
        leaving.wait(PATIENCE)
    apart.wait_until(lambda: apart.do("print(len(rc.ids))").startswith(f"{2 * ENGINES - 2}\n"))
    apart.do("dv = rc[:]")
    assert once(apart.push())
    assert "right on h1 h2" in apart.do("check()")
    for program in apart.programs["h1"]:
        assert apart.left("h1")
        apart.bed.send(program, signal.SIGKILL)
        program.wait(PATIENCE)
    apart.wait_until(lambda: apart.left("h1") == [])
