"""Where output of engines is shown to people: the terminal, or whatever a notebook puts in its place."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Protocol, TextIO

from enginery.client.pieces import Piece, label, labelled


class Screen(Protocol):
    """A place to show output. Calls come from one thread at a time."""

    def write(self, stream: str, text: str) -> None:
        """Write whole lines to ``stdout`` or ``stderr``."""

    def show(self, piece: Piece, engines: Sequence[int]) -> None:
        """Show what some engines said, under their label."""

    def tail(self, lines: Sequence[str]) -> None:
        """Show lines that may still change below everything else, in place of those of the last call."""

    def clear(self, *, wait: bool) -> None:
        """Remove everything shown by this cell; with ``wait``, when the next thing is shown."""


class Terminal:
    """A screen of text: whatever ``sys.stdout`` and ``sys.stderr`` are at the moment of writing."""

    def __init__(self) -> None:
        self._tail = 0

    def write(self, stream: str, text: str) -> None:
        """See ``Screen``."""
        if text:
            with self._above_what_changes():
                self._put(stream, text)

    def show(self, piece: Piece, engines: Sequence[int]) -> None:
        """See ``Screen``."""
        stream = "stderr" if piece.kind in {"stderr", "error"} else "stdout"
        self.write(stream, labelled(label(piece, engines), piece.text))

    def tail(self, lines: Sequence[str]) -> None:
        """See ``Screen``. Nothing is shown where lines cannot be taken back."""
        out = sys.stderr
        if not (lines or self._tail) or not out.isatty():
            return
        width = shutil.get_terminal_size().columns - 1
        with self._above_what_changes():
            out.write("".join(f"{line[:width]}\n" for line in lines))
            out.flush()
            self._tail = len(lines)

    def clear(self, *, wait: bool) -> None:
        """See ``Screen``: what a terminal has shown stays."""

    def _put(self, stream: str, text: str) -> None:
        out: TextIO = sys.stderr if stream == "stderr" else sys.stdout
        out.write(text)
        out.flush()

    @contextmanager
    def _above_what_changes(self) -> Iterator[None]:
        """While the block writes, there is no progress bar and no tail."""
        with _bars_aside():
            if self._tail:
                sys.stderr.write(f"\x1b[{self._tail}A\x1b[J")
                sys.stderr.flush()
                self._tail = 0
            yield


def _bars_aside() -> AbstractContextManager[None]:
    """While the block writes, progress bars of the terminal are out of the way."""
    tqdm = getattr(sys.modules.get("tqdm"), "tqdm", None)
    if tqdm is None or not getattr(tqdm, "_instances", None):
        return nullcontext()
    aside: AbstractContextManager[None] = tqdm.external_write_mode()
    return aside


#: Makes the screen for one request's output.
_make: Callable[[], Screen] = Terminal


def use(make: Callable[[], Screen]) -> None:
    """Have ``make()`` give the screens from now on."""
    global _make  # noqa: PLW0603 - there is one user, who looks at one place
    _make = make


def screen() -> Screen:
    """A screen for the output of one request."""
    return _make()
