"""What died is told once, in words, with exit code and last output; and what comes back."""

from __future__ import annotations

import logging
import os
import queue
import signal
import sys

import pytest

from enginery.cluster.cluster import Cluster
from enginery.cluster.crashes import Crash, Crashes
from enginery.errors import ConnectionLost, EngineError
from enginery.wire.messages import Departure

PATIENCE = 30
real = [pytest.mark.slow, pytest.mark.skipif(sys.platform == "win32", reason="not tried on Windows")]


class TestWords:
    def test_an_engine(self):
        crash = Crash("engine", 3, "killed by SIGKILL (out of memory)", -9, "so many\nlists", whence="pid 7 on node1")
        assert str(crash) == (
            "Engine 3 (pid 7 on node1) died: killed by SIGKILL (out of memory). Last output:\nso many\nlists"
        )

    def test_an_engine_that_had_not_connected(self):
        crash = Crash("engine", -1, "ended with exit code 1", 1, returns=True)
        assert str(crash) == ("An engine that had not connected yet died: ended with exit code 1. It is started anew.")

    def test_the_controller(self):
        text = str(Crash("controller", "", "killed by SIGKILL", -9, whence="pid 8"))
        assert text.startswith("The controller (pid 8) died: killed by SIGKILL. Its engines leave")

    def test_a_set(self):
        assert str(Crash("engine set", "a", "killed by SIGKILL", -9)) == "Engine set a died: killed by SIGKILL."
        assert str(Crash("engine set", "a", "exit code 139", 139)) == "Engine set a ended: exit code 139."


class Listener:
    """A client as far as crashes know one: it calls back at once."""

    def __init__(self):
        self.link = self
        self.tell = None

    def add_news_callback(self, callback):
        self.tell = callback

    def call_back(self, call):
        call()

    def engine_info(self, engine, _method):
        return {"pid": 100 + engine, "host": "here"}


@pytest.mark.parametrize(("count", "lines"), [(1, 1), (4, 4), (5, 4), (1000, 4)])
def test_of_many_that_die_at_once_few_are_told_one_by_one(count, lines, caplog):
    crashes, client, told = Crashes(lambda: logging.getLogger("x"), list), Listener(), []
    crashes.on_crash(told.append)
    crashes.watch(client)
    left = [Departure(number, f"u{number}", "its connection broke", crashed=True) for number in range(count)]
    client.tell([], left)
    client.tell([], left)  # as another client hears it
    assert len(caplog.messages) == lines
    assert [crash.id for crash in told] == list(range(count))
    if count > lines:
        assert caplog.messages[-1] == (f"{count - 3} more engines died at the same time (ids 3-{count - 1}).")


class TestRealClusters:
    pytestmark = real

    @pytest.fixture
    def start(self, tmp_path):
        """Start a cluster with two engines; what crashes comes to its queue ``told``."""
        started = []

        def start(**kwargs):
            cluster = Cluster(n=2, profile_dir=str(tmp_path / "profile_x"), **kwargs)
            cluster.told = queue.SimpleQueue()
            cluster.on_crash(cluster.told.put)
            cluster.client = cluster.start_and_connect_sync()
            started.append(cluster)
            return cluster

        yield start
        for cluster in started:
            cluster.stop_cluster_sync()

    def test_an_engine_that_crashes(self, start, caplog):
        cluster = start()
        rc = cluster.client
        pid = rc[1].apply_sync(os.getpid)
        with caplog.at_level(logging.WARNING, "enginery.cluster"):
            with pytest.raises(EngineError):
                rc[1].apply_sync(_crash)
            crash = cluster.told.get(timeout=PATIENCE)
        assert (crash.what, crash.id, crash.code) == ("engine", 1, -signal.SIGSEGV)
        assert f"pid {pid} on " in crash.whence
        assert "Segmentation fault" in crash.output
        assert "in _crash" in crash.output
        assert " INFO " not in crash.output
        assert f"Engine 1 (pid {pid} on " in caplog.text
        assert "died: killed by SIGSEGV (a crash in native code" in caplog.text
        assert cluster.crashes == [crash]
        assert rc[0].apply_sync(int) == 0

    def test_two_clients_tell_of_it_once(self, start):
        cluster = start()
        with cluster.connect_client_sync() as other, pytest.raises(EngineError):
            other[1].apply_sync(os._exit, 3)
        assert cluster.told.get(timeout=PATIENCE).what == "engine"
        os.kill(cluster.engine_set.pid, signal.SIGKILL)
        assert cluster.told.get(timeout=PATIENCE).what == "engine set"

    def test_engines_that_are_stopped_or_restarted_have_not_crashed(self, start):
        cluster = start()
        cluster.restart_engine_sync(0)
        cluster.client.wait_for_engines(2, timeout=PATIENCE)
        cluster.stop_engine_sync(1)
        cluster.stop_engines_sync()
        cluster.stop_cluster_sync()
        assert cluster.crashes == []

    def test_the_host_of_a_set(self, start, caplog):
        cluster = start()
        with caplog.at_level(logging.WARNING, "enginery.cluster"):
            os.kill(cluster.engine_set.pid, signal.SIGKILL)
            crash = cluster.told.get(timeout=PATIENCE)
        assert (crash.what, crash.code, crash.returns) == ("engine set", -signal.SIGKILL, False)
        assert cluster.client.link.wait_for(lambda: not cluster.client.ids, PATIENCE)
        assert caplog.text.count("died") == 1

    def test_the_controller_is_killed_and_the_cluster_started_anew(self, start):
        cluster = start()
        waiting = cluster.client[0].apply_async(signal.pause)
        os.kill(cluster.controller.pid, signal.SIGKILL)
        crash = cluster.told.get(timeout=PATIENCE)
        assert (crash.what, crash.reason) == ("controller", "killed by SIGKILL")
        with pytest.raises(ConnectionLost, match="connection to the controller is gone"):
            waiting.get(timeout=PATIENCE)
        assert cluster.start_and_connect_sync()[:].apply_sync(int) == [0, 0]

    def test_engines_come_back_by_their_nanny(self, start):
        cluster = start(restart_on_crash=True)
        rc = cluster.client
        with pytest.raises(EngineError):
            rc[1].apply_sync(os._exit, 3)
        assert cluster.told.get(timeout=PATIENCE).returns
        assert rc.link.wait_for(lambda: len(rc) == 2, PATIENCE)
        assert rc[:].apply_sync(int) == [0, 0]

    def test_a_set_comes_back_whose_host_was_killed(self, start):
        cluster = start(restart_on_crash=True)
        rc, name, pid = cluster.client, cluster.engine_set.engine_set_id, cluster.engine_set.pid
        os.kill(pid, signal.SIGKILL)
        assert cluster.told.get(timeout=PATIENCE).returns
        assert rc.link.wait_for(lambda: not rc.ids, PATIENCE)
        assert rc.link.wait_for(lambda: len(rc) == 2, PATIENCE)
        assert cluster.engines[name].pid != pid
        assert rc[:].apply_sync(int) == [0, 0]

    def test_a_callback_that_fails_keeps_nobody_from_being_told(self, start, caplog):
        cluster = start()
        cluster.on_crash(lambda _crash: 1 / 0)
        last = queue.SimpleQueue()
        cluster.on_crash(last.put)
        os.kill(cluster.engine_set.pid, signal.SIGKILL)
        assert last.get(timeout=PATIENCE).what == "engine set"
        assert "a callback for crashes failed" in caplog.text


def _crash():
    import faulthandler

    faulthandler._sigsegv()
