"""What C code and subprocesses write to descriptors 1 and 2: read from pipes and put among the output of the task.

Linux only. Elsewhere they write where the engine's own standard streams lead, its log.

Rules of the room:

1. The pipes are read under the lock of ``Outputs``, by a thread that waits for them and by the main thread: before Python
   code writes and when a task ends, so that order holds and nothing comes after the result.
2. Looking whether there is something to be read costs 0.3 µs (a poll of an epoll), which each task and each write pays.
3. C code that holds the interpreter keeps both threads from reading. Then the pipe fills, and whoever holds the other
   ends of ``descriptors`` has to empty it, lest both wait for ever: see ``engine.spill``.
"""

from __future__ import annotations

import codecs
import contextlib
import ctypes
import io
import os
import select
import sys
import threading
from typing import TYPE_CHECKING, Any, Final, NamedTuple, TextIO

from enginery.engine.last_words import LastWords

if sys.platform == "linux":  # elsewhere this file can be imported, and that is all
    import fcntl

if TYPE_CHECKING:
    from collections.abc import Callable

    from enginery.engine.output import Outputs

#: Bytes that a pipe shall hold, as far as the system allows.
CAPACITY: Final = 1 << 20
#: Bytes read at once, and in one go, so that a subprocess which never stops does not keep a task from ending.
BLOCK: Final = 1 << 16
GO: Final = CAPACITY + BLOCK
KINDS: Final = ("stdout", "stderr")
_LINE_BUFFERED: Final = 1  # _IOLBF of glibc and musl


class Pipes(NamedTuple):
    """Reading and writing ends for both streams, and what was read last."""

    reading: tuple[int, int]
    writing: tuple[int, int]
    words: LastWords

    def close(self) -> None:
        """Let go of all of them."""
        for descriptor in (*self.reading, *self.writing):
            os.close(descriptor)


class Inherited:
    """What a forked engine has from its host."""

    pipes: Pipes | None = None


#: Of this process.
INHERITED: Final = Inherited()


def can_capture() -> bool:
    """Whether this system has what it takes, and this process the streams."""
    if not sys.platform.startswith("linux"):
        return False
    try:
        os.fstat(1)
        os.fstat(2)
    except OSError:
        return False
    return True


def make_pipes() -> Pipes:
    """Pipes for both streams. Raises OSError if there are no descriptors left."""
    pairs = [os.pipe(), os.pipe()]
    for reading, _ in pairs:
        os.set_blocking(reading, False)
        with contextlib.suppress(OSError):  # beyond what this user may have; then it keeps its usual size
            fcntl.fcntl(reading, fcntl.F_SETPIPE_SZ, CAPACITY)
    return Pipes((pairs[0][0], pairs[1][0]), (pairs[0][1], pairs[1][1]), LastWords())


class Capture:
    """Takes descriptors 1 and 2 over until it is closed. ``logs`` lead where they led before."""

    def __init__(self) -> None:
        pipes = INHERITED.pipes or make_pipes()
        for stream in (sys.__stdout__, sys.__stderr__):
            if stream is not None:
                with contextlib.suppress(OSError):  # the disk behind it is full: what it held is lost
                    stream.flush()
        self._before = os.dup(1), os.dup(2)
        self.logs: dict[str, TextIO] = {
            kind: open(before, "w", buffering=1, encoding="utf-8", errors="backslashreplace", closefd=False)  # noqa: SIM115
            for kind, before in zip(KINDS, self._before, strict=True)
        }
        for number, writing in enumerate(pipes.writing, 1):
            os.dup2(writing, number)
            os.close(writing)
        self._pipes = pipes
        self._flush_c = _c_streams()
        for stream in (sys.__stdout__, sys.__stderr__):
            if isinstance(stream, io.TextIOWrapper):
                # Nobody flushes these at the end of a task.
                stream.reconfigure(line_buffering=True)

    def start(self, outputs: Outputs) -> None:
        """Have what comes out of the pipes put among ``outputs``."""
        reader = _Reader(outputs, self._pipes)
        outputs.read, outputs.unread, outputs.flush_c = reader.read, reader.watch.poll, self._flush_c
        threading.Thread(target=reader.attend, name="enginery-engine-output", daemon=True).start()

    def close(self) -> None:
        """Put the descriptors back as they were."""
        for number, before in enumerate(self._before, 1):
            os.dup2(before, number)


class _Reader:
    """Reads both pipes."""

    def __init__(self, outputs: Outputs, pipes: Pipes) -> None:
        self.watch = select.epoll(sizehint=2)
        self._outputs = outputs
        self._words = pipes.words
        decoders = [codecs.getincrementaldecoder("utf-8")("replace") for _ in KINDS]
        self._pipes = list(zip(KINDS, pipes.reading, decoders, strict=True))
        for descriptor in pipes.reading:
            self.watch.register(descriptor, select.EPOLLIN)

    def attend(self) -> None:
        """Read whenever there is something, for ever: the thread ends with the process."""
        while self._pipes:
            self.watch.poll()
            with self._outputs.lock:
                self.read()

    def read(self) -> None:
        """Read what is there now, up to the size of one go. Under the lock."""
        self._outputs.is_reading = True
        try:
            self._read()
        finally:
            self._outputs.is_reading = False

    def _read(self) -> None:
        for pipe in tuple(self._pipes):
            kind, descriptor, decoder = pipe
            for _ in range(GO // BLOCK):
                try:
                    data = os.read(descriptor, BLOCK)
                except BlockingIOError:
                    break
                if not data:
                    # User code has closed the descriptor that led here: from now on this would be readable for ever.
                    self.watch.unregister(descriptor)
                    self._pipes.remove(pipe)
                    break
                if self._outputs.task >= 0:
                    self._words.keep(self._outputs.task, data)
                if text := decoder.decode(data):
                    self._outputs.overheard(kind, text)
                if len(data) < BLOCK:
                    break


def _c_streams() -> Callable[[], object]:
    """Have C's stdout write line by line, as to a terminal. Returns what makes it write the beginning of a line, too."""
    try:
        library = ctypes.CDLL(None)
        stdout = ctypes.c_void_p.in_dll(library, "stdout")
        library.setvbuf(stdout, None, _LINE_BUFFERED, 0)
    except (OSError, ValueError, AttributeError):  # a C library that hides them
        return lambda: None
    flush: Any = library.fflush

    def flush_c() -> object:
        return flush(stdout)

    return flush_c
