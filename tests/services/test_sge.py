"""Engines by a real Grid Engine on this host."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from enginery.cluster.cluster import Cluster
from enginery.cluster.launchers.batch_named import SGEEngineSetLauncher
from enginery.errors import LauncherError
from services import batch_walks, daemons, sge
from services.batch_walks import Site

pytestmark = [pytest.mark.slow, pytest.mark.timeout(180)]


@pytest.fixture(scope="module")
def running() -> Iterator[Site]:
    folder = Path(tempfile.mkdtemp(prefix="sge-"))
    folder.chmod(0o755)
    try:
        with sge.sge(folder) as environment:
            yield Site("sge", environment, sge.queue, ["qdel", "-u", "root"])
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
    batch_walks.start_use_kill(site, profile, lambda job: site.run("qdel", job))


def test_start_and_stop_by_another_process(site, profile):
    batch_walks.start_and_stop(site, profile)


def test_in_python(site, profile):
    assert batch_walks.in_python(site, profile).endswith(" is running (r)")


def test_the_controller_in_a_job_as_well(site, profile):
    batch_walks.controller_too(site, profile)


def test_jobs_go_with_an_owner_who_is_killed(site, profile):
    batch_walks.killed_owner(site, profile)


def test_engines_that_cannot_start(site, profile):
    error = batch_walks.wrong_program(site, profile)
    for words in (
        "The set of 2 engines ended before the engines had connected",
        "is failed",
        "/no/such/python",
    ):
        assert words in str(error)
    assert error.code == 127


def test_a_job_that_is_refused(site, profile):
    cluster = Cluster(engines="sge", n=2, profile_dir=str(profile))
    cluster.config.SGELauncher.queue = "nope.q"
    with pytest.raises(LauncherError) as caught:
        cluster.start_and_connect_sync()
    for words in ("Grid Engine refused the job (exit code 1)", "Command: qsub ", "Script: ", "nope.q"):
        assert words in str(caught.value)


def test_a_job_that_waits_says_why(site, profile):
    launcher = SGEEngineSetLauncher(
        profile_dir=str(profile), batch_template="#$ -l num_proc=99\n#$ -t 1-{n}\n{program_and_args}\n"
    )
    launcher.start(2)
    daemons.wait_until(lambda: "cannot run at host" in launcher.status(), "the reason")
    assert launcher.status().startswith(f"job {launcher.identifier} is waiting (qw): ")
    launcher.stop()


def test_a_job_in_error_has_failed(site, profile, tmp_path):
    # Its output cannot be opened: Grid Engine would keep it in state Eqw for ever.
    launcher = SGEEngineSetLauncher(profile_dir=str(profile), output_file="/no/such/folder/out")
    launcher.start(2)
    assert launcher.join(60)
    assert "is in error (Eqw): " in launcher.status()
    assert "No such file or directory" in launcher.status()
    assert launcher.poll() == 1


def test_every_engine_logs_to_the_one_file(site, profile):
    cluster = Cluster(engines="sge", n=4, profile_dir=str(profile))
    with cluster:
        launcher = cluster.engine_set
        daemons.wait_until(lambda: launcher.get_output().count("Completed registration") == 4, "four lines")
