"""What users do with a batch system, the same for each: commands, Cluster, and what goes wrong."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from enginery.client.client import Client
from enginery.cluster.cluster import Cluster
from enginery.errors import LauncherError
from enginery.net.beat import LEASE
from services import daemons

IPCLUSTER = (sys.executable, "-m", "enginery.cluster")


class Site:
    """A batch system that runs: its short name, what its commands need, and how to look at its queue."""

    def __init__(
        self, name: str, environment: dict[str, str], queue: Callable[[dict[str, str]], list[str]], clear: list[str]
    ) -> None:
        """``clear`` is the command that removes all jobs."""
        self.name = name
        self.environment = environment
        self._queue = queue
        self._clear = clear

    def queue(self) -> list[str]:
        """Jobs that wait or run."""
        return self._queue(self.environment)

    def run(self, *command: str) -> str:
        """Run a command of the system."""
        return daemons.run(command, self.environment)

    @contextlib.contextmanager
    def entered(self) -> Iterator[Site]:
        """With its environment in this process, and those it starts; the queue must be empty at the end."""
        with pytest.MonkeyPatch.context() as patch:
            for name, value in self.environment.items():
                patch.setenv(name, value)
            # Engines shall find the functions of this file, which travel by name.
            patch.setenv("PYTHONPATH", str(Path(__file__).parents[1]), prepend=os.pathsep)
            yield self
            try:
                daemons.wait_until(lambda: not self.queue(), f"an empty queue of {self.name} (is: {self.queue()})")
            except AssertionError:
                # The next test shall find its room.
                self.run(*self._clear)
                daemons.wait_until(lambda: not self.queue(), f"an empty queue of {self.name} after {self._clear}")
                raise


@contextlib.contextmanager
def ipcluster(profile: Path, *arguments: str) -> Iterator[subprocess.Popen]:
    """``ipcluster`` that stays until it is told to leave."""
    process = subprocess.Popen(
        [*IPCLUSTER, *arguments, f"--profile-dir={profile}"],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
    )
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.communicate(timeout=60)
        finally:
            process.kill()


def read_until(process: subprocess.Popen, words: str) -> str:
    """What it says up to a line with ``words``."""
    said = ""
    for line in process.stdout:
        said += line
        if words in line:
            return said
    raise AssertionError(f"{words!r} was not said:\n{said}")


def start_use_kill(site: Site, profile: Path, kill: Callable[[str], object]) -> None:
    """``ipcluster start``, a map, and a job that somebody kills: the command says so in words, and leaves nothing."""
    with ipcluster(profile, "start", f"--engines={site.name}", "-n", "4") as process:
        said = read_until(process, "ipcluster stop")
        job = re.search(r"Job (\d+) submitted", said)[1]
        with Client(profile_dir=str(profile)) as rc:
            rc.wait_for_engines(4, timeout=60)
            assert rc[:].map_sync(lambda x: x * x, range(20)) == [x * x for x in range(20)]
            pids = rc[:].apply_sync(os.getpid)
            assert len(set(pids)) == 4
        assert site.queue()
        kill(job)
        rest, _ = process.communicate(timeout=60)
        assert f"job {job} is" in rest, rest
        assert process.returncode == 1
    assert not list((profile / "security").iterdir())


def start_and_stop(site: Site, profile: Path) -> None:
    """``ipcluster start --daemonize`` and ``ipcluster stop``: another process takes over, and the queue is empty."""
    daemons.run([*IPCLUSTER, "start", f"--engines={site.name}", "-n", "2", "--daemonize", f"--profile-dir={profile}"])
    try:
        listed = daemons.run([*IPCLUSTER, "list", "-o", "json"], {"IPYTHONDIR": str(profile.parent)})
        assert site.queue(), listed
        with Client(profile_dir=str(profile)) as rc:
            rc.wait_for_engines(2, timeout=60)
            assert rc[:].apply_sync(lambda: 7) == [7, 7]
    finally:
        daemons.run([*IPCLUSTER, "stop", f"--profile-dir={profile}"])
    daemons.wait_until(lambda: not site.queue(), "an empty queue")
    assert not list((profile / "security").iterdir())


def in_python(site: Site, profile: Path, n: int = 4) -> str:
    """``with Cluster(engines=...)``; returns what the job was said to do meanwhile."""
    cluster = Cluster(engines=site.name, n=n, profile_dir=str(profile))
    with cluster as rc:
        assert rc.ids == list(range(n))
        assert rc.load_balanced_view().map_sync(lambda x: x + 1, range(50)) == list(range(1, 51))
        launcher = cluster.engine_set
        daemons.wait_until(lambda: " is running" in launcher.status().lower(), "a job all of which runs")
        status = launcher.status()
    assert launcher.state == "after"
    assert not site.queue()
    return status


def controller_too(site: Site, profile: Path) -> None:
    """Controller and engines in jobs."""
    with Cluster(engines=site.name, controller=site.name, n=2, profile_dir=str(profile)) as rc:
        assert rc[:].apply_sync(lambda: 7) == [7, 7]
        assert len(site.queue()) >= 2
    assert not site.queue()


#: A cluster whose parts are all jobs, and the process that submitted them.
OWNER = """
import sys
from enginery import Cluster
cluster = Cluster(engines=sys.argv[1], controller=sys.argv[1], n=2, profile_dir=sys.argv[2])
client = cluster.start_and_connect_sync()
print(client[:].apply_sync(int), flush=True)
sys.stdin.read()
"""


@contextlib.contextmanager
def owner_of_jobs(site: Site, profile: Path) -> Iterator[subprocess.Popen]:
    """A process that owns a cluster of jobs, which runs; it is killed at the end at the latest."""
    command = [sys.executable, "-c", OWNER, site.name, str(profile)]
    owner = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        assert owner.stdout.readline() == "[0, 0]\n"
        assert len(site.queue()) >= 2
        yield owner
    finally:
        owner.kill()
        owner.communicate()


def killed_owner(site: Site, profile: Path) -> None:
    """Whoever submitted controller and engines is killed: the queue becomes empty, and no key stays behind."""
    with owner_of_jobs(site, profile) as owner:
        owner.kill()
        daemons.wait_until(lambda: not site.queue(), "an empty queue")
    daemons.wait_until(lambda: not list((profile / "security").iterdir()), "an empty folder of connection files")


def vanished_owner(site: Site, profile: Path) -> None:
    """Nothing of him is left on his host, as after a loss of power: the jobs are gone within a lease."""
    with owner_of_jobs(site, profile) as owner:
        for leash in leashes(owner.pid):
            os.kill(leash, signal.SIGKILL)
        owner.kill()
        # The controller leaves by itself, and its engines with it.
        daemons.wait_until(lambda: not site.queue(), "an empty queue", timeout=LEASE + 30)
    daemons.wait_until(lambda: not list((profile / "security").glob("*.json")), "the end of connection files")


def leashes(owner: int) -> list[int]:
    """Processes on this host that would remove the jobs of an owner."""
    found = daemons.run(["pgrep", "-f", f"batch_leash --owner-pid={owner} "]).split()
    assert len(found) == 2, found
    return list(map(int, found))


def wrong_program(site: Site, profile: Path) -> LauncherError:
    """Engines that cannot start: no python there."""
    cluster = Cluster(engines=site.name, n=2, profile_dir=str(profile), engine_timeout=60)
    cluster.config[f"{cluster_class(site)}EngineSetLauncher"].engine_cmd = ["/no/such/python", "-m", "enginery.engine"]
    with pytest.raises(LauncherError) as caught:
        cluster.start_and_connect_sync()
    assert not site.queue()
    return caught.value


def cluster_class(site: Site) -> str:
    """The prefix of the names of its launchers."""
    return {"slurm": "Slurm", "sge": "SGE", "htcondor": "HTCondor"}[site.name]
