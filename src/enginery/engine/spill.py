"""The host's hold on the pipes that capture an engine's output: for last words, and for pipes that run over.

What C code wrote just before it killed the process ("double free or corruption") is still in the pipe when the engine is
gone, or in ``engine.last_words`` if it had been read and not sent. And while C code holds the interpreter, the engine cannot read: when the pipe is full, such code would wait for
ever for a reader that waits for it. In both cases the host reads, and writes what it finds to its log.

The host looks at a pipe at most once a second, and only while something is written to it.
"""

from __future__ import annotations

import array
import contextlib
import os
import selectors
import sys
from functools import partial
from typing import TYPE_CHECKING, Final

from enginery.engine.capture import BLOCK, GO

if sys.platform == "linux":  # elsewhere nothing is captured
    import fcntl
    import termios

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from enginery.engine.capture import Pipes

#: Seconds between two looks at a pipe: while the engine reads it, and while it does not.
PAUSE: Final = 1.0
SHORT_PAUSE: Final = 0.1
#: A pipe counts as full from this part of its size on, for its pages may be filled by halves.
FULL: Final = 0.45


class Spill:
    """Both pipes of one engine. Belongs to the host's loop."""

    def __init__(
        self, pipes: Pipes, selector: selectors.BaseSelector, after: Callable[[float, Callable[[], None]], None]
    ) -> None:
        """``after(seconds, call)`` has something called later."""
        self._selector = selector
        self._after = after
        self._words = pipes.words
        self._pending = dict.fromkeys(pipes.reading, 0)
        self._limits = {each: int(fcntl.fcntl(each, fcntl.F_GETPIPE_SZ) * FULL) for each in pipes.reading}
        for descriptor in pipes.reading:
            self._watch(descriptor)

    def __repr__(self) -> str:
        return f"<Spill {'open' if self._pending else 'closed'}>"

    def close(self, running: Collection[int] = ()) -> None:
        """The engine is gone: log what it has left, and let go.

        If it was killed, the tasks of ``running`` may have been: then what was read of theirs is logged, too, for
        nobody knows whether it was sent.
        """
        _log(self._words.of(running))
        for descriptor in self._pending:
            with contextlib.suppress(KeyError):  # it is being looked at anyway
                self._selector.unregister(descriptor)
            _pour(descriptor)
        self.forget()

    def forget(self) -> None:
        """Let go without a look, as forked children do."""
        for descriptor in self._pending:
            os.close(descriptor)
        self._pending = {}

    def _watch(self, descriptor: int) -> None:
        self._selector.register(descriptor, selectors.EVENT_READ, partial(self._written, descriptor))

    def _written(self, descriptor: int) -> None:
        """The engine will read it, most likely."""
        self._selector.unregister(descriptor)
        self._pending[descriptor] = 0
        self._after(PAUSE, partial(self._look, descriptor))

    def _look(self, descriptor: int) -> None:
        if descriptor not in self._pending:
            return  # closed meanwhile
        before, pending = self._pending[descriptor], _size(descriptor)
        self._pending[descriptor] = pending
        if pending >= self._limits[descriptor]:
            if pending == before:
                _pour(descriptor)
            self._after(SHORT_PAUSE, partial(self._look, descriptor))
        else:
            self._watch(descriptor)


def _size(descriptor: int) -> int:
    """How many bytes are in a pipe."""
    found = array.array("i", [0])
    fcntl.ioctl(descriptor, termios.FIONREAD, found)
    return found[0]


def _pour(descriptor: int) -> None:
    """Write what is in a pipe now to the log."""
    for _ in range(GO // BLOCK):
        try:
            data = os.read(descriptor, BLOCK)
        except OSError:  # empty
            return
        if not data:
            return
        _log(data)


def _log(data: bytes) -> None:
    with contextlib.suppress(OSError):  # the log is full or gone
        os.write(2, data)
