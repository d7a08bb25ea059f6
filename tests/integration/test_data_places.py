"""Where data are, on a real cluster: names that tasks refer to, results that stay on engines, and what becomes of them."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time

import pytest

from enginery.cluster.cluster import Cluster
from enginery.core.sharing import WORTH
from enginery.errors import EngineError, RemoteError
from enginery.wire.reference import Reference

pytestmark = [pytest.mark.slow]

PATIENCE = 30


ME = Reference("engine_id")


def here(engine, *values):
    return engine, *values


def total(engine, *data):
    """The id of the engine that runs it, and the sum of each argument."""
    return engine, *map(sum, data)


def zeros(size):
    return bytes(size)


def is_gone(rc, value):
    """Whether no engine has a value any more. The question comes after what this client said before."""
    return rc.link.ask("where", {"values": [value]}) == [[]]


# --- names ------------------------------------------------------------------------------------------------------------


def test_where_a_name_is(rc):
    assert rc.where("x") == []
    rc[1].push({"x": 1}, block=True)
    assert rc.where("x") == [1]
    rc[0].execute("x = 2", block=True)
    assert rc.where(["x", "y"]) == {"x": [0, 1], "y": []}
    rc[1].execute("del x", block=True)
    assert rc.where("x") == [0]
    with pytest.raises(TypeError, match="strings"):
        rc.where([1])


def test_tasks_go_where_their_references_are(rc, lv):
    rc[1].push({"x": [1, 2]}, block=True)
    assert lv.apply_sync(here, ME, Reference("x")) == (1, [1, 2])
    assert lv.map_sync(here, [ME] * 5, [Reference("x[0]")] * 5) == [(1, 1)] * 5
    assert list(lv.imap(here, [ME] * 3, [Reference("x[1]")] * 3)) == [(1, 2)] * 3
    rc[0].push({"double": lambda engine, value: (engine, 2 * value)})
    assert lv.apply_sync(Reference("double"), ME, 4) == (0, 8), "without waiting for the push"
    rc[1].execute("y = 3", block=False)
    assert lv.apply_sync(here, ME, {"y": Reference("y")}) == (1, {"y": 3})
    assert lv.map_sync(here, [ME] * 4, [1, Reference("y"), 3, 4], chunksize=4) == [(1, 1), (1, 3), (1, 3), (1, 4)]


def test_what_nobody_has_is_a_name_error(lv):
    with pytest.raises(RemoteError, match="name 'nowhere' is not defined"):
        lv.apply_sync(here, ME, Reference("nowhere + 1"))
    assert lv.apply_sync(here, ME, Reference("max([1, 2])"))[1] == 2


# --- kept values ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [10, 2 * WORTH], ids=["small", "large"])
def test_a_kept_value_feeds_tasks_and_is_fetched(rc, lv, size):
    kept = rc[1].with_flags(keep=True).apply_sync(zeros, size)
    assert (kept.engine, kept.where(), kept.description.kind) == (1, [1], "bytes")
    assert kept.nbytes >= size
    assert lv.map_sync(total, [ME] * 4, [kept] * 4) == [(1, 0)] * 4
    assert kept.get(PATIENCE) == bytes(size)
    assert rc[0].apply_sync(total, ME, kept) == (0, 0), "from engine to engine"
    assert kept.where() == [0, 1]
    assert rc[0].push({"x": {"deep": [kept]}}, block=True) is None
    assert rc[0].pull("x['deep'][0]", block=True) == bytes(size)


def test_values_of_several_engines(rc, lv):
    one = rc[0].with_flags(keep=True).apply_sync(zeros, 4 * WORTH)
    two = rc[1].with_flags(keep=True).apply_sync(zeros, 2 * WORTH)
    assert lv.apply_sync(total, ME, one, two) == (0, 0, 0)
    assert (one.where(), two.where()) == ([0], [0, 1])
    each = rc[:].with_flags(keep=True).apply_sync(zeros, 10)
    assert [kept.engine for kept in each] == [0, 1]
    assert rc[:].apply_sync(total, ME, each[0]) == [(0, 0), (1, 0)]


def test_maps_of_kept_values(lv):
    farm = lv.with_flags(keep=True)
    kept = farm.map_sync(zeros, range(6))
    assert [len(each.get()) for each in kept] == list(range(6))
    assert [engine for engine, _ in lv.map_sync(total, [ME] * 6, kept)] == [each.engine for each in kept]
    chunks = farm.map_sync(zeros, range(6), chunksize=3)
    assert [list(map(len, each.get())) for each in chunks] == [[0, 1, 2], [3, 4, 5]]
    assert [len(each.get()) for each in farm.imap(zeros, range(3))] == [0, 1, 2]
    assert [len(each.get()) for each in farm.map_sync(zeros, iter(range(3)))] == [0, 1, 2]


def test_a_busy_engine_hands_values_out(rc):
    kept = rc[1].with_flags(keep=True).apply_sync(zeros, WORTH)
    rc[1].execute("import threading; go = threading.Event()", block=True)
    waiting = rc[1].apply_async(Reference("go.wait"), PATIENCE)
    assert kept.get(PATIENCE) == bytes(WORTH)
    assert not waiting.done()
    rc[1].abort(waiting, interrupt=True)
    waiting.wait(PATIENCE)


def test_what_nobody_holds_is_forgotten(rc, lv):
    farm = lv.with_flags(keep=True)
    kept = farm.apply_sync(zeros, 10)
    value = kept._id
    del kept
    assert is_gone(rc, value)
    result = farm.apply_async(zeros, 10)
    result.wait(PATIENCE)
    value = result._first
    del result
    assert is_gone(rc, value), "nobody has looked at it"
    kept = farm.apply_sync(zeros, 10)
    value, feeds = kept._id, lv.apply_async(total, ME, kept)
    del kept
    assert feeds.get(PATIENCE)[1] == 0
    assert is_gone(rc, value)


def test_a_client_that_leaves_takes_its_values_along(rc, own_rc):
    kept = own_rc.load_balanced_view(keep=True).apply_sync(zeros, 10)
    value = kept._id
    assert rc.link.ask("where", {"values": [value]}) == [[kept.engine]]
    own_rc.close()
    # The controller hears of it by another connection.
    deadline = time.monotonic() + PATIENCE
    while not is_gone(rc, value):
        assert time.monotonic() < deadline


def test_values_that_cannot_be_handed_out(rc, lv):
    kept = rc[0].with_flags(keep=True).apply_sync(threading.Lock)
    assert kept.description.kind == "_thread.lock"
    assert rc[0].apply_sync(lambda lock: lock.locked(), kept) is False
    with pytest.raises(RemoteError, match=r"_thread\.lock"):
        kept.get(PATIENCE)
    with pytest.raises(EngineError, match=r"_thread\.lock"):
        rc[1].apply_sync(lambda lock: lock.locked(), kept)
    with pytest.raises(RemoteError, match="ZeroDivisionError"):
        lv.with_flags(keep=True).apply_sync(lambda: 1 / 0)
    with pytest.raises(TypeError, match="is on its engine"):
        iter(kept)


@pytest.mark.skipif(sys.platform == "win32", reason="signals")
def test_the_engine_that_had_it_dies(tmp_path):
    with Cluster(n=2, profile_dir=str(tmp_path / "profile_x")) as rc:
        kept = rc[0].with_flags(keep=True).apply_sync(zeros, WORTH)
        both = rc[0].with_flags(keep=True).apply_sync(zeros, WORTH)
        assert rc[1].apply_sync(total, ME, both) == (1, 0)
        os.kill(rc.link.engines[0].pid, signal.SIGKILL)
        assert rc.link.wait_for(lambda: len(rc) == 1, PATIENCE)
        lv = rc.load_balanced_view()
        assert lv.apply_sync(total, ME, both) == (1, 0)
        assert both.get(PATIENCE) == bytes(WORTH)
        with pytest.raises(EngineError, match="SIGKILL"):
            lv.apply_sync(total, ME, kept)
        with pytest.raises(EngineError, match="is lost"):
            kept.get(PATIENCE)
