"""Large buffers on one host: they arrive as they do by frames, and nothing stays behind, whoever dies."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from enginery.client.client import Client
from enginery.cluster.cluster import Cluster
from enginery.core.sharing import WORTH
from enginery.errors import EngineError
from enginery.wire.reference import Reference

numpy = pytest.importorskip("numpy")

pytestmark = [pytest.mark.slow, pytest.mark.skipif(sys.platform != "linux", reason="shared memory as files is Linux's")]

PATIENCE = 30
SIZE = 4 * WORTH


def folder_of(rc):
    return Path(rc.link._requests.welcome.runtime)


def segments(rc, owner=""):
    return sorted(path.name for path in folder_of(rc).iterdir() if path.name.startswith(owner) and path.name != "lock")


def wait_until(true):
    deadline = time.monotonic() + PATIENCE
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.01)
    return True


#: Records hold segments, too, within a budget of their own: see test_task_store.py. Here nothing does but tasks.
WITHOUT_RECORDS = ["--nodb"]


@pytest.fixture(scope="module")
def rc(tmp_path_factory):
    folder = tmp_path_factory.mktemp("profile") / "profile_x"
    with Cluster(n=2, profile_dir=str(folder), controller_args=WITHOUT_RECORDS) as client:
        yield client


@pytest.fixture
def own(tmp_path):
    """A cluster to be broken."""
    with Cluster(n=2, profile_dir=str(tmp_path / "profile_x"), controller_args=WITHOUT_RECORDS) as client:
        yield client


def latest(rc, owner):
    """The highest number of a segment of an owner: how many times it has used shared memory."""
    return max((int(name.partition("-")[2]) for name in segments(rc, owner)), default=0)


@pytest.fixture
def used(rc):
    """Fails the test unless the client and engine 0 have put something into shared memory."""
    before = latest(rc, "c"), latest(rc, "e0-")
    yield
    assert latest(rc, "c") > before[0]
    assert latest(rc, "e0-") > before[1]


def same(value):
    return value


def describe(array):
    return array.dtype.str, array.shape, array.flags.writeable, array.flags.c_contiguous, array.flags.f_contiguous


# --- what arrives -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "array",
    [
        numpy.arange(SIZE, dtype="u1"),
        numpy.arange(SIZE, dtype=">f8").reshape(64, -1),
        numpy.asfortranarray(numpy.arange(SIZE, dtype="i4").reshape(32, -1)),
        numpy.zeros(SIZE, dtype=[("a", "i4"), ("b", "f8", 3)]),
    ],
    ids=["bytes", "big endian", "columns", "records"],
)
def test_arrays_arrive_as_they_are(rc, used, array):
    back = rc[0].apply_sync(same, array)
    assert type(back) is numpy.ndarray
    assert describe(back) == describe(array)
    assert numpy.array_equal(back, array)
    assert rc[0].apply_sync(describe, array) == describe(array)


@pytest.mark.parametrize(
    "array",
    [
        numpy.arange(SIZE).astype("M8[s]"),
        numpy.arange(SIZE, dtype="c16")[::-1],
        numpy.ma.masked_greater(numpy.arange(SIZE), SIZE // 2),
        numpy.arange(SIZE).view(numpy.matrix),
    ],
    ids=["dates", "backwards", "masked", "matrix"],
)
def test_arrays_that_numpy_pickles_whole(rc, used, array):
    back = rc[0].apply_sync(same, array)
    assert type(back) is type(array)
    assert (back.dtype, back.shape) == (array.dtype, array.shape)
    assert numpy.array_equal(back, array)
    assert rc[0].apply_sync(describe, array)[:3] == (array.dtype.str, array.shape, True)


@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview], ids=["bytes", "bytearray", "view"])
def test_bytes_arrive_as_they_are(rc, used, kind):
    data = kind(os.urandom(SIZE))
    back = rc[0].apply_sync(same, data)
    assert type(back) is type(data)
    assert back == data


@pytest.mark.parametrize(
    "value", ["x" * SIZE, 1 << 8 * SIZE, [str(number) for number in range(SIZE // 8)]], ids=["text", "number", "list"]
)
def test_large_payloads_arrive_as_they_are(rc, used, value):
    assert rc[0].apply_sync(same, value) == value
    assert rc[0].apply_sync(same, (value, b"x" * SIZE)) == (value, b"x" * SIZE)


def test_pandas(rc, used):
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame({"a": numpy.arange(SIZE), "b": numpy.arange(SIZE) / 2})
    assert rc[0].apply_sync(same, frame).equals(frame)


def test_arrow(rc, used):
    arrow = pytest.importorskip("pyarrow")
    table = arrow.table({"x": numpy.arange(SIZE), "s": ["text"] * SIZE})
    assert rc[0].apply_sync(same, table).equals(table)
    assert rc[0].apply_sync(same, table["x"].chunk(0).buffers()[1]).equals(table["x"].chunk(0).buffers()[1])
    rc[:].scatter("part", table, block=True)
    assert rc[:].apply_sync(lambda part: part.num_rows, Reference("part")) == [SIZE // 2] * 2
    assert rc[:].gather("part", block=True).equals(table)


def test_large_and_small_buffers_keep_their_order(rc, used):
    arrays = [numpy.full(size, at, "u1") for at, size in enumerate([10, 5000, SIZE, 6000, SIZE, SIZE + 1, 7000])]
    back = rc[0].apply_sync(same, arrays)
    assert all(map(numpy.array_equal, back, arrays))


def test_push_pull_scatter_gather(rc, used):
    array = numpy.random.default_rng(1).random(SIZE)
    view = rc[:]
    view.push({"whole": array}, block=True)
    assert all(numpy.array_equal(each, array) for each in view.pull("whole", block=True))
    view.scatter("part", array, block=True)
    assert numpy.array_equal(view.gather("part", block=True), array)


def test_balanced_tasks_and_maps(rc):
    arrays = [numpy.full(SIZE, at, "u1") for at in range(12)]
    view = rc.load_balanced_view()
    assert [int(each.sum()) for each in view.map_sync(same, arrays)] == [SIZE * at for at in range(12)]
    assert [each[0] for each in rc[:].map_sync(same, arrays)] == list(range(12))


def test_a_broadcast_is_written_once(rc):
    array = numpy.zeros(SIZE, "u1")
    rc[:].apply_sync(len, array)
    before = latest(rc, "c")
    rc[:].apply_sync(len, array)
    assert latest(rc, "c") == before + 1


# --- who sees what ----------------------------------------------------------------------------------------------------


def test_engines_do_not_see_what_others_write(rc):
    array = numpy.zeros(SIZE, "u1")
    view = rc[:]
    view.push({"mine": array}, block=True)
    view.execute("mine[:] = engine_id + 1", block=True)
    assert [set(each.tolist()) for each in view.pull("mine[::4096]", block=True)] == [{1}, {2}]
    assert not array.any()


@pytest.mark.parametrize("size", [5000, WORTH - 1, SIZE])
def test_the_sender_may_overwrite_at_once(rc, size):
    array = numpy.ones(size, "u1")
    results = []
    for value in range(20):
        array[:] = value
        results.append(rc[0].apply_async(lambda a: (int(a.min()), int(a.max())), array))
        array[:] = 255
    assert [result.get(PATIENCE) for result in results] == [(value, value) for value in range(20)]


@pytest.mark.parametrize("size", [5000, WORTH - 1, SIZE])
def test_the_engine_may_overwrite_at_once(rc, size):
    view = rc[0]
    view.push({"live": numpy.zeros(size, "u1")}, block=True)
    pulled = []
    for value in range(20):
        pulled.append(view.pull("live", block=False))
        view.execute(f"live[:] = {value + 1}", block=False)
    for value, each in enumerate(pulled):
        assert set(each.get(PATIENCE).tolist()) == {value}


def test_what_is_kept_stays_as_it_was(rc):
    """Values stay alive on both sides while memory is used again and again."""
    view = rc[0]
    view.execute("kept = []", block=True)
    kept = []
    for value in range(40):
        view.push({"new": numpy.full(SIZE, value, "u1")}, block=True)
        view.execute("kept.append(new)", block=True)
        kept.append(view.pull("new", block=True))
        if value % 3 == 2:
            view.execute("del kept[0]", block=True)
            del kept[0]
    assert [set(each[::4096].tolist()) for each in kept] == [{value} for value in range(13, 40)]
    assert view.pull("[set(each[::4096].tolist()) for each in kept]", block=True) == [{v} for v in range(13, 40)]
    view.clear(block=True)


def test_threads_share_a_client(rc, seed):
    failures = []

    def work(number):
        generator = numpy.random.default_rng([seed, number])
        try:
            for _ in range(15):
                array = generator.integers(0, 255, int(generator.integers(1000, 2 * SIZE)), "u1")
                assert numpy.array_equal(rc[number % 2].apply_async(same, array).get(PATIENCE), array)
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []


def test_memory_is_used_again(rc):
    array = numpy.ones(8 * SIZE, "u1")
    for _ in range(10):
        rc[0].apply_sync(same, array)
    before = segments(rc)
    for _ in range(50):
        rc[0].apply_sync(same, array)
    assert len(segments(rc)) <= len(before) + 2


# --- when it runs out -------------------------------------------------------------------------------------------------


def test_past_the_budget_frames_do(own, caplog):
    pool = own.link._sharing.pool
    pool.budget = SIZE
    arrays = [numpy.full(2 * SIZE, at, "u1") for at in range(3)]
    results = [own[0].apply_async(same, array) for array in arrays]
    assert [int(result.get(PATIENCE)[-1]) for result in results] == [0, 1, 2]
    assert segments(own, "c") == []
    assert sum("no room in shared memory" in record.message for record in caplog.records) == 1


def test_a_full_file_system_does_not_matter(own):
    own[:].apply_sync(_fill_up)
    array = numpy.arange(SIZE)
    assert numpy.array_equal(own[0].apply_sync(same, array), array)
    assert segments(own, "e") == []


def _fill_up():
    import errno

    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    os.posix_fallocate = full


# --- those who are not on this host -----------------------------------------------------------------------------------


def by_tcp(path):
    """Connection info without the sockets of this host."""
    info = json.loads(Path(path).read_text())
    info["urls"] = [url for url in info["urls"] if url.startswith("tcp://")]
    info["url"] = info["urls"][0]
    return info


def test_a_client_elsewhere_gets_frames(own):
    path = own.cluster.controller.connection_files["client"]
    with Client(by_tcp(path)) as far:
        assert str(folder_of(far)) == "."
        array = numpy.arange(SIZE)
        back = far[:].apply_sync(same, array)
        assert all(numpy.array_equal(each, array) for each in back)
        assert back[0].flags.writeable
        assert far[:].apply_sync(same, ("x" * SIZE, array[::2]))[1][0] == "x" * SIZE
        assert segments(own, "e"), "the engines did use shared memory"


def test_an_engine_elsewhere_gets_frames(own, tmp_path):
    path = tmp_path / "far-engine.json"
    path.write_text(json.dumps(by_tcp(own.cluster.controller.connection_files["engine"])))
    path.chmod(0o600)
    command = [sys.executable, "-m", "enginery.engine", f"--file={path}", f"--profile-dir={tmp_path / 'far'}"]
    with subprocess.Popen(command, stderr=subprocess.DEVNULL) as engine:
        try:
            own.wait_for_engines(3, timeout=PATIENCE)
            array = numpy.arange(SIZE)
            back = own[:].apply_sync(same, array)
            assert [numpy.array_equal(each, array) for each in back] == [True] * 3
            assert own[:].apply_sync(same, "x" * SIZE) == ["x" * SIZE] * 3
            assert segments(own, "c")
            assert not segments(own, "e2-")
        finally:
            engine.terminate()
            engine.wait(PATIENCE)


# --- whoever dies -----------------------------------------------------------------------------------------------------


def test_a_killed_engine_holds_nothing(own):
    array = numpy.ones(8 * SIZE, "u1")
    pid = own[0].apply_sync(os.getpid)
    own[0].push({"kept": array}, block=True)
    back = own[0].pull("kept", block=True)
    result = own[0].apply_async(_wait_with, array)
    os.kill(pid, signal.SIGKILL)
    with pytest.raises(EngineError):
        result.get(PATIENCE)
    assert numpy.array_equal(back, array), "what was mapped stays"
    for _ in range(10):
        assert numpy.array_equal(own[1].apply_sync(same, array), array)
    assert len(segments(own, "c")) <= 3


def _wait_with(_array):
    time.sleep(PATIENCE)


def test_a_task_whose_engine_is_killed_finds_its_data_elsewhere(own, tmp_path):
    view = own.load_balanced_view()
    view.retries = 1
    array = numpy.arange(SIZE)
    assert view.apply_async(_die_once, str(tmp_path / "died"), array).get(PATIENCE) == int(array.sum())


def _die_once(mark, array):
    if not Path(mark).exists():
        Path(mark).touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return int(array.sum())


def test_data_of_a_client_that_has_closed_reach_the_engine(own):
    array = numpy.ones(SIZE, "u1")
    with Client(own.cluster.controller.connection_files["client"]) as other:
        number = other.link.number
        other[0].apply_async(time.sleep, 0.2)
        other[0].push({"left": array}, block=False)
    assert own[0].pull("int(left.sum())", block=True) == SIZE
    assert wait_until(lambda: not segments(own, f"c{number}-"))


def test_nothing_is_left_when_a_cluster_stops(tmp_path):
    with Cluster(n=1, profile_dir=str(tmp_path / "profile_x")) as rc:
        folder = folder_of(rc)
        assert folder.stat().st_mode & 0o777 == 0o700
        back = rc[0].apply_sync(same, numpy.ones(SIZE, "u1"))
        assert segments(rc)
    assert not folder.exists()
    assert back.all()


def test_nothing_is_left_when_a_controller_is_killed(tmp_path):
    cluster = Cluster(n=1, profile_dir=str(tmp_path / "profile_x"))
    rc = cluster.start_and_connect_sync()
    folder = folder_of(rc)
    rc[0].apply_sync(same, numpy.ones(SIZE, "u1"))
    os.kill(rc.link.info.pid, signal.SIGKILL)
    cluster.stop_cluster_sync()
    assert not folder.exists()
