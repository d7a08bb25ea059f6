"""Processes that are stopped for a while (SIGSTOP): others go on, and so do they when they are woken up."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time

import pytest

from enginery.cluster.cluster import Cluster
from faults.conftest import wait_until

PATIENCE = 30
pytestmark = pytest.mark.slow


@contextlib.contextmanager
def stopped(process):
    process.suspend()
    try:
        yield
    finally:
        process.resume()


def test_an_engine(sturdy):
    rc = sturdy.rc
    lv = rc.load_balanced_view()
    with stopped(sturdy.engines[0]):
        direct = rc[0].apply_async(os.getpid)
        balanced = [lv.apply_async(abs, -n) for n in range(200)]
        assert rc[1].apply_async(abs, -1).get(PATIENCE) == 1
        # What it was dealt before its silence was noticed waits for it; all the rest is done by the other one.
        held = []

        def others_are_done():
            held[:] = rc.queue_status(verbose=True)[0]["tasks"]
            return {ar.msg_id for ar in balanced if not ar.done()} == set(held)

        wait_until(others_are_done, lambda: f"{sum(ar.done() for ar in balanced)} done, {len(held)} held")
        assert len(held) < len(balanced)
        assert not direct.done()
    assert direct.get(PATIENCE) == sturdy.engines[0].pid
    assert [ar.get(PATIENCE) for ar in balanced] == list(range(200))
    sturdy.assert_works()


def test_an_engine_that_is_not_there_gets_little(sturdy):
    """The next tasks go to those that answer."""
    rc = sturdy.rc
    lv = rc.load_balanced_view()
    with stopped(sturdy.engines[0]):
        first = [lv.apply_async(abs, -n) for n in range(50)]
        time.sleep(0.1)  # it is asked to hand back what it has queued, and does not answer
        later = [lv.apply_async(abs, -n) for n in range(50)]
        assert [ar.get(PATIENCE) for ar in later] == list(range(50))
    assert [ar.get(PATIENCE) for ar in first + later] == [*range(50), *range(50)]


def test_the_nanny(sturdy):
    with stopped(sturdy.nanny):
        sturdy.assert_works()
    sturdy.assert_works()


def test_the_controller(sturdy):
    rc = sturdy.rc
    with stopped(sturdy.controller):
        result = rc[:].apply_async(abs, -3)
        with pytest.raises(TimeoutError, match="still awaited from engines"):
            result.get(0.2)
        with pytest.raises(TimeoutError):
            rc.link.ask("statistics", timeout=0.05)
    assert result.get(PATIENCE) == [3, 3]
    sturdy.assert_works()


CLIENT = """
import json, sys, time
import enginery as ipp
rc = ipp.Client(json.loads(sys.argv[1]))
lv = rc.load_balanced_view()
print("ready", flush=True)
results = lv.map_async(lambda n: "x" * 1000 + str(n), range(20000))
print(results.get()[-1][-5:], flush=True)
"""


def test_a_client_that_takes_nothing_for_a_while(sturdy):
    import json

    rc = sturdy.rc
    info = json.dumps(rc.link.info.to_dict())
    with subprocess.Popen([sys.executable, "-c", CLIENT, info], stdout=subprocess.PIPE, text=True) as client:
        assert client.stdout.readline() == "ready\n"
        for _ in range(3):
            client.send_signal(signal.SIGSTOP)
            sturdy.assert_works()
            client.send_signal(signal.SIGCONT)
            time.sleep(0.02)
        assert client.stdout.readline() == "19999\n"
        assert client.wait(PATIENCE) == 0


def test_stopping_a_cluster_with_stopped_processes(scene):
    scene.engines[0].suspend()
    scene.engines[1].suspend()
    scene.cluster.stop_cluster_sync()
    scene.assert_nothing_left()


def test_an_engine_busy_with_the_interpreter_lock(sturdy):
    """User code that never lets go of the lock: the engine neither dies nor is given up."""
    rc = sturdy.rc
    code = "import ctypes; ctypes.PyDLL(None).usleep(400_000)"  # PyDLL keeps the lock
    result = rc[0].execute(code)
    assert rc[1].apply_async(abs, -1).get(PATIENCE) == 1
    result.get(PATIENCE)
    assert rc.ids == [0, 1]


def test_threads_that_wait_while_it_is_stopped(sturdy):
    rc = sturdy.rc
    got = []
    with stopped(sturdy.engines[1]):
        result = rc[1].apply_async(abs, -7)
        threads = [threading.Thread(target=lambda: got.append(result.get(PATIENCE))) for _ in range(4)]
        for thread in threads:
            thread.start()
        assert rc[0].apply_async(abs, -1).get(PATIENCE) == 1
    for thread in threads:
        thread.join(PATIENCE)
    assert got == [7] * 4


def test_who_is_idle_is_not_forgotten(tmp_path):
    """Signs of life are sent by those who have nothing else to say, from the beginning."""
    cluster = Cluster(n=1, profile_dir=str(tmp_path / "profile"), controller_args=["--ping=100"])
    try:
        rc = cluster.start_and_connect_sync()
        with cluster.connect_client_sync() as idle:
            time.sleep(1.6)  # more than ten heartbeats
            assert rc.link.ask("statistics")["clients"] == 2
            assert idle.ids == rc.ids == [0]
            assert idle[0].apply_sync(abs, -1) == 1
    finally:
        cluster.stop_cluster_sync()
