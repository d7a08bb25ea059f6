"""Logbooks of every version there has been are read; those of a later one are refused.

``logbooks/version-N`` were written by the releases that had that version, and are never made anew: what is promised by
them has to be kept. A change to the structs of ``core/logbook``, or to what they hold of ``wire/messages``, that has one
of these read otherwise needs another version, and words for how the older one is understood.
"""

from __future__ import annotations

import shutil
import struct
import zlib
from pathlib import Path

import msgspec
import pytest

from enginery.controller import log_file as room
from enginery.controller.log_file import LogFile
from enginery.core import logbook as book
from enginery.errors import LogbookError
from enginery.wire.messages import CLIENT_SHIFT, Dependency, EngineInfo, Fault, Options, Output, Result, Status, Task
from logbook_reader import Reader

OLD = Path(__file__).parent / "logbooks"
#: The first task of client 1.
FIRST = 1 << CLIENT_SHIFT
OPTIONS = Options(
    [0, 1], Dependency([5, 6]), Dependency([7], False, False, True), 2.5, 3, "sweep", 4, 60.0, True, ["a"], [9]
)
FAULT = Fault("remote", "ValueError", "no", "Traceback")
#: All that a logbook of version 1 says, in order.
VERSION_1 = [
    (book.Began(3), []),
    (book.Joined(1, "me@here", "session", "token", 12, [(3, 4)], b"", [8]), []),
    (book.Joined(2, "you@here", "night.1", "other"), []),
    (book.Bodies({b"digest": b"body"}), []),
    (book.Came(EngineInfo(0, "uuid-0", 4711, "node7", "set")), []),
    (book.Came(EngineInfo(1, "uuid-1", 4712, "node7")), []),
    (
        book.Accepted([Task(FIRST, 0, b"digest", b"payload", 2, OPTIONS), Task(FIRST + 1, 1, b"", b"")]),
        [b"one", b"two"],
    ),
    (book.Accepted([Task(FIRST + 2, 0, b"digest", b"x"), Task(FIRST + 3, 0, b"", b"y")], [0, 1]), []),
    (book.Submitted([(FIRST, 1e9), (FIRST + 2, 1e9 + 0.5)]), []),
    (book.Given(0, [FIRST, FIRST + 1]), []),
    (book.Returned([FIRST + 1]), []),
    (book.Tried(FIRST, 2, 1, [0], [1], ["node7 died"], False, True), []),
    (
        book.Ended(0, [Result(FIRST + 1, Status.OK, b"value", 1, 1.0, 2.0), Result(FIRST + 2, 1, b"", fault=FAULT)]),
        [b"frame"],
    ),
    (book.Taken([FIRST + 2]), []),
    (book.Keeps(1, {FIRST + 3: 1000}), []),
    (book.Forgot([FIRST + 3]), []),
    (book.Overtaken(1), []),
    (book.Left(1), []),
    (book.Gone(2, "you@here", "night.1"), []),
]
#: All that a logbook of version 2 says: what came before, and what is told of records.
VERSION_2 = [
    (book.Began(3, 2), []),
    *VERSION_1[1:],
    (book.Heard([Output(FIRST, "stdout", "hello"), Output(FIRST, "display", "", b"data")]), []),
    (book.Recorded([FIRST + 1]), []),
    (book.Accepted([Task(FIRST + 5, 0, b"digest", b"x")]), []),
    (book.Ended(0, [Result(FIRST + 5, Status.OK, b"value")]), []),
    (book.Recorded(), []),
    (
        book.Owed(
            EngineInfo(0, "uuid-0", 4711, "node7", "set"),
            [Task(FIRST + 7, 0, b"digest", b"payload", 1), None],
            [Result(FIRST + 7, Status.OK, b"value", 2, 1.0, 2.0), Result(FIRST + 8, 1, b"", fault=FAULT)],
            [FIRST + 7],
            [Output(FIRST + 7, "stdout", "hello")],
        ),
        [b"argument", b"one", b"two"],
    ),
]
#: As entries were when version 1 was new: without what was added since.
EARLY = [{"type": "began", "epoch": 5}, {"type": "gone", "client": 7}, {"type": "client", "number": 4, "name": "a", "session": "b", "token": "c"}]  # fmt: skip


def read(path, **given):
    log = LogFile(path)
    reader = Reader(**given)
    try:
        log.read_into(reader)
    finally:
        log.close()
    return reader


def write_raw(path, *headers):
    """A logbook of one page with entries that are encoded already."""
    body = b"".join(struct.pack("<II", len(header), 0) + header for header in headers)
    page = room._PAGE.pack(room.MARK, len(body), zlib.crc32(body)) + body
    path.write_bytes(room.MAGIC + room._HEAD.pack(room.FORM) + page)


def test_version_1_is_read(tmp_path):
    path = tmp_path / "logbook"
    shutil.copy(OLD / "version-1", path)
    reader = read(path)
    assert reader.entries == VERSION_1
    assert (reader.epoch, sorted(reader.tasks), sorted(reader.unheard)) == (3, [FIRST, FIRST + 3], [FIRST + 1])
    for records_last in (True, False):  # it does not tell what was recorded
        assert sorted(read(path, records_last=records_last).unrecorded) == [FIRST + 1]


def test_version_2_is_read(tmp_path):
    path = tmp_path / "logbook"
    shutil.copy(OLD / "version-2", path)
    reader = read(path, records_last=True)
    assert reader.entries == VERSION_2
    assert (reader.epoch, sorted(reader.tasks), sorted(reader.unheard)) == (
        3,
        [FIRST, FIRST + 3],
        [FIRST + 1, FIRST + 5],
    )
    assert sorted(reader.unrecorded) == [FIRST + 7, FIRST + 8]
    owed = reader.unrecorded[FIRST + 7]
    assert (owed.frames, owed.result_frames, owed.direct, owed.engine.uuid) == (
        [b"argument"],
        [b"one", b"two"],
        True,
        "uuid-0",
    )
    assert [output.text for output in owed.said] == ["hello"]
    assert [output.kind for output in reader.said[FIRST]] == ["stdout", "display"]


def test_every_kind_of_entry_is_in_the_newest(tmp_path):
    """So that whoever adds one, or raises the version, adds a file."""
    newest = OLD / f"version-{book.VERSION}"
    shutil.copy(newest, tmp_path / "logbook")
    assert {type(entry) for entry, _ in read(tmp_path / "logbook").entries} == set(book.Entry.__args__)


def test_entries_without_what_was_added_since_are_read(tmp_path):
    write_raw(tmp_path / "logbook", *(msgspec.msgpack.encode(entry) for entry in EARLY))
    assert [entry for entry, _ in read(tmp_path / "logbook").entries] == [
        book.Began(5),
        book.Gone(7),
        book.Joined(4, "a", "b", "c"),
    ]


def test_what_is_read_is_written_anew_in_todays_version(tmp_path):
    path = tmp_path / "logbook"
    shutil.copy(OLD / "version-1", path)
    log = LogFile(path)
    log.start()
    log.begin_anew([(book.Began(4, book.VERSION), [])])
    log.close()
    assert read(path).entries == [(book.Began(4, book.VERSION), [])]


@pytest.mark.parametrize(
    ("entry", "words"),
    [
        (
            {"type": "began", "epoch": 1, "version": book.VERSION + 1},
            f"of version {book.VERSION + 1}, and this release",
        ),
        ({"type": "promised", "epoch": 1}, "holds what this release cannot read"),
    ],
)
def test_a_later_version_is_refused_and_left_as_it_is(tmp_path, entry, words):
    path = tmp_path / "logbook"
    write_raw(path, msgspec.msgpack.encode(entry))
    before = path.read_bytes()
    with pytest.raises(LogbookError, match=rf"logbook.*{words}.*Use the release that wrote it"):
        read(path)
    assert path.read_bytes() == before
