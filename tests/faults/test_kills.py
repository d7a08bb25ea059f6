"""Whoever is killed: others hear of it at once and in words, go on where they can, and nothing is left behind."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import threading
import time

import numpy as np
import psutil
import pytest

import enginery as ipp

PATIENCE = 30
pytestmark = pytest.mark.slow


# As in waiting.py, which engines do not find when they import this file.
def wait_until(condition, told=lambda: "it never came true"):
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline, told()
        time.sleep(0.005)


def is_alive(process):
    with contextlib.suppress(psutil.NoSuchProcess):
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    return False


def begun(path):
    open(path, "w").close()
    time.sleep(60)


class TestOneOfManyEngines:
    """Each test kills one; all others live on."""

    @pytest.mark.parametrize("kind", ["direct", "balanced"])
    def test_its_running_task_fails_at_once_and_in_words(self, crowd, tmp_path, kind):
        rc = crowd.rc
        victim, other, *more = rc.ids
        view = rc[victim] if kind == "direct" else rc.load_balanced_view(victim)
        result = view.apply_async(begun, str(tmp_path / "begun"))
        unharmed = rc[other].apply_async(lambda: time.sleep(0.3) or "unharmed")
        wait_until((tmp_path / "begun").exists)
        crowd.engines[victim].kill()
        with pytest.raises(ipp.EngineError) as caught:
            result.get(PATIENCE)
        error = caught.value
        pid, host = crowd.engines[victim].pid, socket.gethostname()
        for word in (f"Engine {victim}", f"pid {pid}", host, "SIGKILL"):
            assert word in str(error)
        assert (error.engine_id, error.pid, error.host) == (victim, pid, host)
        assert unharmed.get(PATIENCE) == "unharmed"
        assert rc.ids == [other, *more]
        crowd.assert_works(len(rc.ids))

    def test_retries(self, crowd, tmp_path):
        lv = crowd.rc.load_balanced_view(retries=1)
        before = crowd.rc.ids
        mark = str(tmp_path / "mark")

        def once(mark):
            import os
            import signal

            if os.path.exists(mark):
                return os.getpid()
            open(mark, "w").close()
            return os.kill(os.getpid(), signal.SIGKILL)

        assert lv.apply_async(once, mark).get(PATIENCE) in {crowd.engines[id].pid for id in before}
        assert len(crowd.rc.ids) == len(before) - 1

    @pytest.mark.parametrize(
        ("code", "says"),
        [
            ("import os; os._exit(3)", "exit code 3"),
            ("import os; os.abort()", "SIGABRT"),
            ("import ctypes; ctypes.string_at(0)", "SIGSEGV"),
            ("import os, signal; os.kill(os.getpid(), signal.SIGTERM)", "SIGTERM"),
        ],
    )
    def test_other_ways_to_die(self, crowd, code, says):
        victim, *others = crowd.rc.ids
        with pytest.raises(ipp.EngineError, match=says):
            crowd.rc[victim].execute(code).get(PATIENCE)
        crowd.assert_works(len(others))


class TestEngines:
    def test_what_it_had_not_begun_runs_elsewhere(self, scene, tmp_path):
        rc = scene.rc
        lv = rc.load_balanced_view()
        rc[:].apply_sync(int)
        blocker = rc[0].apply_async(begun, str(tmp_path / "begun"))
        results = [lv.apply_async(abs, -n) for n in range(500)]
        wait_until((tmp_path / "begun").exists)
        scene.engines[0].kill()
        assert [ar.get(PATIENCE) for ar in results] == list(range(500))
        assert isinstance(blocker.exception(PATIENCE), ipp.EngineError)

    def test_all_of_them(self, scene):
        rc = scene.rc
        result = rc[:].apply_async(time.sleep, 60)
        queued = rc.load_balanced_view().map_async(time.sleep, [60] * 10)
        for engine in scene.engines:
            engine.kill()
        with pytest.raises(ipp.CompositeError, match="SIGKILL"):
            result.get(PATIENCE)
        wait_until(lambda: rc.ids == [])
        with pytest.raises(ipp.NoEnginesRegistered, match="ipcluster engines"):
            rc[:].apply_async(int)
        scene.cluster.start_engines_sync(1)
        rc.wait_for_engines(1, timeout=PATIENCE)
        queued.abort(interrupt=True)
        assert queued.wait(PATIENCE)

    def test_in_the_middle_of_large_transfers(self, scene):
        rc = scene.rc
        array = np.ones(4_000_000)
        killer = threading.Timer(0.1, scene.engines[0].kill)
        killer.start()
        outcomes = []
        for _ in range(60):
            if rc.ids == [1]:
                break
            outcomes.append(rc[0].apply_async(lambda a: a, array).exception(PATIENCE))
        killer.join()
        assert isinstance(outcomes[-1], ipp.EngineError) or rc.ids == [1]
        assert np.array_equal(rc[1].apply_sync(lambda a: a + 1, array), array + 1)

    def test_ids_are_not_given_twice(self, scene):
        scene.engines[1].kill()
        wait_until(lambda: scene.rc.ids == [0])
        scene.cluster.start_engines_sync(1)
        scene.rc.wait_for_engines(2, timeout=PATIENCE)
        assert scene.rc.ids == [0, 2]


class TestTheirKeepers:
    def test_the_nanny(self, scene):
        rc = scene.rc
        scene.nanny.kill()
        scene.assert_works()
        wait_until(lambda: len(scene.host.children()) == 3, scene.host.children)
        rc[0].apply_sync(int)
        result = rc[0].apply_async(time.sleep, 60)

        def is_interrupted():  # as soon as the task runs, and the new one has said hello
            with contextlib.suppress(ValueError):  # there is no nanny to deliver it
                rc.send_signal("SIGINT", targets=0)
            return result.done()

        wait_until(is_interrupted)
        assert "KeyboardInterrupt" in str(result.exception(PATIENCE))
        scene.engines[0].kill()
        wait_until(lambda: rc.ids == [1])
        assert rc[1].apply_sync(int) == 0

    def test_the_host(self, scene):
        rc = scene.rc
        result = rc[:].apply_async(time.sleep, 60)
        scene.host.kill()
        with pytest.raises(ipp.CompositeError) as caught:
            result.get(PATIENCE)
        assert "EngineError" in str(caught.value)
        wait_until(lambda: rc.ids == [])
        wait_until(lambda: not any(is_alive(each) for each in scene.engines))
        scene.cluster.start_engines_sync(2)
        rc.wait_for_engines(2, timeout=PATIENCE)
        scene.assert_works()

    def test_host_and_nanny_together(self, scene):
        scene.host.suspend()
        scene.nanny.kill()
        scene.host.kill()
        wait_until(lambda: scene.rc.ids == [])


class TestTheController:
    def test_everybody_hears_of_it_and_leaves(self, scene):
        rc = scene.rc
        outcomes = []

        def wait(result):
            try:
                result.get(PATIENCE)
            except BaseException as error:
                outcomes.append(error)

        results = [rc[0].apply_async(time.sleep, 60), rc.load_balanced_view().apply_async(time.sleep, 60)]
        called = threading.Event()
        results[0].add_done_callback(lambda _: called.set())
        threads = [threading.Thread(target=wait, args=(result,)) for result in (*results, *results)]
        for thread in threads:
            thread.start()
        time.sleep(0.05)
        scene.controller.kill()
        for thread in threads:
            thread.join(PATIENCE)
        assert called.wait(PATIENCE)
        for error in outcomes:
            assert isinstance(error, ipp.ConnectionLost)
            assert "Connect a new Client once a controller is running" in str(error)
        assert len(outcomes) == 4
        for use in (lambda: rc[0].apply_async(int), rc.queue_status):
            with pytest.raises(ipp.ConnectionLost):
                use()
        wait_until(lambda: not any(is_alive(each) for each in scene.engines))

    def test_lazy_maps_and_event_loops_hear_of_it(self, scene):
        import asyncio
        import itertools

        rc = scene.rc
        lazy = rc.load_balanced_view().imap(lambda n: time.sleep(0.01) or n, itertools.count())
        assert next(lazy) == 0

        async def main():
            result = rc[0].apply_async(time.sleep, 60)
            asyncio.get_running_loop().call_later(0.1, scene.controller.kill)
            with pytest.raises(ipp.ConnectionLost):
                await result

        asyncio.run(main())
        with pytest.raises(ipp.ConnectionLost):
            for _ in lazy:
                pass

    def test_while_it_was_busy(self, scene):
        rc = scene.rc
        lv = rc.load_balanced_view()
        killer = threading.Timer(0.1, scene.controller.kill)
        killer.start()
        results = []
        with pytest.raises(ipp.ConnectionLost):
            while True:
                results.append(lv.apply_async(abs, -len(results)))
        outcomes = [ar.exception(PATIENCE) for ar in results]
        good = [n for n, error in enumerate(outcomes) if error is None]
        assert [results[n].get() for n in good] == good
        assert all(error is None or isinstance(error, ipp.ConnectionLost) for error in outcomes)


CLIENT = """
import json, sys, time
import numpy as np
import enginery as ipp
rc = ipp.Client(json.loads(sys.argv[1]))
rc.load_balanced_view().map_async(abs, range(100000))
big = rc[:].apply_async(lambda a: time.sleep(1.0), np.ones(3_000_000))
print("ready", flush=True)
big.get()
"""


class TestClients:
    @pytest.mark.parametrize("name", ["SIGKILL", "SIGTERM", "SIGINT"])
    def test_the_cluster_goes_on_without_it(self, sturdy, name):
        import json

        rc = sturdy.rc
        info = json.dumps(rc.link.info.to_dict())
        with subprocess.Popen(
            [sys.executable, "-c", CLIENT, info], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        ) as client:
            assert client.stdout.readline() == "ready\n"
            assert rc.link.ask("statistics")["clients"] == 2
            client.send_signal(getattr(signal, name))
            client.communicate(timeout=PATIENCE)
        wait_until(lambda: rc.link.ask("statistics")["clients"] == 1)
        sturdy.assert_works()
        wait_until(lambda: rc.link.ask("statistics")["unfinished"] == 0, lambda: rc.link.ask("statistics"))
        shared = [place for place in sturdy.places if "shm" in str(place)]
        wait_until(
            lambda: not [path for place in shared for path in place.glob("c*") if path.name[1:2] != str(rc.link.number)]
        )


PARENT = """
import os, sys, time
import numpy as np
from enginery.cluster.cluster import Cluster
with Cluster(n=2, profile_dir=sys.argv[1]) as rc:
    rc[:].push({"array": np.ones(3_000_000)}, block=True)
    print(rc.link._requests.welcome.runtime, *[url for url in rc.link.info.urls if url.startswith("ipc")], flush=True)
    rc[:].apply_sync(time.sleep, 60)
"""


@pytest.mark.parametrize("name", ["SIGKILL", "SIGINT"])
def test_the_parent(tmp_path, name):
    with subprocess.Popen(
        [sys.executable, "-c", PARENT, str(tmp_path / "profile")],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as parent:
        shared, url = parent.stdout.readline().split()
        places = [shared, os.path.dirname(url.removeprefix("ipc://"))]
        assert all(os.path.isdir(place) for place in places)
        family = psutil.Process(parent.pid).children(recursive=True)
        parent.send_signal(getattr(signal, name))
        parent.communicate(timeout=PATIENCE)
    wait_until(lambda: not [p for p in family if is_alive(p)], lambda: family)
    wait_until(lambda: not any(os.path.exists(place) for place in places), lambda: places)
    wait_until(lambda: not [path for path in (tmp_path / "profile").rglob("*") if path.is_file()])
