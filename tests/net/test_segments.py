"""Segments of shared memory: written once, mapped by many, used again, and nobody's fault when they run out."""

from __future__ import annotations

import errno
import logging
import os
import random
import signal
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from enginery.net import segments
from enginery.net.segments import IDLE, Pool, read_segment, remove_abandoned

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="shared memory as files is Linux's")

MEGA = 1 << 20


class Clock:
    def __init__(self):
        self.now = 1000.0

    def __call__(self):
        return self.now


@pytest.fixture
def folder():
    with tempfile.TemporaryDirectory(dir="/dev/shm", prefix="enginery-test-") as name:
        yield name


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def pool(folder, clock):
    pool = Pool(folder, "c1", clock=clock)
    yield pool
    pool.close()


def some(size, start=0):
    return memoryview(bytearray(random.Random(start).randbytes(size)))


def files(folder):
    return sorted(path.name for path in Path(folder).iterdir())


def descriptors():
    return sum(1 for _ in Path("/proc/self/fd").iterdir())


# --- writing and reading --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [1, 4096, MEGA + 1, segments.PORTION + 3])
def test_what_is_put_is_read(pool, folder, size):
    data = some(size)
    assert read_segment(folder, pool.put(data), size) == data


def test_the_owner_may_change_its_data_at_once(pool, folder):
    data = some(MEGA)
    before = bytes(data)
    name = pool.put(data)
    data[:] = bytes(MEGA)
    assert read_segment(folder, name, MEGA) == before


def test_read_only_data_are_put_and_arrive_writable(pool, folder):
    view = read_segment(folder, pool.put(memoryview(bytes(MEGA))), MEGA)
    assert not view.readonly
    assert (view.format, view.ndim, view.contiguous) == ("B", 1, True)


def test_readers_do_not_see_what_others_write(pool, folder):
    data = some(MEGA)
    name = pool.put(data)
    one, other = read_segment(folder, name, MEGA), read_segment(folder, name, MEGA)
    one[:] = bytes(MEGA)
    assert other == data
    assert read_segment(folder, name, MEGA) == data


def test_files_are_private(pool, folder):
    name = pool.put(some(MEGA))
    assert Path(folder, name).stat().st_mode & 0o777 == 0o600


# --- using again ----------------------------------------------------------------------------------------------------


def test_released_memory_is_used_again_under_another_name(pool, folder):
    first = pool.put(some(MEGA))
    size, inode = pool.size, Path(folder, first).stat().st_ino
    pool.release([first])
    second = pool.put(some(MEGA, 2))
    assert second != first
    assert pool.size == size
    assert Path(folder, second).stat().st_ino == inode
    assert read_segment(folder, second, MEGA) == some(MEGA, 2)


def test_who_comes_too_late_finds_nothing(pool, folder):
    first = pool.put(some(MEGA))
    pool.release([first])
    pool.put(some(MEGA, 2))
    with pytest.raises(OSError, match=f"{first}.*could not be read"):
        read_segment(folder, first, MEGA)


def test_what_is_in_flight_is_left_alone(pool, folder):
    first = pool.put(some(MEGA))
    pool.put(some(MEGA, 2))
    assert read_segment(folder, first, MEGA) == some(MEGA)


def test_what_is_read_is_left_alone(pool, folder):
    first = pool.put(some(MEGA))
    view = read_segment(folder, first, MEGA)
    pool.release([first])
    second = pool.put(some(MEGA, 2))
    assert view == some(MEGA)
    inode = Path(folder, first).stat().st_ino
    pool.release([second])
    del view
    names = [pool.put(some(MEGA, start)) for start in (3, 4)]
    assert inode in {Path(folder, name).stat().st_ino for name in names}, "free once its reader has let go"


def test_anything_built_on_the_view_holds_it(pool, folder):
    first = pool.put(some(MEGA))
    part = memoryview(read_segment(folder, first, MEGA))[10:20].cast("B")
    pool.release([first])
    pool.put(some(MEGA, 2))
    assert part == some(MEGA)[10:20]


def test_a_killed_reader_holds_nothing(pool, folder):
    first = pool.put(some(MEGA))
    program = (
        "import sys; from enginery.net.segments import read_segment;"
        f"view = read_segment({folder!r}, {first!r}, {MEGA}); print(len(view), flush=True); sys.stdin.read()"
    )
    with subprocess.Popen([sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as reader:
        assert int(reader.stdout.readline()) == MEGA
        pool.release([first])
        second = pool.put(some(MEGA, 2))
        assert pool.size == 2 * MEGA
        pool.release([second])
        reader.kill()
    assert {pool.put(some(MEGA)) is not None for _ in range(2)} == {True}
    assert pool.size == 2 * MEGA


def test_a_lease_ends(pool, folder, clock):
    first = pool.put(some(MEGA), 60.0)
    clock.now += 59.0
    pool.put(some(MEGA, 2), 60.0)
    assert read_segment(folder, first, MEGA) == some(MEGA)
    clock.now += 2.0
    size = pool.size
    pool.put(some(MEGA, 3), 60.0)
    assert pool.size == size
    with pytest.raises(OSError, match="could not be read"):
        read_segment(folder, first, MEGA)


def test_releasing_twice_or_the_unknown_does_no_harm(pool):
    name = pool.put(some(MEGA))
    pool.release([name, name, "c1-999", ""])
    pool.release([name])
    assert pool.put(some(MEGA)) != pool.put(some(MEGA))


def test_a_segment_is_not_wasted_on_much_less(pool):
    name = pool.put(some(8 * MEGA))
    pool.release([name])
    pool.put(some(MEGA))
    assert pool.size == 9 * MEGA


@given(st.integers(1, 1 << 40))
def test_sizes_are_rounded_up_a_little(size):
    rounded = segments._rounded(size)
    assert size <= rounded <= max(size * 9 // 8 + 1, size + 4096)
    assert rounded % 4096 == 0
    assert segments._rounded(rounded) == rounded


# --- running out ----------------------------------------------------------------------------------------------------


def test_past_the_budget_there_is_no_room_and_one_complaint(folder, caplog):
    caplog.set_level(logging.WARNING, "enginery.net")
    pool = Pool(folder, "e7", budget=2 * MEGA)
    names = [pool.put(some(MEGA)) for _ in range(4)]
    assert [name is not None for name in names] == [True, True, False, False]
    assert len(caplog.records) == 1
    assert "no room in shared memory" in caplog.text
    pool.release(names[:1])
    assert pool.put(some(MEGA)) is not None
    pool.close()


def test_free_segments_make_room_for_others(folder):
    pool = Pool(folder, "e7", budget=4 * MEGA)
    pool.release([pool.put(some(MEGA)) for _ in range(4)])
    name = pool.put(some(4 * MEGA))
    assert read_segment(folder, name, 4 * MEGA) == some(4 * MEGA)
    assert files(folder) == [name]
    pool.close()


def test_readers_keep_what_made_room(folder):
    pool = Pool(folder, "e7", budget=MEGA)
    name = pool.put(some(MEGA))
    view = read_segment(folder, name, MEGA)
    pool.release([name])
    assert pool.put(some(MEGA, 2)) is not None
    assert view == some(MEGA)
    pool.close()


def test_a_full_file_system_is_no_error(pool, folder, monkeypatch, caplog):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", full)
    assert pool.put(some(MEGA)) is None
    assert files(folder) == []
    assert pool.size == 0
    assert "No space left" in caplog.text
    monkeypatch.undo()
    assert pool.put(some(MEGA)) is not None


def test_half_of_what_is_free_is_left_to_others(pool, monkeypatch):
    monkeypatch.setattr(segments, "_free_bytes", lambda _folder: 2 * MEGA - 1)
    assert pool.put(some(MEGA)) is None


def test_so_many_segments_and_no_more(pool, monkeypatch):
    monkeypatch.setattr(segments, "MOST_SEGMENTS", 2)
    assert [pool.put(some(MEGA)) is not None for _ in range(3)] == [True, True, False]


def test_past_so_many_mappings_data_are_copied(pool, folder, monkeypatch):
    monkeypatch.setattr(segments, "MOST_MAPPINGS", len(segments._mappings) + 1)
    name = pool.put(some(MEGA))
    mapped, copied = read_segment(folder, name, MEGA), read_segment(folder, name, MEGA)
    copied[:10] = bytes(10)
    assert mapped == some(MEGA)
    assert copied[10:] == mapped[10:]
    before = descriptors()
    del copied
    assert descriptors() == before, "a copy takes no descriptor"


def test_where_there_is_no_shared_memory_nothing_is_put():
    pool = Pool("", "c1")
    assert pool.closed
    assert pool.put(some(MEGA)) is None
    assert Pool("/nowhere/at/all", "c1").closed
    with pytest.raises(OSError, match="no shared memory here"):
        read_segment("", "c1-1", MEGA)


@pytest.mark.parametrize("name", ["", "lock", "../c1-1", "c1-1/../x", "/etc/passwd", "c1-"])
def test_strange_names_are_not_opened(folder, name):
    with pytest.raises(OSError, match="announced"):
        read_segment(folder, name, 1)


def test_a_segment_that_is_shorter_than_announced(pool, folder):
    name = pool.put(some(4096))
    with pytest.raises(OSError, match="could not be read"):
        read_segment(folder, name, MEGA)


def test_a_removed_folder_is_no_error(folder, clock):
    pool = Pool(folder, "c1", clock=clock)
    pool.release([pool.put(some(MEGA))])
    for path in Path(folder).iterdir():
        path.unlink()
    assert pool.put(some(MEGA)) is not None
    Path(folder).chmod(0o500) if os.getuid() else None
    pool.close()
    assert pool.put(some(MEGA)) is None


# --- giving back ----------------------------------------------------------------------------------------------------


def test_idle_segments_are_given_back(pool, folder, clock):
    names = [pool.put(some(MEGA)) for _ in range(2)]
    pool.release(names[:1])
    clock.now += IDLE / 2
    pool.trim()
    assert files(folder) == sorted(names)
    clock.now += IDLE
    pool.trim()
    assert files(folder) == names[1:]
    assert pool.size == MEGA


def test_closing_leaves_what_is_in_flight(pool, folder):
    lent, free = pool.put(some(MEGA)), pool.put(some(MEGA))
    pool.release([free])
    before = descriptors()
    pool.close()
    assert files(folder) == [lent]
    assert read_segment(folder, lent, MEGA) == some(MEGA)
    assert descriptors() == before - 4, "two for each"


def test_what_is_reserved_or_read_is_not_abandoned(folder):
    pool = Pool(folder, "h1")
    name, view = pool.reserve(MEGA)
    view[:1] = b"x"
    path = Path(folder, name)
    remove_abandoned(path)
    assert path.exists()
    pool.release([name])
    (name, view), path = pool.reserve(MEGA), Path(folder, "h1-2")  # another life of the same memory
    assert name == path.name
    remove_abandoned(path)
    assert path.exists()
    seen = read_segment(folder, name, MEGA)
    del view
    pool.close()
    remove_abandoned(path)
    assert path.exists(), "it is read"
    del seen
    remove_abandoned(path)
    assert files(folder) == []
    remove_abandoned(path)


def test_an_interrupted_copy_leaves_nothing(pool, folder):
    class Interrupted:
        nbytes = MEGA

        def __getitem__(self, _):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        pool.put(Interrupted())
    assert files(folder) == []
    assert pool.size == 0


def test_a_forked_child_does_not_touch_its_parents_segments(pool, folder):
    name = pool.put(some(MEGA))
    free = pool.put(some(MEGA))
    pool.release([free])
    child = os.fork()
    if not child:
        code = 1
        try:
            if pool.put(some(MEGA)) is None:
                pool.close()
                code = 0
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert files(folder) == sorted([name, free])


def test_a_child_forked_while_a_segment_is_held_does_not_block_it_for_ever(pool, folder):
    pool.release([pool.put(some(MEGA))])
    child = os.fork()
    if not child:
        signal.pause()
        os._exit(0)
    try:
        name = pool.put(some(MEGA, 2))
        assert pool.size == MEGA
        assert read_segment(folder, name, MEGA) == some(MEGA, 2)
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)


def test_many_threads(folder, seed):
    pool = Pool(folder, "c1", budget=64 * MEGA)
    failures = []

    def work(start):
        chance = random.Random(seed + start)
        try:
            for round_ in range(40):
                size = chance.randrange(100_000, 400_000)
                data = some(size, start * 1000 + round_)
                name = pool.put(data)
                view = read_segment(folder, name, size)
                pool.release([name])
                assert view == data
                if chance.random() < 0.1:
                    pool.trim()
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=work, args=(start,)) for start in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert pool.size <= 64 * MEGA
    pool.close()
    assert files(folder) == []
