"""The logbook's file: pages appended by a thread of its own, as many at once as have accumulated, and read back.

    magic, form | mark, length, checksum, page | mark, length, checksum, page | …

Rules of the room:

1. A page is safe once it is written and the system was told to put it on the disk. One such call serves all pages that
   came meanwhile: under load they grow, and when idle a single one is safe in a millisecond or so.
2. A page counts whole or not at all. What was being written when the lights went out has nothing behind it: it is cut off.
   Damage with whole pages behind it is no such thing, and nobody guesses: the file is refused, with the place and the words.
3. A file belongs to one controller at a time (a lock that ends with its process). Begun anew, it is written beside and put
   in its place in one step.

An append-only file and not a table: entries are written once, read once and never looked for, and leave as the bytes they
came as, at a tenth of the price of a row each.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import struct
import threading
import zlib
from typing import TYPE_CHECKING, Final

import msgspec

from enginery.core import logbook
from enginery.errors import LogbookError
from enginery.net.wakeup import Wakeup

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from enginery.core.logbook import Page
    from enginery.core.recall import Recall

log = logging.getLogger("enginery.controller")

MAGIC: Final = b"enginery logbook\n"
#: Version of the file's form; that of the entries is in the first of them.
FORM: Final = 1
_HEAD: Final = struct.Struct("<I")
#: With what every page begins, so that whole ones are found behind damage.
MARK: Final = b"\x89page\r\n\x1a"
_PAGE: Final = struct.Struct("<8sQI")
#: Bytes from which on it may be worth while to begin anew, and how many times the size it had then.
WORTH: Final = 64 << 20
GROWTH: Final = 4
_ENTRY: Final = struct.Struct("<II")
_sync: Final = getattr(os, "fdatasync", os.fsync)


class LogFile:
    """See ``controller.safe.Place``. ``put`` and its like belong to the loop's thread."""

    def __init__(self, path: Path) -> None:
        """Take the file at ``path`` over, or make it.

        Raises:
            LogbookError: It cannot be written, or belongs to a controller that is alive.
        """
        self.path = path
        self.saved = 0
        self.failure: OSError | None = None  #: why nothing is saved any more
        self.wakeup = Wakeup()  #: set when more is saved, or when there is a failure
        self._put = 0
        self._size = self._begun_with = 0
        self._queue: list[tuple[bool, list[bytes]]] = []
        self._changed = threading.Condition()
        self._is_closed = False
        self._file = self._open(path)
        self._thread = threading.Thread(target=self._run, name="enginery-logbook", daemon=True)

    def _open(self, path: Path) -> int:
        try:
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise LogbookError(f"The logbook {str(path)!r} cannot be opened for writing: {error.strerror}.") from error
        try:
            _lock(fd)
        except OSError as error:
            os.close(fd)
            msg = f"The logbook {str(path)!r} belongs to a controller that is running. Stop that one first."
            raise LogbookError(msg) from error
        return fd

    # --- reading ------------------------------------------------------------------------------------------------

    def read_into(self, recall: Recall) -> None:
        """Read every entry.

        Raises:
            LogbookError: The file is damaged, or of a later version.
        """
        size = os.fstat(self._file).st_size
        if not size:
            return
        with open(self.path, "rb") as file:
            data = memoryview(file.read())
        end = len(MAGIC) + _HEAD.size
        if len(data) < end or bytes(data[: len(MAGIC)]) != MAGIC:
            if not bytes(data).strip(b"\0"):
                return  # made, and never written
            raise self._damaged(0, "it does not begin as a logbook does")
        (form,) = _HEAD.unpack(data[len(MAGIC) : end])
        if form > FORM:
            raise LogbookError(
                f"The logbook {str(self.path)!r} is of form {form}, and this release reads {FORM} at most. Use the release "
                "that wrote it, or move it away to begin with nothing."
            )
        for page in self._pages(data, end):
            _read_page(page, recall, self.path)

    def _pages(self, data: memoryview, at: int) -> Iterator[memoryview]:
        while at < len(data):
            page = _page_at(data, at)
            if page is None:
                if _holds_page(data, at + 1):
                    raise self._damaged(at, "a page is not what was written")
                log.warning("the last %d bytes of %s were not written to the end; left out", len(data) - at, self.path)
                return
            yield page
            at += _PAGE.size + len(page)

    def _damaged(self, at: int, how: str) -> LogbookError:
        return LogbookError(
            f"The logbook {str(self.path)!r} is damaged at byte {at}: {how}. What it held cannot be told for certain. "
            "Restore it from a copy, or move it away to begin with nothing."
        )

    # --- writing ------------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Start the thread that writes."""
        self._thread.start()

    @property
    def grown(self) -> bool:
        """See ``Place``."""
        return self._size > max(WORTH, GROWTH * self._begun_with)

    def put(self, page: Page) -> int:
        """See ``Place``."""
        return self._hand_over(_packed(page), anew=False)

    def begin_anew(self, page: Page) -> int:
        """See ``Place``."""
        self._size = 0
        number = self._hand_over(_packed(page), anew=True)
        self._begun_with = self._size
        return number

    def _hand_over(self, packed: list[bytes], *, anew: bool) -> int:
        self._size += sum([len(part) for part in packed])
        with self._changed:
            self._queue.append((anew, packed))
            self._put += 1
            self._changed.notify()
        return self._put

    def flush(self) -> None:
        """Wait until everything that was put is saved, or cannot be."""
        with self._changed:
            self._changed.wait_for(lambda: self.saved == self._put or self.failure is not None)

    def close(self) -> None:
        """Save what was put, and let go of the file."""
        with self._changed:
            self._is_closed = True
            self._changed.notify()
        if self._thread.ident is not None:
            self._thread.join()
        os.close(self._file)

    # --- the thread that writes ---------------------------------------------------------------------------------

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: bool(self._queue) or self._is_closed)
                queue, self._queue = self._queue, []
            if not queue:
                return
            try:
                self._save(queue)
            except OSError as error:
                with self._changed:
                    self.failure = error
                    self._changed.notify_all()
                self.wakeup.set()
                return
            with self._changed:
                self.saved += len(queue)
                self._changed.notify_all()
            self.wakeup.set()

    def _save(self, queue: list[tuple[bool, list[bytes]]]) -> None:
        begin = max((at for at, (anew, _) in enumerate(queue) if anew), default=-1)
        parts = [part for _, packed in queue[max(begin, 0) :] for part in packed]
        if begin >= 0:
            self._replace(parts)
        else:
            _write(self._file, parts)
            _sync(self._file)

    def _replace(self, parts: list[bytes]) -> None:
        beside = self.path.with_name(self.path.name + ".new")
        fd = os.open(beside, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        try:
            _lock(fd)
            _write(fd, [MAGIC, _HEAD.pack(FORM), *parts])
            os.fsync(fd)
            beside.replace(self.path)
            _sync_folder(self.path.parent)
        except OSError:
            os.close(fd)
            with contextlib.suppress(OSError):
                beside.unlink()
            raise
        os.close(self._file)
        self._file = fd


def _packed(page: Page) -> list[bytes]:
    """A page as it stands in the file: each entry with the lengths of its frames before it."""
    body: list[bytes] = []
    for entry, frames in page:
        header = logbook.encode(entry)
        sizes = [len(frame) for frame in frames]  # type: ignore[arg-type]  # buffers all
        body.append(struct.pack(f"<II{len(sizes)}Q", len(header), len(sizes), *sizes))
        body.append(header)
        body += [bytes(frame) for frame in frames]  # type: ignore[call-overload]  # likewise
    checksum, length = 0, 0
    for part in body:
        checksum = zlib.crc32(part, checksum)
        length += len(part)
    return [_PAGE.pack(MARK, length, checksum), *body]


def _read_page(page: memoryview, recall: Recall, path: Path) -> None:
    at = 0
    while at < len(page):
        try:
            header_size, count = _ENTRY.unpack_from(page, at)
            sizes = struct.unpack_from(f"<{count}Q", page, at + _ENTRY.size)
            at += _ENTRY.size + 8 * count
            entry = logbook.decode(page[at : at + header_size])
        except (msgspec.MsgspecError, struct.error) as error:
            msg = f"The logbook {str(path)!r} holds what this release cannot read: {error}. Use the release that wrote it."
            raise LogbookError(msg) from error
        if isinstance(entry, logbook.Began) and entry.version > logbook.VERSION:
            raise LogbookError(
                f"The logbook {str(path)!r} is of version {entry.version}, and this release reads {logbook.VERSION} at "
                "most. Use the release that wrote it, or move it away to begin with nothing."
            )
        at += header_size
        frames: list[object] = []
        for size in sizes:
            frames.append(bytes(page[at : at + size]))
            at += size
        recall.read(entry, frames)


def _page_at(data: memoryview, at: int) -> memoryview | None:
    """The whole page that begins there, if one does."""
    if at + _PAGE.size > len(data):
        return None
    mark, length, checksum = _PAGE.unpack_from(data, at)
    page = data[at + _PAGE.size : at + _PAGE.size + length]
    return page if mark == MARK and len(page) == length and zlib.crc32(page) == checksum else None


def _holds_page(data: memoryview, at: int) -> bool:
    """Whether a whole page begins anywhere from there on."""
    raw = bytes(data)
    while (at := raw.find(MARK, at)) >= 0:
        if _page_at(data, at) is not None:
            return True
        at += 1
    return False


def _write(fd: int, parts: list[bytes]) -> None:
    data = memoryview(b"".join(parts))
    while data:
        data = data[os.write(fd, data) :]


def _lock(fd: int) -> None:
    try:
        import fcntl  # not everywhere
    except ImportError:
        return
    fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)


def _sync_folder(folder: Path) -> None:
    fd = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(fd)
    except OSError as error:
        if error.errno != errno.EINVAL:  # file systems without such a thing
            raise
    finally:
        os.close(fd)
