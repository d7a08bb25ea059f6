"""pdb on the frames of a task that failed, and its traceback with local variables.

Imported when the first of them is asked for; see ``engine.failures``.
"""

from __future__ import annotations

import io
import pdb  # noqa: T100 - it is what this file is about
import reprlib
import sys
import traceback
from typing import TYPE_CHECKING, Final

from enginery.descriptions import describe_exception, user_traceback

if TYPE_CHECKING:
    from types import FrameType

PROMPT: Final = "(Pdb) "
#: Longest repr of a variable in a traceback, and how many items of a container it shows.
LONGEST_REPR: Final = 200
MOST_ITEMS: Final = 20
#: How many exceptions of a chain show their variables.
CHAIN: Final = 4
#: Names that every cell has.
_HIDDEN: Final = frozenset({"In", "Out", "exit", "quit", "get_ipython", "display", "open"})


class Debugger(pdb.Pdb):
    """pdb on the frames of an exception, one command at a time."""

    def __init__(self, error: BaseException) -> None:
        # Commands that would read more lines find the end of input.
        super().__init__(stdin=io.StringIO(), stdout=sys.stdout, nosigint=True, readrc=False)
        self.prompt = PROMPT
        self.reset()
        # What pdb.post_mortem() does, but for the loop.
        self.setup(None, user_traceback(error.__traceback__))
        self._error = error

    def show_place(self) -> None:
        """Print what happened, and the current line."""
        self.stdout = sys.stdout
        self.message("".join(traceback.format_exception_only(self._error)).rstrip())
        self.print_stack_entry(self.stack[self.curindex])

    def obey(self, line: str) -> bool:
        """Carry out one line. Returns whether the session goes on."""
        self.stdout = sys.stdout
        lines = [line]
        while lines:
            try:
                given = self.precmd(lines.pop(0))
                if self.postcmd(bool(self.onecmd(given)), given):
                    return False
            except pdb.Restart:
                self.message("A task cannot be started again from its debugger: submit it anew.")
            lines += self.cmdqueue
            self.cmdqueue = []
        return True


def with_locals(error: BaseException) -> str:
    """The traceback of an exception, and of those it came from, with the variables of each frame."""
    try:
        told = traceback.TracebackException(type(error), error, user_traceback(error.__traceback__), compact=True)
        _add_variables(told, error, 0)
        return "".join(told.format())
    except Exception:  # the reprs of user classes have been seen to; this is for what nobody thought of
        return describe_exception(error)[2]


def _add_variables(told: traceback.TracebackException, error: BaseException, depth: int) -> None:
    frames = [frame for frame, _ in traceback.walk_tb(user_traceback(error.__traceback__))]
    for summary, frame in zip(told.stack, frames, strict=False):
        summary.locals = _variables(frame)
    for inner, cause in ((told.__cause__, error.__cause__), (told.__context__, error.__context__)):
        if inner is not None and cause is not None and depth < CHAIN:
            _add_variables(inner, cause, depth + 1)


def _variables(frame: FrameType) -> dict[str, str]:
    names = list(frame.f_locals)
    if frame.f_locals is frame.f_globals:
        # Variables of a cell are those of the whole engine: only what the cell names.
        names = [name for name in frame.f_code.co_names if name in frame.f_locals and name not in _HIDDEN]
    return {name: _short(frame.f_locals[name]) for name in names}


def _short(value: object) -> str:
    try:
        # Of large containers only the beginning is looked at.
        text = _reprs.repr(value)
    except Exception as trouble:  # user code
        return f"<no repr: {type(trouble).__name__}>"
    return text if len(text) <= LONGEST_REPR else f"{text[:LONGEST_REPR]}…"


_reprs: Final = reprlib.Repr()
_reprs.maxstring = _reprs.maxother = _reprs.maxlong = LONGEST_REPR
_reprs.maxlist = _reprs.maxtuple = _reprs.maxdict = _reprs.maxset = MOST_ITEMS
