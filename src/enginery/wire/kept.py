"""Values that stay on engines: what stands for one in a pickle, and the table it is looked up in. No I/O.

A client's handle pickles as a call of ``load`` with the text ``<MARK><id of the task>``. So it means the value itself
wherever it stands, in arguments or deep inside of them; and whoever forwards the pickle can see what it needs.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, Final, NamedTuple

#: Begins the text by which a value is named: long enough for no other data to have it by accident.
MARK: Final = b"enginery-kept-value-3d1c6a5e:"
_MENTION: Final = re.compile(re.escape(MARK) + rb"(\d{1,19});")


class Description(NamedTuple):
    """What the result of a task says in place of the value that stays on its engine."""

    kind: str  #: name of its type
    size: int  #: bytes, as far as it tells
    text: str  #: what it looks like, in short


class Table:
    """What this process has kept. Filled and emptied by its owner."""

    #: Gives the value of a task's id, or raises.
    find: Callable[[int], Any] | None = None


def name_of(value: int) -> bytes:
    """The text that stands for the value of a task."""
    return MARK + b"%d;" % value


def mentioned(payload: bytes) -> list[int]:
    """Ids of the kept values that a packed payload uses, each once."""
    if MARK not in payload:
        return []
    return list(dict.fromkeys(int(number) for number in _MENTION.findall(payload)))


def load(name: bytes) -> Any:
    """The value that a name stands for. Called by unpickling. Raises LookupError where it is not."""
    found = _MENTION.fullmatch(name)
    if found is None or Table.find is None:
        msg = (
            f"{name!r} stands for a value that was kept on an engine. It can be used on engines of its cluster only, and "
            "has to be an argument of the task: what a function refers to is not looked through."
        )
        raise LookupError(msg)
    return Table.find(int(found[1]))


def describe(value: object) -> Description:
    """Describe a value that stays where it is. Never raises."""
    kind = type(value)
    name = kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"
    return Description(name, size_of(value), _text(value))


def size_of(value: object) -> int:
    """About how many bytes a value takes. Never raises."""
    try:
        size = value.nbytes if hasattr(value, "nbytes") else value.__sizeof__()
        return max(0, int(size))
    except Exception:  # the user's class may do anything
        return 0


def _text(value: object) -> str:
    shape = getattr(value, "shape", None)
    if isinstance(shape, tuple):
        return f"shape {shape}"
    try:
        return f"{len(value)} items" if hasattr(value, "__len__") else ""
    except Exception:  # likewise
        return ""
