"""What tasks print: stdout and stderr cut into chunks, in program order, before the result of the task.

Rules of the room:

1. Text belongs to the task that runs when it is written, whoever writes it: a thread, C code, a subprocess. Text
   written while no task runs goes to the log.
2. Nobody who prints ever waits. Where text comes faster than it can be sent, it is dropped, and a line in its place says
   how much.
3. ``lock`` guards what is kept; what C code wrote (see ``engine.capture``) is read under it as well, so that what has
   been read has also been kept.
"""

from __future__ import annotations

import codecs
import io
import threading
from typing import TYPE_CHECKING, Any, Final, TextIO

from enginery.wire.messages import Output

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

#: Characters kept at most before they are sent.
CHUNK: Final = 16_384
#: Seconds that text may be kept while its task runs on.
DELAY: Final = 0.05
#: Characters and bytes on their way until output is dropped, and until it is kept again.
MOST: Final = 8 << 20
ENOUGH: Final = 2 << 20
#: Seconds in which C code could not have printed anything and kept it.
WORTH_FLUSHING: Final = 20e-6
#: Seconds in which nobody can call ``write`` of C and come back: it takes a system call that wakes another thread.
WORTH_LOOKING: Final = 6e-6
#: Stands for "no task runs".
IDLE: Final = -1
#: Kinds of output that are told however much waits: there is one of them for each task.
_ALWAYS: Final = frozenset({"result", "error"})


class Outputs:
    """What an engine says besides results, and the task that is running. Thread-safe."""

    def __init__(
        self,
        say: Callable[[Output], None],
        flush_soon: Callable[[float], None],
        *,
        logs: Mapping[str, TextIO],
        backlog: Callable[[], int] = lambda: 0,
    ) -> None:
        """``say`` hands a chunk on; ``flush_soon(seconds)`` has ``flush`` called and everything sent by then.

        ``logs`` take the text of each stream while no task runs; ``backlog`` tells how much is still on its way.
        """
        self.task = IDLE
        self.lock = threading.RLock()
        self.logs = dict(logs)
        #: whether C code or a subprocess has written something that was not read yet (an epoll's ``poll``: to be
        #: called with 0 seconds and 1 event), and what reads it
        self.unread: Callable[[float, int], object] = _nothing
        self.read: Callable[[], None] = lambda: None
        #: something is just being read; falls after it was kept
        self.is_reading = False
        #: somebody has written past Python while a task ran
        self.is_wary = False
        #: makes C code write what it has kept; may wait until that is read, so not under the lock
        self.flush_c: Callable[[], object] = lambda: None
        self._say = say
        self._flush_soon = flush_soon
        self._backlog = backlog
        self._kind = ""
        self._parts: list[str] = []
        self._size = 0
        #: the stream whose line was begun and not ended yet: nobody else's text is looked for until it ends
        self._within = ""
        self._is_dropping = False
        self._dropped: dict[str, int] = {}

    def write(self, kind: str, text: str) -> None:
        """Take text that Python code writes, after all that was written before it."""
        # Hot: print() comes here four times for a line. Bench: a million lines.
        with self.lock:
            if self._within == kind and self._size < CHUNK:
                self._parts.append(text)
                self._size += len(text)
            else:
                if self.unread(0, 1):
                    self.read()
                self.add(kind, text)
            if text[-1] == "\n":
                self._within = ""

    def add(self, kind: str, text: str) -> None:
        """Keep text of the running task; without one, log it. Under the lock."""
        if self.task < 0:
            self._log(kind, text)
            return
        if kind != self._kind:
            self._hand_on()
            self._kind = kind
        first = not self._parts
        self._parts.append(text)
        self._size += len(text)
        if self._size >= CHUNK:
            self._hand_on()
            self._flush_soon(0.0)
        else:
            self._within = kind
            if first:
                self._flush_soon(DELAY)

    def overheard(self, kind: str, text: str) -> None:
        """Keep text that somebody wrote past Python. Under the lock."""
        self.is_wary = self.is_wary or self.task >= 0
        self.add(kind, text)
        # Whoever wrote it may write more: Python's next words have to look again.
        self._within = ""

    def flush(self) -> None:
        """Hand on what is kept."""
        if self._parts:
            with self.lock:
                self._hand_on()

    def show(self, kind: str, data: bytes, text: str = "") -> None:
        """Hand on something that is more than text, after the text before it. Without a task nothing is done."""
        with self.lock:
            if self.unread(0, 1):
                self.read()
            self._hand_on()
            if self.task >= 0 and (kind in _ALWAYS or self._has_room(kind, 1)):
                self._say(Output(self.task, kind, text, data))
                self._flush_soon(DELAY)

    def end(self, seconds: float = 1.0, *, sure: bool = True) -> None:
        """The task ends after so many seconds: hand on everything it has said. The caller changes ``task`` then.

        Where ``sure`` is false, another call follows within a millisecond: then what C code wrote in so short a time that
        it hardly can have is left to that one, unless C code is known to write.
        """
        # Hot: once per task. Bench: no-op tasks.
        if seconds > WORTH_FLUSHING:
            self.flush_c()
        elif not sure and seconds < WORTH_LOOKING and not self.is_wary:
            if self.is_reading or self._parts or self._dropped:
                self._end()
            return
        # In this order: what was unread is being read next, and then it is kept.
        if self.unread(0, 1) or self.is_reading or self._parts or self._dropped:
            self._end()

    def _end(self) -> None:
        with self.lock:
            if self.unread(0, 1):
                self.read()
            self._hand_on()
            if self._dropped:
                self._tell_dropped()

    def divert(self, task: int, say: Callable[[Output], None]) -> Callable[[], None]:
        """Have everything go to ``say`` instead, as output of ``task``. Returns what puts it back."""
        with self.lock:
            before = self.task, self._say, self._backlog
            self._hand_on()
            self.task, self._say, self._backlog = task, say, lambda: 0

        def back() -> None:
            self.end()
            with self.lock:
                self.task, self._say, self._backlog = before

        return back

    def end_in_child(self) -> None:
        """In a forked child: the connection is the parent's, and so is what is kept here.

        New text goes to the descriptors, through which it reaches the parent where those are captured.
        """
        self.lock = threading.RLock()
        self.task = IDLE
        self.unread = _nothing
        self._parts, self._size, self._within, self._dropped = [], 0, "", {}
        self.logs = {"stdout": _on_descriptor(1), "stderr": _on_descriptor(2)}

    # --- under the lock -----------------------------------------------------------------------------------------

    def _hand_on(self) -> None:
        parts, self._parts, self._size, self._within = self._parts, [], 0, ""
        if not parts:
            return
        text = "".join(parts)
        if not text.isascii():
            # Names of files may hold what is no character at all, and no message either.
            text = text.encode("utf-8", "backslashreplace").decode("utf-8")
        if self.task < 0:
            self._log(self._kind, text)
        elif self._has_room(self._kind, len(text)):
            self._say(Output(self.task, self._kind, text))

    def _has_room(self, kind: str, size: int) -> bool:
        """Whether output can be handed on; if not, it counts as dropped."""
        waiting = self._backlog()
        if waiting > (ENOUGH if self._is_dropping else MOST):
            self._is_dropping = True
            self._dropped[kind] = self._dropped.get(kind, 0) + size
            return False
        if self._dropped:
            self._tell_dropped()
        return True

    def _tell_dropped(self) -> None:
        self._is_dropping = False
        dropped, self._dropped = self._dropped, {}
        for kind, count in dropped.items():
            is_text = kind in {"stdout", "stderr"}
            what = f"{count:,} characters of {kind}" if is_text else f"{count:,} outputs of the kind {kind!r}"
            line = f"\n[{what} were dropped here: they came faster than they could be sent]\n"
            self._say(Output(self.task, kind if is_text else "stderr", line))

    def _log(self, kind: str, text: str) -> None:
        try:
            self.logs[kind].write(text)
        except (OSError, ValueError):
            pass  # the log is gone, full or closed: no reason to end what prints


class Stream(io.TextIOBase):
    """What ``sys.stdout`` and ``sys.stderr`` are in an engine."""

    def __init__(self, kind: str, outputs: Outputs, descriptor: int) -> None:
        """``descriptor`` is where C code and subprocesses write the same stream to."""
        super().__init__()
        self._kind = kind
        self._outputs = outputs
        self._descriptor = descriptor
        #: as of every stream of text: takes bytes
        self.buffer = _Bytes(self)

    @property
    def encoding(self) -> str:  # type: ignore[override]  # typeshed has a plain attribute here
        """Text leaves as UTF-8."""
        return "utf-8"

    @property
    def errors(self) -> str:  # type: ignore[override]  # likewise
        """What UTF-8 cannot say is written as escapes."""
        return "backslashreplace"

    @property
    def name(self) -> str:
        """As the streams of a plain interpreter are named."""
        return f"<{self._kind}>"

    def writable(self) -> bool:
        """Yes."""
        return True

    def fileno(self) -> int:
        """Where programs write that are to share this stream."""
        return self._descriptor

    def isatty(self) -> bool:
        """No."""
        return False

    def write(self, text: Any) -> int:
        """Send text to the client whose task runs."""
        if not isinstance(text, str):
            msg = f"write() argument must be str, not {type(text).__name__}"
            raise TypeError(msg)
        if text:
            self._outputs.write(self._kind, text)
        return len(text)

    def flush(self) -> None:
        """Hand on what is kept."""
        self._outputs.flush()
        if self._outputs.task < 0:
            try:
                self._outputs.logs[self._kind].flush()
            except (OSError, ValueError):
                pass  # as in writing to it


class _Bytes(io.BufferedIOBase):
    """A stream for those who write bytes: they count as UTF-8."""

    def __init__(self, stream: Stream) -> None:
        super().__init__()
        self._stream = stream
        self._decode = codecs.getincrementaldecoder("utf-8")("replace").decode

    def writable(self) -> bool:
        """Yes."""
        return True

    def fileno(self) -> int:
        """As of the stream of text."""
        return self._stream.fileno()

    def write(self, data: Any) -> int:
        """Send bytes; parts of a character wait for the rest."""
        self._stream.write(self._decode(data))
        return memoryview(data).nbytes

    def flush(self) -> None:
        """As of the stream of text."""
        self._stream.flush()


def _nothing(_timeout: float, _events: int) -> object:
    return ()


def _on_descriptor(descriptor: int) -> TextIO:
    return open(descriptor, "w", buffering=1, encoding="utf-8", errors="backslashreplace", closefd=False)
