"""What a code object refers to, its source lines, and how it travels. No I/O of its own.

Code objects travel by ``marshal`` (compact, quick to load), guarded by the magic number of the Python that made them.
Line numbers and file names are kept. The source lines go along, so that a traceback made on another host shows them:
there they are offered to ``linecache``, which prefers the file itself where it exists.
"""

from __future__ import annotations

import dis
import linecache
import marshal
import weakref
from importlib.util import MAGIC_NUMBER
from types import CodeType
from typing import Final, NamedTuple

from enginery.errors import SerializationError

#: Source texts longer than this stay at home.
LONGEST_SOURCE: Final = 64 * 1024
#: How many files' source lines are kept on the receiving side.
MOST_FILES: Final = 1024

_LOADS: Final = frozenset({"LOAD_GLOBAL", "LOAD_NAME", "LOAD_FROM_DICT_OR_GLOBALS"})
_STORES: Final = frozenset({"STORE_GLOBAL", "DELETE_GLOBAL"})
#: Every module has the first ones; carrying them would rename the module of the engine. IPython puts the others into
#: each session; an engine has its own.
_EVERYBODYS_OWN: Final = frozenset(
    {
        "__annotations__",
        "__builtins__",
        "__cached__",
        "__doc__",
        "__loader__",
        "__name__",
        "__package__",
        "__path__",
        "__spec__",
        "In",
        "Out",
        "_dh",
        "_ih",
        "_oh",
        "exit",
        "get_ipython",
        "quit",
    }
)


class Source(NamedTuple):
    """Lines of a file: ``text`` begins at line ``first``."""

    filename: str
    first: int
    text: str


class CodeFacts(NamedTuple):
    """What is known about a code object, nested ones included.

    ``loads`` are the global names it reads, ``stores`` those it only sets or deletes, ``words`` all names that occur
    in it, attributes included.
    """

    body: bytes
    loads: tuple[str, ...]
    stores: tuple[str, ...]
    words: frozenset[str]
    source: Source | None


_facts: dict[int, tuple[weakref.ref[CodeType], CodeFacts]] = {}
_texts: dict[str, list[str]] = {}


def facts_of(code: CodeType) -> CodeFacts:
    """Examine a code object; remembered as long as it lives."""
    key = id(code)
    known = _facts.get(key)
    # By identity: code objects that are equal may stem from different files.
    if known is not None and known[0]() is code:
        return known[1]
    loads: dict[str, None] = {}
    stores: dict[str, None] = {}
    words: set[str] = set()
    _collect(code, loads, stores, words)
    facts = CodeFacts(
        body=marshal.dumps(code),
        loads=tuple(loads),
        stores=tuple(name for name in stores if name not in loads),
        words=frozenset(words),
        source=_source_of(code),
    )
    _facts[key] = (weakref.ref(code, lambda _: _facts.pop(key, None)), facts)
    return facts


def load_code(magic: bytes, body: bytes) -> CodeType:
    """Rebuild a code object. Raises SerializationError if another version of Python made it."""
    if magic != MAGIC_NUMBER:
        raise SerializationError(
            f"A function was sent by value between different versions of Python (bytecode {magic.hex()} there, "
            f"{MAGIC_NUMBER.hex()} here). Run client and engines with the same version, or put the function into a "
            "module that both can import."
        )
    code = marshal.loads(body)  # noqa: S302 - as trusted as the pickle around it
    assert isinstance(code, CodeType)
    return code


def remember_source(filename: str, first: int, text: str) -> None:
    """Offer source lines to ``linecache``, for files that do not exist on this host."""
    entry = linecache.cache.get(filename)
    lines = _texts.get(filename)
    if entry is not None and len(entry) > 1 and (lines is None or entry[1] is not None):
        return  # the file is here, or somebody else looks after it (IPython: its cells)
    if lines is None:
        while len(_texts) >= MOST_FILES:
            linecache.cache.pop(oldest := next(iter(_texts)), None)
            del _texts[oldest]
        lines = _texts[filename] = []
    new = text.splitlines(keepends=True)
    lines.extend(["\n"] * (first - 1 + len(new) - len(lines)))
    lines[first - 1 : first - 1 + len(new)] = new
    if filename.startswith("<"):
        # linecache does not look for such files, so the lines themselves must be there.
        linecache.cache[filename] = (len(lines), None, lines, filename)
    else:
        linecache.cache[filename] = (lambda: "".join(lines),)


def _collect(code: CodeType, loads: dict[str, None], stores: dict[str, None], words: set[str]) -> None:
    words.update(code.co_names)
    for instruction in dis.get_instructions(code):
        name = instruction.argval
        if instruction.opname in _LOADS and name not in _EVERYBODYS_OWN:
            loads[name] = None
        elif instruction.opname in _STORES:
            stores[name] = None
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            _collect(constant, loads, stores, words)


def _source_of(code: CodeType) -> Source | None:
    lines = linecache.getlines(code.co_filename)
    first = max(code.co_firstlineno, 1)
    text = "".join(lines[first - 1 : _last_line(code)])
    return Source(code.co_filename, first, text) if 0 < len(text) <= LONGEST_SOURCE else None


def _last_line(code: CodeType) -> int:
    last = max((line for *_, line in code.co_lines() if line is not None), default=0)
    return max([last, *(_last_line(constant) for constant in code.co_consts if isinstance(constant, CodeType))])
