"""Rows 60 to 68: batch systems, as a user configures them in a profile and starts them by ipcluster."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import sys
from pathlib import Path

import pytest

from cluster.batch_bed import Bed
from commands import Commands
from enginery.client.client import Client
from enginery.cluster.cluster import Cluster
from enginery.errors import CompositeError
from enginery.net import connection_file
from waiting import wait_until

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform == "win32", reason="the fake batch systems are shell scripts"),
]

#: The sample of the documentation of 0.11, but for the path of mpiexec.
ENGINE_TEMPLATE = """\
#PBS -N ipython
#PBS -j oe
#PBS -l walltime=00:10:00
#PBS -l nodes={n//4}:ppn=4
#PBS -q {queue}

cd $PBS_O_WORKDIR
mpiexec -n {n} ipengine --profile-dir={profile_dir} --cluster-id={cluster_id}
"""
CONTROLLER_TEMPLATE = """\
#PBS -N ipython
#PBS -j oe
#PBS -l walltime=00:10:00
#PBS -l nodes=1:ppn=4
#PBS -q {queue}

cd $PBS_O_WORKDIR
ipcontroller --profile-dir={profile_dir} --cluster-id={cluster_id}
"""
#: That of the documentation of 6.
MODERN_TEMPLATE = """\
#PBS -N ipython-parallel  # set the name of the job (convenient)
#PBS -V  # export environment variables, required
#PBS -j oe  # merge stdout and error
#PBS -o {output_file}  # send output to a file
#PBS -l walltime=00:10:00  # max runtime 10 minutes
#PBS -l nodes={n//4}:ppn=4  # 4 processes per node
#PBS -q {queue}  # run on the specified queue

export EXPORTED=yes
mpiexec -n {n} {program_and_args}  # start the configured program
# program_and_args is populated via `engine_args` and other configuration
"""
MPIEXEC = """\
import subprocess, sys
assert sys.argv[1] == "-n", sys.argv
ranks = [subprocess.Popen(sys.argv[3:]) for _ in range(int(sys.argv[2]))]
sys.exit(max(rank.wait() & 255 for rank in ranks))
"""


class Site:
    """A profile, and a batch system that is a fake."""

    def __init__(self, bed: Bed, profile: Path, warm) -> None:
        self.bed = bed
        self.commands = Commands(os.environ["IPYTHONDIR"], warm)
        self.profile = profile
        profile.mkdir()
        for name, module in (("ipengine", "engine"), ("ipcontroller", "controller")):
            bed.install(name, [sys.executable, "-m", f"enginery.{module}"])
        bed.command("mpiexec", MPIEXEC)

    def configure(self, text: str, program: str = "ipcluster") -> None:
        """Write a configuration file of the profile."""
        (self.profile / f"{program}_config.py").write_text(f"c = get_config()\n{text}")

    def ipcluster(self, *arguments: str) -> str:
        """Run ipcluster to its end."""
        done = self.commands.run("cluster", *arguments, f"--profile-dir={self.profile}")
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    @contextlib.contextmanager
    def started(self, *arguments: str, n: int):
        """``ipcluster start … -n N``; the value is a client that has its engines."""
        self.ipcluster("start", *arguments, "-n", str(n), "--daemonize")
        try:
            with Client(profile_dir=str(self.profile)) as rc:
                rc.wait_for_engines(n, timeout=30)
                yield rc
        finally:
            self.ipcluster("stop")
        assert not self.jobs(running=True)

    def jobs(self, *, running: bool = False) -> list[dict]:
        """What was submitted."""
        if running and not self.bed.running():
            return []
        return [json.loads(path.read_text()) for path in sorted(self.bed.state.glob("*.json"))]

    def scripts(self) -> list[str]:
        """The scripts that were submitted."""
        return [path.read_text() for path in self.bed.state.glob("script.*")]


@pytest.fixture
def site(request, tmp_path, monkeypatch, warm):
    # Engines import this file to run the functions in it.
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[1]), prepend=os.pathsep)
    return Site(Bed(tmp_path, getattr(request, "param", "openpbs"), monkeypatch), tmp_path / "profile_pbs", warm)


@pytest.mark.row(60, 61, 62, 65)
def test_rows_060_061_062_065_the_template_files_of_the_samples(site, tmp_path):
    (tmp_path / "pbs.engine.template").write_text(ENGINE_TEMPLATE)
    (tmp_path / "pbs.controller.template").write_text(CONTROLLER_TEMPLATE)
    site.configure(
        f"c.IPClusterStart.controller_launcher_class = 'PBSControllerLauncher'\n"
        f"c.IPClusterEngines.engine_launcher_class = 'PBSEngineSetLauncher'\n"
        f"c.PBSEngineSetLauncher.batch_template_file = {str(tmp_path / 'pbs.engine.template')!r}\n"
        f"c.PBSControllerLauncher.batch_template_file = {str(tmp_path / 'pbs.controller.template')!r}\n"
        "c.PBSLauncher.queue = 'veryshort.q'\n"
    )
    with site.started(n=4) as rc:
        assert rc[:].map_sync(lambda x: x + 1, range(8)) == list(range(1, 9))
        assert [job["queue"] for job in site.jobs()] == ["veryshort.q", "veryshort.q"]
        script = next(each for each in site.scripts() if "mpiexec" in each)
    assert "#PBS -l nodes=1:ppn=4\n" in script
    assert f"mpiexec -n 4 ipengine --profile-dir={site.profile} --cluster-id=\n" in script
    # mpiexec starts all of them: an array would do so n times over.
    assert "-J" not in script
    assert not any(job["array"] for job in site.jobs())


@pytest.mark.row(60, 63)
def test_rows_060_063_a_template_in_the_configuration(site):
    site.configure(
        f"c.Cluster.engine_launcher_class = 'pbs'\n"
        f"c.PBSEngineSetLauncher.batch_template = '''{MODERN_TEMPLATE}'''\n"
        "c.PBSLauncher.queue = 'veryshort.q'\n"
        "c.PBSEngineSetLauncher.engine_args = ['--debug']\n"
        "c.PBSEngineSetLauncher.environment = {'MINE': 'yes'}\n"
    )
    with site.started(n=4) as rc:
        rc[:].execute("from time import sleep", block=True)
        found = rc[:].apply_sync(lambda: [__import__("os").environ.get(name) for name in ("EXPORTED", "MINE")])
        assert found == [["yes", "yes"]] * 4
        (job,) = site.jobs()
        assert "[IPEngine] Looking for ipengine_config" in Path(job["tasks"][0]["output"]).read_text()
        assert "profile_pbs/log/ipengine" in job["tasks"][0]["output"]

        # A signal of the cluster's is for its engines, not for their job.
        begun = site.profile / "begun"
        begun.mkdir()
        working = rc[:].apply_async(lambda path: open(f"{path}/{engine_id}", "w").close() or sleep(60), begun)  # noqa: F821 - theirs
        wait_until(lambda: len(list(begun.iterdir())) == 4)
        Cluster.from_file(profile_dir=site.profile).signal_engines_sync("SIGINT")
        with pytest.raises(CompositeError, match="KeyboardInterrupt"):
            working.get(30)
        assert rc[:].apply_sync(lambda: 7) == [7] * 4


@pytest.mark.row(64)
def test_row_064_the_queue(site):
    site.configure("c.PBSLauncher.queue = 'veryshort.q'\n")
    with site.started("--engines=pbs", n=2):
        (job,) = site.jobs()
        assert job["queue"] == "veryshort.q"
        assert len(job["tasks"]) == 2


@pytest.mark.row(45, 66)
@pytest.mark.parametrize(
    ("site", "name"),
    [
        ("openpbs", "pbs"),
        ("torque", "PBS"),
        ("slurm", "slurm"),
        ("lsf", "lsf"),
        ("condor", "htcondor"),
        ("hpc", "winhpc"),
    ],
    indirect=["site"],
)
def test_rows_045_066_default_templates(site, name):
    site.configure("c.WindowsHPCLauncher.scheduler = 'HEAD'\n")
    with site.started(f"--engines={name}", f"--controller={name}", n=2) as rc:
        assert rc[:].apply_sync(lambda: 7) == [7, 7]
        assert len(site.jobs()) == 2


@pytest.mark.row(67)
def test_row_067_pbs_adapted_to_another_system_that_is_like_it(site):
    # One whose commands and directives go by other names.
    for name in ("qsub", "qdel"):
        shutil.move(site.bed.bin / name, site.bed.bin / f"my{name}")
    site.configure(
        "c.PBSLauncher.submit_command = ['myqsub']\n"
        "c.PBSLauncher.delete_command = ['myqdel']\n"
        "c.PBSLauncher.job_array_template = '#PBS -J 1-{n}   # as many'\n"
        "c.PBSLauncher.queue_template = '#PBS -q {queue}.special'\n"
        "c.PBSLauncher.queue = 'q'\n"
        "c.PBSEngineSetLauncher.batch_template = '#!/bin/bash\\n{program_and_args}\\n'\n"
    )
    with site.started("--engines=pbs", n=2):
        (job,) = site.jobs()
        assert job["queue"] == "q.special"
        assert job["array"]


@pytest.mark.row(68)
def test_row_068_the_controller_listens_for_other_hosts(site):
    def listens(**_):
        info = connection_file.load(site.profile / "security" / "ipcontroller-engine.json")
        return [url.rpartition(":")[0] for url in info.urls if url.startswith("tcp://")]

    with site.started("--engines=pbs", n=1):
        assert listens() == ["tcp://0.0.0.0"]
    site.configure("c.IPController.ip = '127.0.0.2'\n", "ipcontroller")
    with site.started("--engines=pbs", n=1):
        assert listens() == ["tcp://127.0.0.2"]
    site.configure("c.HubFactory.ip = '*'\n", "ipcontroller")
    with site.started("--engines=pbs", n=1):
        assert listens() == ["tcp://0.0.0.0"]
    with site.started("--engines=local", n=1):
        assert listens() == ["tcp://0.0.0.0"]
