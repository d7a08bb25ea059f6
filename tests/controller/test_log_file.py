"""The logbook's file: what was saved is read again; damage is told from an end that was not reached."""

from __future__ import annotations

import errno
import os
import select
import stat
import subprocess
import sys
from pathlib import Path
from random import Random

import pytest

from enginery.controller import log_file as room
from enginery.controller.log_file import LogFile
from enginery.core.logbook import Accepted, Began, Bodies
from enginery.errors import LogbookError
from enginery.wire.messages import Task
from logbook_reader import Reader

PATIENCE = 20


def page(number, frames=()):
    task = Task(number, 0, b"", b"payload" * 5, len(frames))
    return [(Bodies({b"f": b"%d" % number}), []), (Accepted([task]), list(frames))]


def wait_until_saved(log, number):
    while log.saved < number and log.failure is None:
        assert select.select([log.wakeup], [], [], PATIENCE)[0]
        log.wakeup.clear()


def write(path, pages, anew_at=None):
    log = LogFile(path)
    log.start()
    log.begin_anew([(Began(1), [])])
    for at in range(pages):
        number = log.put(page(at, [b"x" * at, b""]))
        if at == anew_at:
            number = log.begin_anew([(Began(2), [])])
    wait_until_saved(log, number)
    log.close()


def read(path):
    log = LogFile(path)
    reader = Reader()
    try:
        log.read_into(reader)
    finally:
        log.close()
    return reader


@pytest.fixture
def path(tmp_path):
    return tmp_path / "db" / "logbook"


def test_what_was_saved_is_read_again(path):
    write(path, 5)
    reader = read(path)
    assert sorted(reader.tasks) == [0, 1, 2, 3, 4]
    assert reader.entries[-1] == page(4, [b"xxxx", b""])[1]
    assert reader.epoch == 1
    assert reader.bodies == {b"f": b"4"}


def test_a_new_beginning_takes_the_place_of_all_before(path):
    write(path, 5, anew_at=2)
    reader = read(path)
    assert sorted(reader.tasks) == [3, 4]
    assert reader.epoch == 2


def test_it_is_private(path):
    write(path, 1)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert [each.name for each in path.parent.iterdir()] == ["logbook"]


def test_an_empty_one_is_a_beginning(path):
    assert read(path).entries == []
    path.write_bytes(bytes(1000))
    assert read(path).entries == []


def test_cut_anywhere_it_holds_what_came_before(path):
    write(path, 3)
    whole = path.read_bytes()
    all_entries = read(path).entries
    seen = set()
    for end in range(len(room.MAGIC) + 4, len(whole)):
        path.write_bytes(whole[:end])
        entries = read(path).entries
        assert entries == all_entries[: len(entries)]
        seen.add(len(entries))
    assert seen == {0, 1, 3, 5}


@pytest.mark.parametrize("filler", [b"\0", b"\xff"])
def test_with_an_end_that_was_never_written_it_holds_what_came_before(path, filler):
    write(path, 3)
    whole = path.read_bytes()
    entries = read(path).entries
    path.write_bytes(whole + filler * 5000)
    assert read(path).entries == entries
    path.write_bytes(whole[:-10] + filler * 10)
    assert read(path).entries == entries[:-2]


def test_damage_is_never_guessed_at(path):
    write(path, 4)
    whole = path.read_bytes()
    entries = read(path).entries
    random, refused = Random(1), set()
    for _ in range(300):
        at = random.randrange(len(whole))
        damaged = bytearray(whole)
        damaged[at] ^= 1 << random.randrange(8)
        path.write_bytes(damaged)
        try:
            found = read(path).entries
        except LogbookError as error:
            refused.add(str(error).split("'")[1])
        else:
            assert found == entries[: len(found)]
            assert len(found) >= len(entries) - 2  # the last page only
    assert refused == {str(path)}


def test_a_later_form_is_refused(path):
    path.parent.mkdir()
    path.write_bytes(room.MAGIC + room._HEAD.pack(room.FORM + 1))
    with pytest.raises(LogbookError, match=r"form 2, and this release reads 1"):
        read(path)


def test_what_is_no_logbook_is_refused(path):
    path.parent.mkdir()
    path.write_bytes(b"SQLite format 3" * 10)
    with pytest.raises(LogbookError, match="does not begin as a logbook does"):
        read(path)


def test_it_belongs_to_one_at_a_time(path):
    first = LogFile(path)
    with pytest.raises(LogbookError, match="belongs to a controller that is running"):
        LogFile(path)
    first.close()
    LogFile(path).close()


def test_it_belongs_to_one_after_a_new_beginning_too(path):
    log = LogFile(path)
    log.start()
    wait_until_saved(log, log.begin_anew([(Began(1), [])]))
    with pytest.raises(LogbookError):
        LogFile(path)
    log.close()


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_that_cannot_be_written_is_named(tmp_path):
    tmp_path.chmod(0o500)
    with pytest.raises(LogbookError, match="cannot be opened for writing"):
        LogFile(tmp_path / "logbook")


def test_a_place_that_cannot_be_a_file_is_named(path):
    path.mkdir(parents=True)
    with pytest.raises(LogbookError, match="cannot be opened for writing: Is a directory"):
        LogFile(path)


FULL = """
import resource, select, signal, sys
from pathlib import Path
from enginery.controller.log_file import LogFile
from enginery.core.logbook import Began, Bodies
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
log = LogFile(Path(sys.argv[1]))
log.start()
log.begin_anew([(Began(1), [])])
number = 0
while log.failure is None:
    number = log.put([(Bodies({b"f": bytes(10_000)}), [])])
    while log.saved < number and log.failure is None:
        select.select([log.wakeup], [], [], 20)
        log.wakeup.clear()
print(log.saved, log.failure.strerror)
"""


def test_a_full_disk_is_told_and_what_was_saved_is_there(path):
    said = subprocess.run(
        [sys.executable, "-c", FULL, str(path)], capture_output=True, text=True, check=True, timeout=60
    )
    saved, _, why = said.stdout.strip().partition(" ")
    assert why == "File too large"
    assert len(read(path).entries) == int(saved)


def test_it_grows_worth_a_new_beginning(path, monkeypatch):
    monkeypatch.setattr(room, "WORTH", 1000)
    log = LogFile(path)
    log.start()
    log.begin_anew([(Began(1), [])])
    assert not log.grown
    for at in range(20):
        log.put(page(at))
    assert log.grown
    log.begin_anew([(Began(1), [])])
    assert not log.grown
    log.close()


def test_a_new_beginning_on_a_full_disk_leaves_what_was_there(path, monkeypatch):
    write(path, 3)
    before = path.read_bytes()
    log = LogFile(path)
    write_there = room._write

    def write_some(fd, parts):
        write_there(fd, [b"".join(parts)[:20]])
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(room, "_write", write_some)
    log.start()
    wait_until_saved(log, log.begin_anew([(Began(9), [])]))
    assert log.failure.errno == errno.ENOSPC
    log.close()
    assert path.read_bytes() == before
    assert [each.name for each in path.parent.iterdir()] == ["logbook"]


def test_a_folder_where_nobody_makes_files_is_named():
    with pytest.raises(LogbookError, match=r"'/proc/logbook' cannot be opened for writing"):
        LogFile(Path("/proc/logbook"))
