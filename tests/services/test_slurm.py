"""Engines by a real Slurm: two nodes on this host."""

from __future__ import annotations

import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from enginery.cluster.cluster import Cluster
from enginery.cluster.launchers.batch_named import SlurmEngineSetLauncher
from enginery.errors import LauncherError
from services import batch_walks, daemons, slurm
from services.batch_walks import Site

pytestmark = [pytest.mark.slow, pytest.mark.timeout(180)]


@pytest.fixture(scope="module")
def running() -> Iterator[Site]:
    import shutil
    import tempfile

    # Short, and open to all: a socket is in it, and daemons look at the modes of its parents.
    folder = Path(tempfile.mkdtemp(prefix="slurm-"))
    try:
        with slurm.slurm(folder) as environment:
            yield Site("slurm", environment, slurm.queue, ["scancel", "--user=root"])
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def site(running) -> Iterator[Site]:
    with running.entered() as site:
        yield site


@pytest.fixture
def profile(tmp_path) -> Path:
    return tmp_path / "profile_it"


@pytest.mark.row(45)
def test_start_use_and_a_killed_job(site, profile):
    batch_walks.start_use_kill(site, profile, lambda job: site.run("scancel", job))


def test_start_and_stop_by_another_process(site, profile):
    batch_walks.start_and_stop(site, profile)


def test_in_python(site, profile):
    status = batch_walks.in_python(site, profile)
    assert status.startswith("job ")
    assert status.endswith(" is RUNNING")


def test_the_controller_in_a_job_as_well(site, profile):
    batch_walks.controller_too(site, profile)


def test_jobs_go_with_an_owner_who_is_killed(site, profile):
    batch_walks.killed_owner(site, profile)


def test_jobs_go_with_an_owner_whose_host_loses_power(site, profile):
    batch_walks.vanished_owner(site, profile)


def test_engines_that_cannot_start(site, profile):
    error = batch_walks.wrong_program(site, profile)
    for words in (
        "The set of 2 engines ended before the engines had connected",
        "is FAILED",
        "/no/such/python",
    ):
        assert words in str(error)
    assert error.code


def test_a_job_that_is_refused(site, profile):
    cluster = Cluster(engines="slurm", n=2, profile_dir=str(profile))
    cluster.config.SlurmLauncher.queue = "nope"
    with pytest.raises(LauncherError) as caught:
        cluster.start_and_connect_sync()
    for words in (
        "Slurm refused the job (exit code 1)",
        "Command: sbatch ",
        "Script: ",
        "invalid partition specified: nope",
    ):
        assert words in str(caught.value)
    script = Path(str(caught.value).partition("Script: ")[2].partition("\n")[0])
    assert "#SBATCH --partition=nope" in script.read_text()


def test_no_command_to_submit_with(site, profile, monkeypatch):
    with monkeypatch.context() as patch, pytest.raises(LauncherError) as caught:
        patch.setenv("PATH", str(profile.parent))
        Cluster(engines="slurm", n=2, profile_dir=str(profile)).start_and_connect_sync()
    for words in (
        "There is no command 'sbatch' on this machine",
        f"PATH={profile.parent}",
        "c.SlurmEngineSetLauncher.submit_command = ['/path/to/sbatch']",
    ):
        assert words in str(caught.value)


def test_a_job_that_waits_says_why(site, profile):
    whole = "#!/bin/sh\n#SBATCH --exclusive --nodes=2\nexec sleep 600\n"
    blocker = SlurmEngineSetLauncher(profile_dir=str(profile), batch_template=whole, engine_set_id="first")
    launcher = SlurmEngineSetLauncher(profile_dir=str(profile), batch_template=whole, engine_set_id="second")
    blocker.start(1)
    daemons.wait_until(lambda: "RUNNING" in blocker.status(), "a job that runs")
    launcher.start(1)
    daemons.wait_until(lambda: launcher.status().endswith("PENDING: Resources"), "the reason")
    heir = SlurmEngineSetLauncher.from_dict(launcher.to_dict(), profile_dir=str(profile))
    assert heir.status() == f"job {launcher.identifier} is PENDING: Resources"
    heir.stop()
    blocker.stop()
    assert launcher.join(30)
    assert "CANCELLED" in launcher.status()


def test_a_signal(site, profile, tmp_path):
    program = tmp_path / "program.py"
    program.write_text(
        "import signal, sys\nsignal.signal(10, lambda *_: sys.exit(5))\nprint('here', flush=True)\nsignal.pause()"
    )
    launcher = SlurmEngineSetLauncher(profile_dir=str(profile), engine_cmd=[sys.executable, str(program)])
    launcher.start(2)
    daemons.wait_until(lambda: launcher.get_output().count("here") == 2, "the programs")
    launcher.signal(signal.SIGUSR1)
    assert launcher.join(60)
    assert launcher.poll() == 5


def test_an_array_of_ones_own(site, profile):
    cluster = Cluster(engines="slurm", n=3, profile_dir=str(profile))
    cluster.config.SlurmEngineSetLauncher.batch_template = (
        "#!/bin/bash\n#SBATCH --job-name=mine\nexport MINE=$SLURM_ARRAY_TASK_ID\n{program_and_args}\n"
    )
    with cluster as rc:
        assert sorted(rc[:].apply_sync(lambda: __import__("os").environ["MINE"])) == ["1", "2", "3"]
        daemons.wait_until(lambda: cluster.engine_set.status().endswith("is RUNNING"), "the array")
        one = site.queue()[0].split()[0]
        site.run("scancel", one)
        daemons.wait_until(lambda: "2 RUNNING, 1 CANCELLED" in cluster.engine_set.status(), "the end of one task")
        daemons.wait_until(lambda: len(rc) == 2, "the news")


def test_two_hundred_engines(site, profile):
    cluster = Cluster(engines="slurm", n=200, profile_dir=str(profile), engine_timeout=150)
    light = Path(__file__).with_name("light_engine.py")
    cluster.config.SlurmEngineSetLauncher.engine_cmd = [sys.executable, str(light)]
    with cluster as rc:
        assert rc.ids == list(range(200))
        assert rc[:].apply_sync(lambda: None) == [None] * 200


def test_no_room_for_the_script(site, tmp_path):
    full = tmp_path / "full"
    full.mkdir()
    daemons.run(["mount", "-t", "tmpfs", "-o", "size=4k", "tmpfs", str(full)])
    try:
        (full / "filler").write_bytes(b"x" * 4096)
        launcher = SlurmEngineSetLauncher(profile_dir=str(tmp_path / "profile"), batch_file_name=str(full / "script"))
        with pytest.raises(
            LauncherError, match=r"Cannot write the batch script .*: No space left on device.*batch_file_name"
        ):
            launcher.start(1)
        assert [path.name for path in full.iterdir()] == ["filler"]
    finally:
        daemons.run(["umount", str(full)])
