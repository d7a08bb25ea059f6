"""How output and errors of engines look in an IPython session: rich displays in a notebook, coloured tracebacks."""

from __future__ import annotations

import secrets
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

from IPython.core.displaypub import CapturingDisplayPublisher
from IPython.core.getipython import get_ipython
from pygments import highlight
from pygments.formatters import TerminalFormatter
from pygments.lexers import PythonTracebackLexer

from enginery.client import screen
from enginery.client.pieces import Piece, label, labelled
from enginery.client.screen import Terminal
from enginery.errors import paint_with

if TYPE_CHECKING:
    from IPython.core.interactiveshell import InteractiveShell

#: Styles of IPython for terminals that show no colours.
_COLOURLESS: Final = "nocolor"
_ESCAPE: Final = "\x1b["
#: How tracebacks begin, which the lexer wants to see.
_HEADLINE: Final = "Traceback (most recent call last)"


class Notebook(Terminal):
    """A screen of a session of IPython: text goes out as it does from ``print``, and richer things as displays."""

    def __init__(self, shell: InteractiveShell) -> None:
        super().__init__()
        self._shell = shell
        self._tail_id = ""
        self._names: dict[str, str] = {}

    def show(self, piece: Piece, engines: Sequence[int]) -> None:
        """See ``Screen``."""
        if piece.kind == "error":
            self.write("stderr", labelled(label(piece, engines), painted(piece.text)))
        elif piece.bundle is not None and (self._is_rich() or self._is_captured()) and self._is_worth_it(piece):
            self.write("stdout", f"{label(piece, engines)}\n")
            self._publish(piece)
        else:
            super().show(piece, engines)

    def tail(self, lines: Sequence[str]) -> None:
        """See ``Screen``. In a notebook it is one display, which stays where it appeared first and is updated."""
        if self._is_captured():
            return
        if not self._is_rich():
            super().tail(lines)
        elif self._tail_id or lines:
            # Empty text would leave an empty line behind; an empty bundle of representations leaves nothing.
            data = {"text/plain": "\n".join(lines)} if lines else {"text/html": ""}
            update = bool(self._tail_id)
            self._tail_id = self._tail_id or secrets.token_hex(8)
            self._send(data, {}, self._tail_id, update=update)

    def clear(self, *, wait: bool) -> None:
        """See ``Screen``."""
        if self._is_rich():
            self._shell.display_pub.clear_output(wait=wait)
            self._tail_id = ""
            self._names.clear()

    def _is_rich(self) -> bool:
        """Whether the session belongs to a front end that shows more than text."""
        return hasattr(self._shell, "kernel")

    def _is_captured(self) -> bool:
        """Whether displays are collected by a program."""
        return isinstance(self._shell.display_pub, CapturingDisplayPublisher)

    def _is_worth_it(self, piece: Piece) -> bool:
        """Whether a piece is more than text, or will be updated."""
        return piece.is_rich or piece.display_id is not None

    def _publish(self, piece: Piece) -> None:
        assert piece.bundle is not None, "asked by the caller"
        name = piece.display_id
        known = name is not None and name in self._names
        if name is not None:
            # Engines choose their names alone; this one is ours.
            name = self._names.setdefault(name, secrets.token_hex(8))
        self._send(piece.bundle["data"], piece.bundle["metadata"], name, update=known and piece.kind == "update")

    def _send(self, data: dict[str, Any], metadata: dict[str, Any], name: str | None, *, update: bool) -> None:
        transient = {} if name is None else {"display_id": name}
        self._shell.display_pub.publish(data, metadata, transient=transient, update=update)


def painted(text: str) -> str:
    """A traceback with colours, if the session has colours and the text has none."""
    shell = get_ipython()
    if shell is None or _ESCAPE in text or str(shell.colors).lower() == _COLOURLESS or _HEADLINE not in text:
        return text
    found: str = highlight(text, PythonTracebackLexer(stripnl=False, ensurenl=False), TerminalFormatter())
    return found


def install(shell: InteractiveShell) -> None:
    """Have output of engines shown by this session from now on."""
    screen.use(lambda: Notebook(shell))
    paint_with(painted)


def say(text: str) -> None:
    """Tell the user something that is not the output of engines."""
    sys.stderr.write(text + "\n")
    sys.stderr.flush()
