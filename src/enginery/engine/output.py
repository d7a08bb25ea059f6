"""What tasks print: stdout and stderr cut into chunks, in program order, before the result of the task.

Text written while no task runs goes where it went before, usually the engine's log file.
"""

from __future__ import annotations

import io
import threading
from typing import TYPE_CHECKING, Any, Final, TextIO

from enginery.wire.messages import Output

if TYPE_CHECKING:
    from collections.abc import Callable

#: Characters kept at most before they are sent.
CHUNK: Final = 16_384
#: Seconds that text may be kept while its task runs on.
DELAY: Final = 0.05


class Outputs:
    """The two streams of an engine, and the task that is running. Thread-safe."""

    def __init__(self, say: Callable[[Output], None], flush_soon: Callable[[float], None]) -> None:
        """``say`` hands a chunk on; ``flush_soon(seconds)`` has ``flush`` called and everything sent by then."""
        self.task = -1
        self._say = say
        self._flush_soon = flush_soon
        self._lock = threading.RLock()
        self._kind = ""
        self._parts: list[str] = []
        self._size = 0

    def write(self, kind: str, text: str) -> bool:
        """Keep text of the running task. False if none runs."""
        with self._lock:
            if self.task < 0:
                return False
            if kind != self._kind:
                self.flush()
                self._kind = kind
            first = not self._parts
            self._parts.append(text)
            self._size += len(text)
            if self._size >= CHUNK:
                self.flush()
                self._flush_soon(0.0)
            elif first:
                self._flush_soon(DELAY)
        return True

    def flush(self) -> None:
        """Hand on what is kept."""
        if not self._parts:
            return
        with self._lock:
            parts, self._parts, self._size = self._parts, [], 0
            if parts and self.task >= 0:
                self._say(Output(self.task, self._kind, "".join(parts)))

    def show(self, kind: str, data: bytes) -> None:
        """Hand on something that is not text, after the text before it."""
        with self._lock:
            self.flush()
            if self.task >= 0:
                self._say(Output(self.task, kind, data=data))


class Stream(io.TextIOBase):
    """What ``sys.stdout`` and ``sys.stderr`` are in an engine."""

    def __init__(self, kind: str, outputs: Outputs, fallback: TextIO) -> None:
        super().__init__()
        self._kind = kind
        self._outputs = outputs
        self._fallback = fallback

    @property
    def encoding(self) -> str:  # type: ignore[override]  # typeshed has a plain attribute here
        """Text leaves as UTF-8."""
        return "utf-8"

    @property
    def name(self) -> str:
        """As the streams of a plain interpreter are named."""
        return f"<{self._kind}>"

    def writable(self) -> bool:
        """Yes."""
        return True

    def fileno(self) -> int:
        """Of the stream behind this one: what writes there directly (C code) reaches the log file."""
        return self._fallback.fileno()

    def isatty(self) -> bool:
        """No."""
        return False

    def write(self, text: Any) -> int:
        """Send text to the client whose task runs."""
        if not isinstance(text, str):
            msg = f"write() argument must be str, not {type(text).__name__}"
            raise TypeError(msg)
        if text and not self._outputs.write(self._kind, text):
            self._fallback.write(text)
        return len(text)

    def flush(self) -> None:
        """Hand on what is kept."""
        self._outputs.flush()
        self._fallback.flush()
