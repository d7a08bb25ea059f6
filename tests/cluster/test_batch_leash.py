"""Jobs of an owner who is killed: removed, whether they run or wait, with what they leave."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from cluster.batch_bed import Bed, is_alive
from enginery.cluster.launchers import batch_leash, batch_named
from enginery.net.connection_file import ConnectionInfo
from waiting import wait_until

PATIENCE = 30.0
pytestmark = [pytest.mark.skipif(not batch_leash.can_hold(), reason="this system has no pidfds")]
#: Submits a job that stays, says its id, and stays itself.
OWNER = """
import sys
from enginery.cluster.launchers import batch_named
launcher = getattr(batch_named, sys.argv[1])(
    profile_dir=sys.argv[2], cluster_id="c", owned=True, cluster_file=sys.argv[2] + "/cluster.json",
    {command}=[sys.executable, "-IS", "-c", "import time; print('here', flush=True); time.sleep(600)"],
)
launcher.start(1)
print(launcher.identifier, flush=True)
sys.stdin.read()
"""


@pytest.fixture
def bed(tmp_path, monkeypatch):
    found = Bed(tmp_path, "slurm", monkeypatch)
    yield found
    wait_until(lambda: not found.running())


@pytest.fixture
def own(tmp_path):
    """Start owners of one job each; the value is how, with the process and the profile's folder."""
    profile = tmp_path / "profile"
    (profile / "security").mkdir(parents=True)
    (profile / "cluster.json").write_text("{}")
    owners = []

    def start(part):
        command = "controller_cmd" if "Controller" in part else "engine_cmd"
        owner = subprocess.Popen(
            [sys.executable, "-c", textwrap.dedent(OWNER.format(command=command)), part, str(profile)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        owners.append(owner)
        assert owner.stdout.readline().strip().isdigit()
        return owner, profile

    yield start
    for owner in owners:
        owner.kill()
        owner.communicate()


def leashes():
    """Processes that hold a job, by the pid of their owner."""
    found = {}
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = path.read_bytes().decode().split("\0")
        except OSError:
            continue
        if "enginery.cluster.launchers.batch_leash" in words:
            found[next(each for each in words if each.startswith("--owner-pid=")).partition("=")[2]] = int(
                path.parent.name
            )
    return found


def leash_of(owner):
    """The process that holds the job of an owner. Its words are to be read a little later than it has begun."""
    wait_until(lambda: str(owner) in leashes())
    return leashes()[str(owner)]


def wait_for_end(pid):
    """Wait for the end of a process that is no child."""
    import select

    descriptor = os.pidfd_open(pid)
    try:
        assert select.select([descriptor], [], [], PATIENCE)[0]
    finally:
        os.close(descriptor)


@pytest.mark.parametrize("full", [False, True])
def test_a_job_goes_with_its_owner_whether_it_runs_or_waits(bed, own, full):
    if full:
        bed.say("full")
    owner, profile = own("SlurmControllerLauncher")
    for reuse in (0, 1):
        info = ConnectionInfo("engine", "tcp://127.0.0.1:9", reuse=reuse)
        info.save(profile / "security" / f"ipcontroller-c-{('client', 'engine')[reuse]}.json")
    leash = leash_of(owner.pid)
    beat = profile / "pid" / "ipcontroller-c-owner"
    assert beat.exists()
    assert f"--owner-beat={beat}" in next((profile / "log").glob("slurm*")).read_text()
    owner.kill()
    wait_for_end(leash)
    wait_until(lambda: not bed.running())
    left = [path.name for path in profile.rglob("*") if path.is_file()]
    # The next controller with these files uses them again. What the job has written stays, to be read.
    assert [name for name in left if not name.endswith(".log")] == ["ipcontroller-c-engine.json"]


def test_engines_have_no_use_for_beats(bed, own):
    owner, profile = own("SlurmEngineSetLauncher")
    leash = leash_of(owner.pid)
    assert not list((profile / "pid").iterdir())
    owner.kill()
    wait_for_end(leash)
    wait_until(lambda: not bed.running())


def test_who_holds_a_job_goes_with_it(bed, tmp_path):
    launcher = batch_named.SlurmControllerLauncher(
        profile_dir=str(tmp_path / "profile"), owned=True, controller_cmd=["sleep", "600"], poll_interval=0.05
    )
    launcher.start()
    leash = leash_of(os.getpid())
    launcher.stop()
    assert not is_alive(leash)
    assert not launcher.beat_file.exists()


def test_a_job_that_belongs_to_nobody_is_not_held(bed, tmp_path):
    launcher = batch_named.SlurmControllerLauncher(
        profile_dir=str(tmp_path / "profile"), controller_cmd=["sleep", "600"], poll_interval=0.05
    )
    launcher.start()
    assert str(os.getpid()) not in leashes()
    assert "--owner-beat" not in launcher.arg_str
    launcher.stop()


def test_a_batch_system_that_is_down_is_asked_again(monkeypatch, tmp_path):
    monkeypatch.setattr(batch_leash, "PAUSE", 0.0)
    tries = tmp_path / "tries"
    script = f"echo >> {tries}; test $(wc -l < {tries}) = 3"
    gone = subprocess.Popen(["true"])
    gone.wait()
    assert batch_leash.main([f"--owner-pid={gone.pid}", "--", "sh", "-c", script]) == 0
    assert tries.read_text() == "\n" * 3
    assert batch_leash.main([f"--owner-pid={gone.pid}", "--", str(tmp_path / "no such command")]) == 1
