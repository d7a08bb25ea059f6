"""Engines by a real HTCondor on this host. Run by `make condor`, since it takes 300 MB to install."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from enginery.cluster.cluster import Cluster
from enginery.cluster.launchers.batch_named import HTCondorEngineSetLauncher
from enginery.errors import LauncherError
from services import batch_walks, condor, daemons
from services.batch_walks import Site

pytestmark = [pytest.mark.slow, pytest.mark.timeout(180)]


@pytest.fixture(scope="module")
def running() -> Iterator[Site]:
    folder = Path(tempfile.mkdtemp(prefix="condor-"))
    folder.chmod(0o755)
    try:
        with condor.condor(folder) as environment:
            yield Site("htcondor", environment, condor.queue, ["condor_rm", "-all"])
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def site(running) -> Iterator[Site]:
    with running.entered() as site:
        yield site


@pytest.fixture
def profile(tmp_path) -> Path:
    return tmp_path / "profile_it"


def test_start_use_and_a_killed_job(site, profile):
    batch_walks.start_use_kill(site, profile, lambda job: site.run("condor_rm", job))


def test_start_and_stop_by_another_process(site, profile):
    batch_walks.start_and_stop(site, profile)


def test_in_python(site, profile):
    assert batch_walks.in_python(site, profile).endswith(" is running")


def test_the_controller_in_a_job_as_well(site, profile):
    batch_walks.controller_too(site, profile)


def test_jobs_go_with_an_owner_who_is_killed(site, profile):
    batch_walks.killed_owner(site, profile)


def test_engines_that_cannot_start(site, profile):
    error = batch_walks.wrong_program(site, profile)
    assert "The set of 2 engines ended before the engines had connected" in str(error)
    assert "/no/such/python" in str(error)


def test_a_job_that_is_refused(site, profile):
    cluster = Cluster(engines="htcondor", n=2, profile_dir=str(profile))
    cluster.config.HTCondorEngineSetLauncher.batch_template = "universe = nonsense\nqueue {n}\n"
    with pytest.raises(LauncherError) as caught:
        cluster.start_and_connect_sync()
    for words in ("HTCondor refused the job (exit code 1)", "Command: condor_submit ", "Script: ", "nonsense"):
        assert words in str(caught.value)


def test_a_job_that_is_held_has_failed(site, profile):
    launcher = HTCondorEngineSetLauncher(profile_dir=str(profile), output_file="/no/such/folder/out")
    launcher.start(2)
    assert launcher.join(90)
    assert "held" in launcher.status()
    assert launcher.poll() == 1


def test_a_job_that_waits_says_so(site, profile):
    launcher = HTCondorEngineSetLauncher(
        profile_dir=str(profile),
        batch_template="executable = /bin/sleep\narguments = 600\nrequest_cpus = 99\nqueue {n}\n",
    )
    launcher.start(1)
    daemons.wait_until(lambda: launcher.status().endswith("is idle"), "the state")
    launcher.stop()
