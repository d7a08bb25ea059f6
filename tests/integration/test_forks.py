"""User code that forks, on either side: children never speak on their parent's connection."""

from __future__ import annotations

import multiprocessing
import os
import threading
import time

import pytest

PATIENCE = 30
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork"),
    pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning"),
]


def forked(work):
    """Run ``work`` in a forked child of this process, which has threads; what it returned."""
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            os.write(writer, str(work()).encode())
        except BaseException as error:
            os.write(writer, f"{type(error).__name__}: {error}".encode())
        finally:
            os._exit(0)
    os.close(writer)
    with os.fdopen(reader) as pipe:
        text = pipe.read()
    os.waitpid(pid, 0)
    return text


class TestOfAClient:
    def test_every_use_in_a_child_is_refused_in_words(self, rc, dv, lv, tmp_path):
        done = lv.apply_async(abs, -5)
        done.wait(PATIENCE)
        gate = tmp_path / "gate"
        os.mkfifo(gate)
        pending = lv.apply_async(lambda path: open(path).close(), str(gate))
        said = f"ConnectionLost: This client belongs to process {os.getpid()}, of which this process"
        for use in (
            lambda: lv.apply_async(abs, -1),
            lambda: dv.push({"a": 1}),
            lambda: lv.map(abs, range(3)),
            rc.queue_status,
            lambda: rc.send_signal("SIGINT"),
            pending.get,
            pending.wait,
            lambda: next(lv.imap(abs, range(3))),
        ):
            text = forked(use)
            assert text.startswith(said), text
            assert "Connect a new Client here" in text
        assert forked(done.get) == "5"
        assert forked(lambda: (rc.close(), rc.ids)) == "(None, [0, 1])"
        gate.open("w").close()
        assert pending.get(PATIENCE) is None
        assert dv.apply_sync(int) == [0, 0]

    def test_while_other_threads_are_at_work(self, rc, lv):
        over = threading.Event()

        def work():
            while not over.is_set():
                assert lv.map_sync(abs, range(200)) == list(range(200))

        threads = [threading.Thread(target=work) for _ in range(2)]
        for thread in threads:
            thread.start()
        for _ in range(15):
            assert forked(lambda: lv.apply_async(abs, 1)).startswith("ConnectionLost")
        over.set()
        for thread in threads:
            thread.join(PATIENCE)
        assert lv.apply_sync(abs, -1) == 1

    def test_a_child_may_connect_anew(self, cluster, rc):
        def work():
            with cluster.connect_client_sync() as mine:
                return mine[:].apply_sync(abs, -3)

        assert forked(work) == "[3, 3]"
        assert rc[:].apply_sync(abs, -3) == [3, 3]

    def test_pools_of_forked_processes(self, rc, lv):
        with multiprocessing.get_context("fork").Pool(2) as pool:
            assert pool.map(abs, range(-5, 0)) == [5, 4, 3, 2, 1]
            assert lv.map_sync(abs, range(-5, 0)) == [5, 4, 3, 2, 1]
        assert rc[:].apply_sync(int) == [0, 0]


class TestOfAnEngine:
    def test_a_child_that_runs_on_into_the_engine_leaves(self, rc):
        """The worst that user code can do: return in both processes."""

        def fork():
            import os

            pid = os.fork()
            print("child" if pid == 0 else "parent")
            return pid

        result = rc[0].apply_async(fork)
        child = result.get(PATIENCE)
        assert child > 0
        assert "parent" in result.stdout
        assert rc[0].apply_sync(_reap, child) == 0
        assert rc[0].apply_sync(abs, -1) == 1

    @pytest.mark.parametrize("method", ["fork", "spawn"])
    def test_pools(self, rc, method):
        def work(method):
            import multiprocessing

            with multiprocessing.get_context(method).Pool(2) as pool:
                return pool.map(abs, range(-5, 0))

        assert rc[:].apply_async(work, method).get(PATIENCE) == [[5, 4, 3, 2, 1]] * 2
        assert rc[:].apply_sync(abs, -1) == [1, 1]

    def test_executors(self, rc):
        def work():
            from concurrent.futures import ProcessPoolExecutor

            with ProcessPoolExecutor(2) as pool:
                return list(pool.map(abs, range(-5, 0)))

        assert rc[0].apply_async(work).get(PATIENCE) == [5, 4, 3, 2, 1]

    def test_subprocesses(self, rc):
        def work():
            import subprocess
            import sys

            done = subprocess.run([sys.executable, "-c", "print('sub')"], capture_output=True, text=True, check=True)
            return done.stdout

        assert rc[0].apply_async(work).get(PATIENCE) == "sub\n"

    def test_a_child_that_outlives_its_task_does_not_hold_the_connection(self, rc, cluster):
        cluster.start_engines_sync(1, "parent")
        rc.wait_for_engines(3, timeout=PATIENCE)
        engine = max(rc.ids)

        def leave_a_child():
            import os

            pid = os.fork()
            if pid == 0:
                time.sleep(20)
                os._exit(0)
            return pid, os.getpid()

        child, parent = rc[engine].apply_sync(leave_a_child)
        os.kill(parent, 9)
        assert rc.link.wait_for(lambda: rc.ids == [0, 1], PATIENCE)
        os.kill(child, 9)
        cluster.stop_engines_sync("parent")


def _reap(pid):
    import os

    _, status = os.waitpid(pid, 0)
    return os.waitstatus_to_exitcode(status)
