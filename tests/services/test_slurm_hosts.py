"""A Slurm whose nodes are separate hosts: engines reach a controller that shares with them nothing but files."""

from __future__ import annotations

import sys

import pytest

from services import slurm

pytestmark = [pytest.mark.slow, pytest.mark.timeout(180)]

#: What a user types on the login node.
PROGRAM = """
import os, sys
import enginery as ipp

def where():
    import socket
    return socket.gethostname()

cluster = ipp.Cluster(engines="slurm", n=4, profile_dir=sys.argv[1])
cluster.config.SlurmLauncher.options = "--nodes=2 --ntasks-per-node=2"
cluster.config.SlurmEngineSetLauncher.environment = {"XDG_RUNTIME_DIR": os.environ["XDG_RUNTIME_DIR"]}
with cluster as rc:
    print(sorted(rc[:].apply_sync(where)))
    print(rc[:].map_sync(len, ["a" * n for n in range(8)]))
    print(sorted({url.rpartition(":")[0] for url in cluster._client_info().urls if url.startswith("tcp")}))
"""


@pytest.fixture(scope="module")
def environment(bed):
    with slurm.slurm(bed.folder / "slurm", bed) as environment:
        yield environment


@pytest.mark.row(68)
def test_engines_on_other_hosts(bed, environment, tmp_path):
    found = bed.run(
        "head",
        [sys.executable, "-c", PROGRAM, str(bed.folder / "profile")],
        env=bed.environment(**environment),
        timeout=120,
        check=False,
    )
    assert found.returncode == 0, found.stdout + found.stderr
    assert found.stdout.splitlines() == [
        "['h1', 'h1', 'h2', 'h2']",
        "[0, 1, 2, 3, 4, 5, 6, 7]",
        "['tcp://0.0.0.0']",
    ]
    left = bed.run("head", ["squeue", "-h"], env=bed.environment(**environment))
    assert left.stdout == ""


UNREACHABLE = """
import sys
import enginery as ipp

cluster = ipp.Cluster(engines="slurm", n=2, profile_dir=sys.argv[1], controller_ip="127.0.0.1")
cluster.config.SlurmLauncher.options = "--nodes=2"
try:
    cluster.start_and_connect_sync()
except ipp.LauncherError as error:
    print(error)
"""


def test_engines_that_cannot_reach_the_controller_say_why(bed, environment):
    found = bed.run(
        "head",
        [sys.executable, "-c", UNREACHABLE, str(bed.folder / "profile")],
        env=bed.environment(**environment),
        timeout=120,
        check=False,
    )
    assert found.returncode == 0, found.stdout + found.stderr
    # It comes from the hosts, by the job's output, into the exception of whoever waits.
    for words in (
        "The set of 2 engines ended before the engines had connected: job ",
        "The controller on 'head' listens on loopback only and this is 'h1'. Start it with --ip='*'",
        "dialled from 'h2': tcp://127.0.0.1:",
    ):
        assert words in found.stdout
    left = bed.run("head", ["squeue", "-h"], env=bed.environment(**environment))
    assert left.stdout == ""
