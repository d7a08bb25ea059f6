"""A cluster grows and shrinks while it works, and loses nothing."""

from __future__ import annotations

import asyncio
import sys

import pytest

from enginery.cluster.cluster import Cluster
from enginery.cluster.scale import choose
from enginery.errors import EngineError
from enginery.net.profile_paths import wait_for_file

PATIENCE = 30
real = [
    pytest.mark.slow,
    pytest.mark.usefixtures("quick_starts"),
    pytest.mark.skipif(sys.platform == "win32", reason="not tried on Windows"),
]


def test_idle_engines_go_first_and_the_newest_among_equals():
    status = {
        0: {"queue": 0, "tasks": 0},
        1: {"queue": 1, "tasks": 4},
        2: {"queue": 0, "tasks": 0},
        3: {"queue": 2, "tasks": 0},
        "unassigned": 7,
    }
    assert choose(status, 1) == [2]
    assert choose(status, 3) == [2, 0, 3]
    assert choose(status, 4) == [2, 0, 3, 1]


def test_a_number_that_cannot_be(tmp_path):
    with pytest.raises(ValueError, match="cannot have -1 engines"):
        Cluster(profile_dir=str(tmp_path)).scale_sync(-1)


class TestRealClusters:
    pytestmark = real

    @pytest.fixture
    def cluster(self, tmp_path):
        cluster = Cluster(n=2, profile_dir=str(tmp_path / "profile_x"))
        cluster.client = cluster.start_and_connect_sync()
        yield cluster
        cluster.stop_cluster_sync()

    def test_up_and_down_while_tasks_run(self, cluster):
        rc = cluster.client
        results = rc.load_balanced_view().map_async(_slowly, range(60))
        cluster.scale_sync(4)
        assert len(rc) == cluster.n == 4
        cluster.scale_sync(1)
        assert len(rc) == 1
        assert sum(each.n for each in cluster.engines.values()) == 1
        assert results.get(timeout=PATIENCE) == list(range(60))
        assert cluster.crashes == []

    def test_to_none_and_back(self, cluster):
        cluster.scale_sync(0)
        assert cluster.client.ids == []
        assert cluster.controller.running
        cluster.scale_sync(1)
        assert cluster.client[:].apply_sync(int) == [0]

    def test_what_an_engine_was_told_to_do_it_does_before_it_leaves(self, cluster):
        rc = cluster.client
        results = [rc[each].apply_async(_slowly, each) for each in (0, 1) for _ in range(3)]
        cluster.scale_sync(0)
        assert [each.get(timeout=PATIENCE) for each in results] == [0, 0, 0, 1, 1, 1]

    def test_it_has_been_told_even_if_that_has_not_left_this_process(self, cluster, monkeypatch):
        rc = cluster.client
        assert rc[:].apply_sync(int) == [0, 0]
        monkeypatch.setattr(rc.link, "_wake", lambda: None)  # as if the thread that sends got no turn
        results = [rc[each].apply_async(_slowly, each) for each in (0, 1) for _ in range(3)]
        cluster.scale_sync(0)
        assert [each.get(timeout=PATIENCE) for each in results] == [0, 0, 0, 1, 1, 1]

    def test_engines_that_were_just_started_are_counted(self, cluster):
        cluster.start_engines_sync(1)
        cluster.scale_sync(3)
        assert len(cluster.client) == 3

    def test_an_engine_that_does_not_come_to_an_end(self, cluster):
        rc = cluster.client
        endless = [view.apply_async(_wait_for_good) for view in rc]
        with pytest.raises(TimeoutError, match=r"After 0\.1 s engine 1 still had to end .* stop_engine\(1\)"):
            cluster.scale_sync(1, timeout=0.1)
        assert rc.ids == [0, 1]
        cluster.stop_engine_sync(1)
        assert rc.link.wait_for(lambda: rc.ids == [0], PATIENCE)
        assert endless[1].ready()
        assert cluster.engine_set.n == 1

    def test_an_engine_that_is_stopped_while_it_starts_has_not_crashed(self, cluster):
        rc = cluster.client
        cluster.engine_args = ["--IPEngine.startup_command=import time; time.sleep(600)"]
        cluster.start_engines_sync(1)
        rc.wait_for_engines(3, timeout=PATIENCE)
        cluster.stop_engine_sync(2)
        assert rc.link.wait_for(lambda: rc.ids == [0, 1], PATIENCE)
        assert not rc.departures[-1].crashed
        assert cluster.crashes == []

    def test_awaited(self, tmp_path):
        async def main():
            cluster = Cluster(n=1, profile_dir=str(tmp_path / "profile_x"))
            rc = await cluster.start_and_connect()
            await cluster.scale(2)
            assert len(rc) == 2
            await cluster.stop_cluster()

        asyncio.run(main())

    def test_by_another_process_that_took_over(self, cluster, tmp_path):
        heir = Cluster.from_file(profile_dir=tmp_path / "profile_x", cluster_id=cluster.cluster_id)
        heir.scale_sync(3)
        cluster.client.wait_for_engines(3, timeout=PATIENCE)  # a client of another Cluster
        cluster.update_cluster_file()
        third = Cluster.from_file(profile_dir=tmp_path / "profile_x", cluster_id=cluster.cluster_id)
        assert list(third.engines) == list(heir.engines)
        third.scale_sync(1)
        assert cluster.client.link.wait_for(lambda: len(cluster.client) == 1, PATIENCE)

    def test_a_stuck_engine_is_killed_when_it_is_stopped(self, cluster, tmp_path):
        rc = cluster.client
        result = rc[1].apply_async(_hold_the_interpreter, str(tmp_path / "begun"))
        assert wait_for_file(tmp_path / "begun", PATIENCE)
        cluster.stop_engine_sync(1)
        assert rc.link.wait_for(lambda: rc.ids == [0], PATIENCE)
        with pytest.raises(EngineError):
            result.get(timeout=PATIENCE)


def _slowly(x):
    import time

    time.sleep(0.03)
    return x


def _wait_for_good():
    import threading

    threading.Event().wait()


def _hold_the_interpreter(mark):
    import collections
    import itertools

    open(mark, "w").close()
    collections.deque(itertools.repeat(0), maxlen=0)
