"""AsyncResult on real engines: waiting, errors, metadata, timing, parts, cancelling, aborting."""

from __future__ import annotations

import contextlib
import gc
import os
import time
import weakref
from datetime import datetime

import pytest

import enginery as ipp

PATIENCE = 30
pytestmark = pytest.mark.slow


def wait_for_file(path):
    while not os.path.exists(path):
        time.sleep(0.005)
    return "open"


@pytest.fixture
def gate(tmp_path):
    """A file that tasks wait for; it is made at the end in any case."""
    path = tmp_path / "gate"
    yield path
    path.touch()


class TestWaiting:
    def test_before_and_after(self, lv, gate):
        result = lv.apply_async(wait_for_file, str(gate))
        assert not result.ready()
        assert not result.done()
        assert not result.wait(0.01)
        with pytest.raises(TimeoutError, match="wait_for_file"):
            result.get(0.01)
        with pytest.raises(RuntimeError, match="not ready"):
            result.successful()
        with pytest.raises(TimeoutError):
            result.wall_time
        gate.touch()
        assert result.wait(PATIENCE)
        assert result.ready()
        assert result.successful()
        assert result.get() == "open"

    def test_part_of_it(self, rc, dv, gate):
        dv.scatter("slow", [False, True], flatten=True, block=True)
        result = dv.apply_async(lambda path: slow and wait_for_file(path), str(gate))  # noqa: F821 - the engine's
        done, pending = result.wait(PATIENCE, return_when=ipp.FIRST_COMPLETED)
        assert (len(done), len(pending)) == (1, 1)
        assert result.progress == 1
        gate.touch()
        assert result.get(PATIENCE) == [False, "open"]
        assert result.wait(0, return_when=ipp.ALL_COMPLETED) == (set(result.split()), set())

    def test_the_first_exception_ends_the_wait(self, rc, dv, gate):
        dv.scatter("fail", [False, True], flatten=True, block=True)
        result = dv.apply_async(lambda path: 1 / 0 if fail else wait_for_file(path), str(gate))  # noqa: F821
        with pytest.raises(ipp.CompositeError, match="ZeroDivisionError"):
            result.get(PATIENCE, return_when=ipp.FIRST_EXCEPTION)
        assert not result.done()

    def test_all_outstanding(self, rc, lv):
        results = [lv.apply_async(time.sleep, 0.01) for _ in range(10)]
        assert rc.wait(timeout=PATIENCE)
        assert all(ar.done() for ar in results)
        assert lv.wait(results, PATIENCE)
        assert rc.wait_interactive(results, timeout=PATIENCE)

    def test_results_that_nobody_keeps_do_not_pile_up(self, rc, lv):
        result = lv.apply_async(int)
        watch = weakref.ref(result)
        assert result.get() == 0
        del result
        gc.collect()
        assert watch() is None
        assert rc.link.outstanding == 0


class TestWhatIsKnown:
    def test_metadata(self, rc, dv, lv):
        result = dv.apply_async(os.getpid)
        pids = result.get()
        assert result.engine_id == [0, 1]
        assert result["engine_id"] == [0, 1]
        assert result.status == ["ok", "ok"]
        for started, completed, received in zip(result.started, result.completed, result.received, strict=True):
            assert isinstance(started, datetime)
            assert started <= completed <= received
        assert result.get_dict() == dict(zip([0, 1], pids, strict=True))
        assert result.result_dict == result.get_dict()
        assert result.r == pids
        one = lv.apply_async(int)
        one.get()
        assert one.engine_id in {0, 1}
        assert one.metadata["status"] == "ok"
        with pytest.raises(AttributeError):
            one.nothing
        with pytest.raises(KeyError):
            one["nothing"]

    def test_items(self, dv, lv):
        result = dv.apply_async(lambda: engine_id)  # noqa: F821 - the engine's
        assert list(result) == [0, 1]
        assert result[0] == 0
        assert result[-1:] == [1]
        assert len(result) == 2
        one = lv.apply_async(int)
        with pytest.raises(TypeError, match="cannot be iterated"):
            iter(one)

    def test_times(self, lv):
        result = lv.map_async(time.sleep, [0.02] * 4)
        result.wait(PATIENCE)
        assert result.serial_time >= 0.08
        assert 0.02 <= result.wall_time <= result.elapsed + 0.01
        assert result.progress == len(result) == 4
        assert result.timedelta(result.submitted, result.received) > 0.02

    def test_names_that_go_with_it(self, rc, dv):
        result = dv.apply_async(int)
        result.get()
        assert len(result.msg_ids) == 2
        assert rc.history[-2:] == result.msg_ids
        assert rc.get_result(result.msg_ids).get() == [0, 0]
        assert rc.get_result(result.msg_ids[0]).get() is not None
        assert set(result.msg_ids) <= set(rc.metadata)
        with pytest.raises(KeyError):
            rc.get_result("nobody's")

    def test_why(self, rc, lv, gate):
        result = rc[0].apply_async(wait_for_file, str(gate))
        behind = rc[0].apply_async(int)
        assert "engine 0" in result.why()
        assert "engine 0" in behind.why()
        gate.touch()
        behind.get(PATIENCE)
        assert behind.why()

    def test_its_looks(self, lv, gate):
        result = lv.apply_async(wait_for_file, str(gate))
        assert repr(result) == "<AsyncResult(wait_for_file): pending>"
        gate.touch()
        result.get()
        assert repr(result) == "<AsyncResult(wait_for_file): finished>"
        bad = lv.apply_async(lambda: 1 / 0)
        bad.wait()
        assert "failed" in repr(bad)


class TestParts:
    def test_split_and_join(self, rc, dv):
        result = dv.apply_async(lambda: engine_id)  # noqa: F821 - the engine's
        parts = result.split()
        assert [part.get() for part in parts] == [0, 1]
        assert [part.engine_id for part in parts] == [0, 1]
        joined = ipp.AsyncResult.join(*parts, rc[1].apply_async(int))
        assert joined.get(PATIENCE) == [0, 1, 0]
        assert joined.done()

    def test_parts_asked_for_before_the_end(self, dv):
        result = dv.apply_async(time.sleep, 0.05)
        parts = result.split()
        assert [part.get(PATIENCE) for part in parts] == [None, None]
        assert result.done()


class TestTakingBack:
    def test_cancel(self, rc, gate):
        running = rc[0].apply_async(wait_for_file, str(gate))
        queued = rc[0].apply_async(int)
        assert queued.cancel()
        assert queued.cancelled()
        with pytest.raises(Exception) as caught:
            queued.get()
        assert type(caught.value).__name__ == "CancelledError"
        gate.touch()
        assert running.get(PATIENCE) == "open"
        assert rc[0].apply_sync(int) == 0

    def test_abort_what_has_not_begun(self, rc, gate):
        running = rc[0].apply_async(wait_for_file, str(gate))
        queued = [rc[0].apply_async(int) for _ in range(3)]
        rc.abort(queued)
        for result in queued:
            with pytest.raises(ipp.TaskAborted):
                result.get(PATIENCE)
        gate.touch()
        assert running.get(PATIENCE) == "open"
        with pytest.raises(RuntimeError, match="done already"):
            running.abort()

    def test_abort_what_runs(self, rc, lv, gate):
        for view in (rc[0], lv):
            result = view.apply_async(wait_for_file, str(gate))
            while not result.running() and not any(s["queue"] or s["tasks"] for s in _engines(rc)):
                time.sleep(0.005)
            time.sleep(0.02)
            result.abort(interrupt=True)
            with pytest.raises(ipp.TaskAborted):
                result.get(PATIENCE)

    def test_abort_interrupts_nothing_else(self, rc):
        for _ in range(20):
            first = rc[0].apply_async(time.sleep, 0.002)
            others = [rc[0].apply_async(time.sleep, 0.001) for _ in range(5)]
            with contextlib.suppress(RuntimeError):
                first.abort(interrupt=True)
            assert [ar.get(PATIENCE) for ar in others] == [None] * 5


def _engines(rc):
    return [status for key, status in rc.queue_status().items() if key != "unassigned"]
