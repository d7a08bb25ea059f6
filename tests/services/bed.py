"""A bed of separate hosts on one machine: Linux network namespaces with a private disk, name and process ids each.

    the machine (gw, 10.77.k.1) ── bridge ──┬── head 10.77.k.10
                                            ├── h1   10.77.k.11
                                            └── h2   10.77.k.12 …

What is each host's own: network, host name, /etc/hosts, process ids, ``/dev/shm``, and the folder ``local``, which has the
same path everywhere and other contents on each host, as a local disk has. Everything else is shared, as by NFS. Needs
root, iproute2 and util-linux. Two beds at once do not meet: each takes a number k of its own, which is part of the names of
its bridge and namespaces; what a killed run has left under a number is cleared by the next who comes to it.
"""

from __future__ import annotations

import contextlib
import os
import re
import select
import shutil
import signal
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Self

#: What beds are known by: the bridge's name is this and the number.
PREFIX = "ebed"
#: Numbers a bed may have.
NUMBERS = range(200)
#: How long a host may take to be up or gone, in seconds.
PATIENCE = 20.0
#: Runs in a host as its first process: sets it up, says so, and reaps orphans until it is killed.
KEEPER = """
hostname {name}
mount --make-rprivate /
for file in hosts resolv.conf nsswitch.conf; do mount --bind {folder}/$file /etc/$file; done
mount -t tmpfs -o mode=0755 local {folder}/local
mount -t tmpfs -o mode=1777 shm /dev/shm
mkdir -m 0700 {folder}/local/run
trap : TERM
echo up
sleep infinity </dev/null >/dev/null 2>&1 &
exec </dev/null >/dev/null 2>&1
while :; do wait; done
"""


class Bed:
    """A machine room: ``up`` makes hosts ``head``, ``h1`` … ``hN``, ``down`` removes every trace. A context manager."""

    def __init__(self, n: int = 2) -> None:
        """``n`` hosts beside the head."""
        self.names = ["head", *(f"h{number + 1}" for number in range(n))]
        self.folder = Path(tempfile.mkdtemp(prefix=f"{PREFIX}-"))  #: shared by all hosts, short enough for sockets
        self.local = self.folder / "local"  #: the same path on each host, and there a disk of its own
        self._keepers: dict[str, subprocess.Popen[bytes]] = {}
        self._number = -1

    def __enter__(self) -> Self:
        self.up()
        return self

    def __exit__(self, *_: object) -> None:
        self.down()

    # --- the room -----------------------------------------------------------------------------------------------

    def up(self) -> None:
        """Make the hosts and start them. Raises CalledProcessError if the machine does not allow that."""
        try:
            self._number = _take_number()
            _ip("addr", "add", f"{self.address('gw')}/24", "dev", self._bridge)
            _ip("link", "set", self._bridge, "up")
            self._write_files()
            for name in self.names:
                self._plug_in(name)
                self.boot(name)
        except BaseException:
            self.down()
            raise

    def down(self) -> None:
        """Kill everything on every host and remove the hosts. May be called twice."""
        for name in list(self._keepers):
            self.poweroff(name)
        if self._number >= 0:
            _clear(self._number)
            self._number = -1
        shutil.rmtree(self.folder, ignore_errors=True)

    def address(self, name: str) -> str:
        """The address of a host; ``gw`` is the machine itself."""
        last = 1 if name == "gw" else 10 + self.names.index(name)
        return f"10.77.{self._number}.{last}"

    def namespace(self, name: str) -> str:
        """The network namespace of a host, as ``ip netns`` knows it."""
        return f"{self._bridge}-{name}"

    def cut(self, name: str) -> None:
        """Pull a host's network cable."""
        _ip("link", "set", self._cable(name), "down")

    def join(self, name: str) -> None:
        """Put the cable back."""
        _ip("link", "set", self._cable(name), "up")

    def boot(self, name: str) -> None:
        """Start a host that is off: empty disk, no processes."""
        script = KEEPER.format(name=name, folder=self.folder)
        # The outer process dies with this one, and the whole host with it: nothing outlives a killed run.
        outer = ["setpriv", "--pdeathsig", "KILL", "nsenter", f"--net=/run/netns/{self.namespace(name)}"]
        spaces = ["unshare", "--uts", "--mount", "--pid", "--fork", "--kill-child=KILL", "--mount-proc"]
        keeper = subprocess.Popen(
            [*outer, *spaces, "bash", "-ec", script],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )
        self._keepers[name] = keeper
        assert keeper.stdout is not None
        assert keeper.stderr is not None
        if not select.select([keeper.stdout], [], [], PATIENCE)[0] or keeper.stdout.readline() != b"up\n":
            keeper.kill()
            raise RuntimeError(f"host {name} did not start: {keeper.stderr.read().decode()}")
        keeper.stdout.close()
        keeper.stderr.close()

    def poweroff(self, name: str) -> None:
        """Pull a host's plug: all its processes are killed at once."""
        keeper = self._keepers.pop(name)
        first = _child_of(keeper.pid)
        if first:
            with contextlib.suppress(ProcessLookupError):
                os.kill(first, signal.SIGKILL)
        else:
            keeper.kill()
        keeper.wait(PATIENCE)

    # --- what hosts do ------------------------------------------------------------------------------------------

    def command(self, name: str, command: list[str]) -> list[str]:
        """What runs ``command`` on a host, in the same folder. The outer process killed, the inner one is as well."""
        first = _child_of(self._keepers[name].pid)
        enter = ["nsenter", "-t", str(first), "-n", "-u", "-m", "-p", f"--wdns={Path.cwd()}", "--"]
        return [*enter, "setpriv", "--pdeathsig", "KILL", "--", *map(str, command)]

    def environment(self, **more: str) -> dict[str, str]:
        """This process's environment, with the place for sockets on the host's own disk, and more."""
        return os.environ | {"XDG_RUNTIME_DIR": str(self.local / "run")} | more

    def run(self, name: str, command: list[str], *, check: bool = True, **kwargs) -> subprocess.CompletedProcess[str]:
        """Run a command on a host to its end. As ``subprocess.run``; text is captured, failure raises."""
        given = {"env": self.environment(), "capture_output": True, "text": True, "timeout": PATIENCE}
        return subprocess.run(self.command(name, command), check=check, **(given | kwargs))

    def popen(self, name: str, command: list[str], **kwargs) -> subprocess.Popen:
        """Start a command on a host. As ``subprocess.Popen``, but signals go to ``send``, and ``kill`` kills both."""
        return subprocess.Popen(self.command(name, command), **({"env": self.environment()} | kwargs))

    def send(self, process: subprocess.Popen, number: int = signal.SIGTERM) -> None:
        """Signal a program that ``popen`` started, not what carries it to its host."""
        if inner := _child_of(process.pid):
            with contextlib.suppress(ProcessLookupError):
                os.kill(inner, number)

    def processes(self, name: str) -> dict[int, str]:
        """Command lines of what runs on a host, by the process ids it has outside."""
        ours = os.readlink(f"/proc/{_child_of(self._keepers[name].pid)}/ns/pid")
        found = {}
        for path in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                if os.readlink(path / "ns" / "pid") == ours:
                    found[int(path.name)] = (path / "cmdline").read_bytes().replace(b"\0", b" ").decode().strip()
        return found

    def await_end(self, pattern: str, patience: float = PATIENCE) -> None:
        """Wait until nothing runs on any host whose command line matches. What stays is killed, and fails the test.

        So that it fails this test, and not the next ones as well.
        """
        deadline = time.monotonic() + patience

        def left() -> dict[int, str]:
            found = {pid: line for name in self._keepers for pid, line in self.processes(name).items()}
            return {pid: line for pid, line in found.items() if re.search(pattern, line)}

        while left() and time.monotonic() < deadline:
            time.sleep(0.05)  # processes of other hosts are no children of ours
        stayed = left()
        for pid in stayed:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        assert not stayed

    # --- in detail ----------------------------------------------------------------------------------------------

    @property
    def _bridge(self) -> str:
        return f"{PREFIX}{self._number}"

    def _cable(self, name: str) -> str:
        return f"{self._bridge}v{name}"

    def _plug_in(self, name: str) -> None:
        space, cable = self.namespace(name), self._cable(name)
        _ip("netns", "add", space)
        _ip("link", "add", cable, "type", "veth", "peer", "name", "eth0", "netns", space)
        _ip("link", "set", cable, "master", self._bridge, "up")
        _ip("-n", space, "addr", "add", f"{self.address(name)}/24", "dev", "eth0")
        for interface in ("eth0", "lo"):
            _ip("-n", space, "link", "set", interface, "up")

    def _write_files(self) -> None:
        self.folder.chmod(0o755)
        self.local.mkdir()
        lines = [f"{self.address(name)} {name}" for name in ("gw", *self.names)]
        (self.folder / "hosts").write_text("\n".join(["127.0.0.1 localhost", *lines, ""]))
        # No name server: each look-up of a name that is not in the file would wait for one.
        (self.folder / "resolv.conf").write_text("")
        switch = re.sub(r"(?m)^hosts:.*$", "hosts: files", Path("/etc/nsswitch.conf").read_text())
        (self.folder / "nsswitch.conf").write_text(switch)


def _take_number() -> int:
    """Make the bridge with the first free number: that it can be made only once decides between two runs."""
    for number in NUMBERS:
        name = f"{PREFIX}{number}"
        if _is_abandoned(number):
            _clear(number)
        if (
            subprocess.run(["ip", "link", "add", name, "type", "bridge"], capture_output=True, check=False).returncode
            == 0
        ):
            _ip("link", "set", name, "alias", _alias())
            return number
    _ip("link", "add", f"{PREFIX}-last", "type", "bridge")  # raises with the system's reason, if it has one
    raise RuntimeError(f"all {len(NUMBERS)} numbers of beds are taken; see `ip link show type bridge`")


def _alias() -> str:
    """Who owns a bed: process id and the time it started, which no later process has."""
    return f"{os.getpid()}:{_started(os.getpid())}"


def _started(pid: int) -> str:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2].split()[19]


def _is_abandoned(number: int) -> bool:
    """Whether the owner of a bed is gone. One that is just being made counts as owned."""
    try:
        pid, _, started = Path(f"/sys/class/net/{PREFIX}{number}/ifalias").read_text().strip().partition(":")
    except OSError:
        return False
    if not pid:
        return False
    try:
        return _started(int(pid)) != started
    except OSError:
        return True


def _clear(number: int) -> None:
    """Remove the network of a bed."""
    spaces = [path.name for path in Path("/run/netns").glob(f"{PREFIX}{number}-*")]
    cables = [path.name for path in Path("/sys/class/net").glob(f"{PREFIX}{number}v*")]
    # Cables first, and by name: a namespace takes its end away only some time after it was deleted.
    for what in [*(("link", "del", each) for each in cables), *(("netns", "del", each) for each in spaces)]:
        subprocess.run(["ip", *what], capture_output=True, check=False)
    subprocess.run(["ip", "link", "del", f"{PREFIX}{number}"], capture_output=True, check=False)


def _ip(*arguments: str) -> None:
    done = subprocess.run(["ip", *arguments], capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"`ip {' '.join(arguments)}` failed: {done.stderr.strip()}. Beds need root and iproute2.")


def _child_of(pid: int) -> int:
    """The only child of a process; 0 if it has none. Waits until one that was just started has it."""
    deadline = time.monotonic() + PATIENCE
    children = Path(f"/proc/{pid}/task/{pid}/children")
    while time.monotonic() < deadline:
        try:
            found = children.read_text().split()
        except OSError:
            return 0
        if found:
            return int(found[0])
        if (Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2])[0] == "Z":
            return 0
        time.sleep(0.005)  # the kernel tells nobody of forks
    return 0
