"""Exceptions of user code in words: class, text, and a traceback that begins with the user's own frames. No I/O."""

from __future__ import annotations

import re
import traceback as tracebacks
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from types import TracebackType

#: Longest text of an exception, and longest traceback, that is sent; what is cut out is the middle.
LONGEST: Final = 100_000

#: Files whose frames stand above the user's: this package, and what runs coroutines and cells for it.
_MACHINERY: Final = re.compile(
    re.escape(__file__.removesuffix("descriptions.py"))
    + r"|[\\/]asyncio[\\/]\w+\.py$|[\\/]IPython[\\/]core[\\/]\w+\.py$|^<frozen (runpy|importlib)"
)
_HANDLER: Final = re.compile(re.escape(__file__.removesuffix("descriptions.py")) + r"engine[\\/]interrupts\.py$")


def describe_exception(error: BaseException) -> tuple[str, str, str]:
    """Describe an exception of user code: class name, text, formatted traceback. Never raises.

    The frames between the engine's loop and the user's code are left out, here and in chained exceptions; frames of
    this package further down (the user's code called it) stay. Call it where the exception was caught, as source
    lines are read now.
    """
    ename = type(error).__name__
    try:
        evalue = _shortened(str(error))
    except BaseException as trouble:  # a broken __str__ must not hide the exception, whatever it raises
        evalue = f"<no text: str() of it raised {type(trouble).__name__}>"
    try:
        told = tracebacks.TracebackException(type(error), error, error.__traceback__, lookup_lines=False, compact=True)
        _hide_machinery(told)
        text = "".join(told.format())
    except BaseException as trouble:  # likewise
        text = f"{ename}: {evalue}\n(its traceback could not be formatted: {type(trouble).__name__})\n"
    return ename, evalue, _shortened(text)


def user_traceback(traceback: TracebackType | None) -> TracebackType | None:
    """The same traceback without the leading frames of machinery. None if nothing is left."""
    while traceback is not None and _MACHINERY.search(traceback.tb_frame.f_code.co_filename):
        traceback = traceback.tb_next
    return traceback


def _hide_machinery(told: tracebacks.TracebackException) -> None:
    """Drop the leading frames of machinery, in chained and grouped exceptions as well."""
    waiting: list[tracebacks.TracebackException | None] = [told]
    seen: set[int] = set()
    while waiting:
        each = waiting.pop()
        if each is None or id(each) in seen:
            continue
        seen.add(id(each))
        theirs = next(
            (number for number, frame in enumerate(each.stack) if not _MACHINERY.search(frame.filename)),
            len(each.stack),
        )
        del each.stack[:theirs]
        # The handler of an interrupt stands on top of the user's frame that was interrupted.
        handler = next((number for number, frame in enumerate(each.stack) if _HANDLER.search(frame.filename)), None)
        if handler:
            del each.stack[handler:]
        waiting += [each.__cause__, each.__context__, *(each.exceptions or ())]


def _shortened(text: str) -> str:
    """The text as it can be sent: not too long, and without halves of characters, as broken names of files have them."""
    if not text.isascii():
        text = text.encode("utf-8", "backslashreplace").decode("utf-8")
    if len(text) <= LONGEST:
        return text
    kept = LONGEST // 2
    return f"{text[:kept]}\n... {len(text) - 2 * kept} characters left out ...\n{text[-kept:]}"
