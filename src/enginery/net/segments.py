"""Buffers in shared memory: files on tmpfs that one process writes once and others map. Files and memory only.

Rules of the room:

1. Whoever reads a segment holds a shared lock on its file as long as it is mapped, and so does an owner that has it
   reserved. The kernel drops the lock with the last reference to the mapping, and with the process, so nothing has to be
   cleaned up after a crash.
2. The owner writes into a file again only when it is not in flight and an exclusive lock shows that nobody reads it.
   It gets a new name first: who comes too late finds nothing, rather than something else.
3. Mappings of readers are private: arrays built on them can be written, and the writes are nobody else's.
4. Memory that has been touched takes a third of the time of memory that is fresh, so owners use segments again.
5. Nothing here waits, and running out of room is an answer (None), not an error.
"""

from __future__ import annotations

import contextlib
import itertools
import logging
import mmap
import os
import re
import sys
import threading
from collections import deque
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING, Final
from weakref import WeakSet

if sys.platform == "linux":
    import fcntl
    import resource

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

log = logging.getLogger("enginery.net")

#: Bytes one owner may have in segments, used and unused.
BUDGET: Final = 2 << 30
#: Seconds after which a segment nobody needs is given back to the system.
IDLE: Final = 30.0
#: Segments that are tried before a new one is made: those readers still hold cost a system call each.
TRIES: Final = 4
#: Bytes copied at once; between two such portions other threads get their turn.
PORTION: Final = 16 << 20
FOREVER: Final = float("inf")

_NAME: Final = re.compile(r"[a-z]+\d+-\d+")
_mappings: WeakSet[mmap.mmap] = WeakSet()


class _Segment:
    """A file of the owner's, mapped for writing."""

    __slots__ = ("fd", "name", "size", "until", "view")

    def __init__(self, name: str, fd: int, size: int, view: memoryview) -> None:
        self.name = name
        self.fd = fd
        self.size = size
        self.view = view
        self.until = 0.0  #: lent: when the lease is over; else: since when it is free

    def __del__(self) -> None:
        os.close(self.fd)


class Pool:
    """The segments of one owner. Thread-safe; of no effect in a forked child."""

    def __init__(
        self, folder: str, prefix: str, *, budget: int | None = None, clock: Callable[[], float] = monotonic
    ) -> None:
        """``folder`` is empty where there is no shared memory. ``prefix`` tells the owner: letters and a number."""
        self.budget = budget if budget is not None else min(BUDGET, _free_bytes(folder) // 2)
        self.size = 0  #: bytes of all segments
        self._folder = folder
        self._prefix = prefix
        self._clock = clock
        self._count = 0
        self._numbers = itertools.count(1)
        self._lock = threading.Lock()
        self._lent: dict[str, _Segment] = {}
        self._free: deque[_Segment] = deque()  #: those longest free, or found busy longest ago, come first
        self.closed = not (folder and os.access(folder, os.W_OK | os.X_OK))  #: nothing can be put here
        self._complained = False
        self._pid = os.getpid()

    def put(self, data: memoryview, lease: float = FOREVER) -> str | None:
        """Copy flat bytes into a segment and return its name, or None if there is no room.

        The segment stays as it is until ``release``, or for ``lease`` seconds, and then while somebody reads it.
        """
        segment = self._take(data.nbytes)
        if segment is None:
            return None
        try:
            for at in range(0, data.nbytes, PORTION):
                portion = data[at : at + PORTION]
                segment.view[at : at + portion.nbytes] = portion
        except BaseException:  # Ctrl-C between two portions, above all
            with self._lock:
                self._drop(segment)
            raise
        return self._lend(segment, lease)

    def reserve(self, size: int) -> tuple[str, memoryview] | None:
        """A segment that the caller writes, bit by bit: its name, and so many bytes of it. None if there is no room.

        It stays until ``release``, and ``remove_abandoned`` leaves it alone.
        """
        segment = self._take(size)
        if segment is None:
            return None
        with contextlib.suppress(OSError):  # by an earlier name, somebody just looks whether it is abandoned
            fcntl.flock(segment.fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
        return self._lend(segment, FOREVER), segment.view[:size]

    def _lend(self, segment: _Segment, lease: float) -> str:
        segment.until = self._clock() + lease
        with self._lock:
            self._lent[segment.name] = segment
        return segment.name

    def release(self, names: Iterable[str]) -> None:
        """Whoever shall read these segments does so already, or has done. Unknown names do not matter."""
        now = self._clock()
        with self._lock:
            for name in names:
                segment = self._lent.pop(name, None)
                if segment is not None:
                    segment.until = now
                    self._free.append(segment)

    def trim(self) -> None:
        """Give segments back that have been of no use for a while. To be called now and then."""
        if not self._count:
            return
        with self._lock:
            now = self._clock()
            self._end_leases(now)
            for segment in [each for each in self._free if each.until + IDLE <= now]:
                self._free.remove(segment)
                self._drop(segment)

    def close(self) -> None:
        """Give free segments back. Those in flight are left to whoever removes the folder."""
        if os.getpid() != self._pid:
            return
        with self._lock:
            self.closed = True
            while self._free:
                self._drop(self._free.popleft())
            self._lent.clear()

    # --- under the lock, but for `_take` and `_make` --------------------------------------------------------------

    def _take(self, size: int) -> _Segment | None:
        if self.closed or os.getpid() != self._pid:
            return None
        whole = _rounded(size)
        with self._lock:
            self._end_leases(self._clock())
            segment = self._reuse(size)
            if segment is not None:
                return segment
            if not self._make_room(whole):
                self._complain(f"{self.size + whole} bytes in {self._count + 1} segments would be too many")
                return None
            self.size += whole
            self._count += 1
        try:
            return self._make(whole)
        except BaseException as error:
            with self._lock:
                self.size -= whole
                self._count -= 1
                if not isinstance(error, OSError):
                    raise
                self._complain(str(error))
            return None

    def _end_leases(self, now: float) -> None:
        while self._lent:  # equal leases, so those that end first were given first
            segment = next(iter(self._lent.values()))
            if segment.until > now:
                break
            del self._lent[segment.name]
            segment.until = now
            self._free.append(segment)

    def _reuse(self, size: int) -> _Segment | None:
        fitting = (each for each in tuple(self._free) if size <= each.size <= 2 * size)
        for segment in itertools.islice(fitting, TRIES):
            self._free.remove(segment)
            free = self._claim(segment)
            if free:
                return segment
            if free is None:
                self._drop(segment)
            else:
                self._free.append(segment)
        return None

    def _claim(self, segment: _Segment) -> bool | None:
        """Give a segment its next name, unless somebody reads it (False) or it is gone (None)."""
        name = self._next_name()
        try:
            fcntl.flock(segment.fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            try:
                os.rename(f"{self._folder}/{segment.name}", f"{self._folder}/{name}")  # noqa: PTH104 - once per buffer
                segment.name = name
            finally:
                fcntl.flock(segment.fd, fcntl.LOCK_UN)
        except BlockingIOError:
            return False
        except OSError:
            return None
        return True

    def _make_room(self, size: int) -> bool:
        while not (fits := self._fits(size)) and self._free:
            self._drop(self._free.popleft())
        return fits

    def _fits(self, size: int) -> bool:
        within = self.size + size <= self.budget and self._count < MOST_SEGMENTS
        return within and size <= _free_bytes(self._folder) // 2

    def _make(self, size: int) -> _Segment:
        name = self._next_name()
        path = f"{self._folder}/{name}"
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            # All pages now: a tmpfs that is full is an error here, and SIGBUS when a page is touched later.
            os.posix_fallocate(fd, 0, size)
            mapped = mmap.mmap(fd, size, flags=mmap.MAP_SHARED | mmap.MAP_POPULATE)
        except BaseException:
            os.close(fd)
            Path(path).unlink(missing_ok=True)
            raise
        return _Segment(name, fd, size, memoryview(mapped))

    def _drop(self, segment: _Segment) -> None:
        """Give a segment back. Readers keep what they have mapped."""
        self.size -= segment.size
        self._count -= 1
        segment.view.release()
        Path(self._folder, segment.name).unlink(missing_ok=True)

    def _next_name(self) -> str:
        return f"{self._prefix}-{next(self._numbers)}"

    def _complain(self, why: str) -> None:
        if not self._complained:
            self._complained = True
            log.warning("no room in shared memory (%s): large buffers take the slower way through sockets", why)


def read_segment(folder: str, name: str, size: int) -> memoryview:
    """Map a segment and hold it for as long as the view, or anything built on it, is alive.

    The view can be written; what is written is seen here only. Raises OSError if the segment is not there.
    """
    if not folder or not _NAME.fullmatch(name):
        msg = f"Data in shared memory (segment {name!r}) were announced, but there is no shared memory here."
        raise OSError(msg)
    path = f"{folder}/{name}"
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
        try:
            fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
            os.stat(path)  # noqa: PTH116 - once per buffer. Still its name? Else it was used again before the lock.
            return _map(fd, size)
        finally:
            os.close(fd)  # the mapping has a duplicate of its own, and with it the lock
    except (OSError, ValueError) as error:  # ValueError: the file is shorter than the mapping
        msg = f"Data in shared memory ({path}, {size} bytes) could not be read: {error}."
        raise OSError(msg) from error


def remove_abandoned(path: Path) -> None:
    """Remove a segment that nobody reads, and whose owner has not reserved it or is gone. Never raises."""
    try:
        fd = os.open(path, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            path.unlink(missing_ok=True)
        finally:
            os.close(fd)
    except OSError:
        pass  # it is needed, or gone


def _map(fd: int, size: int) -> memoryview:
    if len(_mappings) >= MOST_MAPPINGS:
        return _copy_of(fd, size)
    mapped = mmap.mmap(fd, size, flags=mmap.MAP_PRIVATE, prot=mmap.PROT_READ | mmap.PROT_WRITE)
    _mappings.add(mapped)
    return memoryview(mapped)


def _copy_of(fd: int, size: int) -> memoryview:
    """What a mapping would show, in memory of our own: each mapping takes a descriptor, and they run out."""
    copy = memoryview(mmap.mmap(-1, size))
    at = 0
    while at < size:
        count = os.preadv(fd, [copy[at:]], at)
        if not count:
            msg = f"it has only {at} bytes"
            raise ValueError(msg)
        at += count
    return copy


def _rounded(size: int) -> int:
    """The next larger one of eight sizes between two powers of two, so that segments fit again."""
    step = max(1 << max((size - 1).bit_length() - 4, 0), mmap.PAGESIZE)
    return -(-size // step) * step


def _free_bytes(folder: str) -> int:
    if not folder:
        return 0
    try:
        status = os.statvfs(folder)
    except OSError:
        return 0
    return status.f_bavail * status.f_frsize


def _descriptors() -> int:
    """How many descriptors this process may have open."""
    if sys.platform != "linux":
        return 0
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    return sys.maxsize if most == resource.RLIM_INFINITY else most


#: Segments of one owner, each of which takes two descriptors.
MOST_SEGMENTS: Final = min(1024, _descriptors() // 8)
#: Mappings of one reader, each of which takes one.
MOST_MAPPINGS: Final = min(1024, _descriptors() // 4)
