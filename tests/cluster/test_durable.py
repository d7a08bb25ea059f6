"""A durable cluster: its controller is started anew when it dies, and nothing is lost."""

from __future__ import annotations

import os
import queue
import signal
from pathlib import Path

import pytest

from enginery.cluster.cluster import Cluster
from enginery.net.profile_paths import logbook_path

PATIENCE = 30
pytestmark = pytest.mark.slow


def litter(cluster):
    names = [path.name for folder in ("security", "db") for path in (Path(cluster.profile_dir) / folder).glob("*")]
    return [name for name in names if cluster.cluster_id in name]


def test_a_killed_controller_comes_back(caplog):
    told = queue.SimpleQueue()
    cluster = Cluster(n=1, durable=True)
    cluster.on_crash(told.put)
    with cluster as rc:
        pid = rc[0].apply_sync(os.getpid)
        lv = rc.load_balanced_view()
        results = [lv.apply_async(abs, -number) for number in range(50)]
        os.kill(cluster.controller.pid, signal.SIGKILL)
        results += [lv.apply_async(abs, -number) for number in range(50, 100)]
        assert [result.get(PATIENCE) for result in results] == list(range(100))
        assert rc[0].apply_sync(os.getpid) == pid
        crash = told.get(timeout=PATIENCE)
        assert (crash.what, crash.returns, crash.code) == ("controller", True, -signal.SIGKILL)
        assert "nothing is lost" in str(crash)
        assert cluster.is_running
        assert litter(cluster)
    assert not litter(cluster)
    assert told.empty()


def test_one_with_a_name_goes_on_after_it_was_stopped():
    with Cluster(n=0, durable=True, cluster_id="night") as rc:
        left = rc.load_balanced_view().apply_async(abs, -1)
        assert left.wait_for_acceptance(PATIENCE)
        msg_id = left.msg_id
    cluster = Cluster(n=1, durable=True, cluster_id="night")
    try:
        with cluster as rc:
            assert rc.get_result(msg_id).get(PATIENCE) == 1
    finally:
        logbook_path(Path(cluster.profile_dir), "night").unlink()
