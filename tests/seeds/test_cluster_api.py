"""Clusters as programs make them: rows 40 and 43."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

import enginery as ipp
from enginery.errors import EngineError

pytestmark = [pytest.mark.slow, pytest.mark.skipif(sys.platform == "win32", reason="not tried on Windows")]

PATIENCE = 30


@pytest.fixture
def home(tmp_path, monkeypatch):
    """A private folder of profiles."""
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path))
    return tmp_path


@pytest.mark.row(40)
def test_row_040_a_managed_cluster_in_a_program_of_ones_own(home):
    program = (
        "import os, enginery as ipp\n"
        "with ipp.Cluster(n=4) as rc:\n"
        "    print(len(set(rc[:].apply_sync(os.getpid))))\n"
        "cluster = ipp.Cluster(controller_ip='*', n=1)\n"
        "rc = cluster.start_and_connect_sync()\n"
        "print(any(url.startswith('tcp://0.0.0.0:') for url in rc.link.info.urls), rc[:].apply_sync(int))\n"
        "cluster.stop_cluster_sync()\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=PATIENCE, check=False
    )
    assert (done.stdout, done.stderr) == ("4\nTrue [0]\n", "")


@pytest.mark.row(40)
def test_row_040_a_profile_configures_it(home):
    folder = home / "profile_pbs"
    folder.mkdir()
    (folder / "ipcluster_config.py").write_text("c.Cluster.n = 1\nc.Cluster.controller_args = ['--scheme=lru']\n")
    with ipp.Cluster(profile="pbs") as rc:
        assert rc.ids == [0]
        assert rc.cluster.controller.args[-1] == "--scheme=lru"
        assert Path(rc.cluster.cluster_file).parent == folder / "security"


@pytest.mark.row(40)
def test_row_040_interrupts_signals_restarts_and_crashes(home):
    cluster = ipp.Cluster(n=2)
    with cluster as rc:
        results = rc[:].execute("print('begun'); import time; time.sleep(600)")
        assert rc.link.wait_for(lambda: "".join(results.stdout).count("begun") == 2, PATIENCE)
        cluster.signal_engines_sync(signal.SIGINT)
        with pytest.raises(ipp.CompositeError, match="KeyboardInterrupt"):
            results.get(timeout=PATIENCE)
        before = rc[:].apply_sync(os.getpid)
        cluster.restart_engines_sync()
        assert rc.link.wait_for(lambda: len(rc) == 2 and min(rc.ids) > 1, PATIENCE)
        assert set(before).isdisjoint(rc[:].apply_sync(os.getpid))
        with pytest.raises(EngineError):
            rc[rc.ids[0]].apply_sync(os._exit, 3)
        assert rc.link.wait_for(lambda: len(rc) == 1, PATIENCE)


@pytest.mark.row(43)
def test_row_043_many_clusters_of_one_profile(home):
    with ipp.Cluster(n=1, cluster_id="day") as day, ipp.Cluster(n=2, cluster_id="night") as night:
        names = [path.name for path in sorted((home / "profile_default/security").glob("cluster-*.json"))]
        assert names == ["cluster-day.json", "cluster-night.json"]
        with ipp.Client(cluster_id="day") as rc:
            assert rc[:].apply_sync(os.getpid) == day[:].apply_sync(os.getpid)
        with ipp.Client(cluster_id="night") as rc:
            assert rc[:].apply_sync(os.getpid) == night[:].apply_sync(os.getpid)
        assert sorted(ipp.ClusterManager().load_clusters(profile="default")) == ["default:day", "default:night"]
        listed = subprocess.run(
            [sys.executable, "-m", "enginery.cluster", "list"],
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            check=True,
        )
        assert [line.split()[:4] for line in listed.stdout.splitlines()[1:]] == [
            ["default", "day", "True", "1"],
            ["default", "night", "True", "2"],
        ]
