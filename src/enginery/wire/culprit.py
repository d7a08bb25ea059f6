"""Finding what inside a value cannot be pickled, so that the error can name it. No I/O."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from types import FunctionType, MethodType
from typing import Any, Final

from enginery.errors import SerializationError
from enginery.wire.code import facts_of

_DEEPEST: Final = 8
#: How many values are tried at most. Each is pickled as a whole, and the user waits.
_MOST_TRIALS: Final = 500


def explain(error: Exception, parts: Mapping[str, object], dump: Callable[[Any], object]) -> SerializationError:
    """Make the error for a failed pickling.

    ``parts`` are the values that were sent, by what the user calls them; ``dump`` is the pickler that failed.
    """
    search = _Search(dump)
    for label, value in parts.items():
        trouble = search.trouble_with(value)
        if trouble is not None:
            path, cause = ([], trouble) if _is_too_deep(trouble) else search.descend(value, trouble)
            where = ", ".join([label, *path])
            break
    else:
        where, cause = " and ".join(parts) or "the value", error
    if _is_too_deep(cause):
        reason = "it is nested too deeply to be pickled"
    else:
        reason = (str(cause) or type(cause).__name__).rstrip(".")
    made = SerializationError(f"Cannot send {where}: {reason}. Make it on the engine, or send what it is made from.")
    made.__cause__ = cause
    return made


def _is_too_deep(error: BaseException) -> bool:
    # cloudpickle makes an error of its own of it
    return isinstance(error, RecursionError) or isinstance(error.__cause__, RecursionError)


class _Search:
    def __init__(self, dump: Callable[[Any], object]) -> None:
        self._dump = dump
        self._trials = 0
        self._seen: set[int] = set()

    def trouble_with(self, value: object) -> Exception | None:
        """What pickling a value raises."""
        self._trials += 1
        try:
            self._dump(value)
        except Exception as error:  # user-defined __reduce__ and __getstate__ may raise anything
            return error
        return None

    def descend(self, value: object, cause: Exception) -> tuple[list[str], Exception]:
        """Follow the trouble inwards: steps to the innermost value that has it, and the trouble there."""
        path: list[str] = []
        while len(path) < _DEEPEST and id(value) not in self._seen:
            self._seen.add(id(value))
            for step, child in _children(value):
                if self._trials >= _MOST_TRIALS:
                    return path, cause
                trouble = self.trouble_with(child)
                if trouble is not None:
                    path.append(step)
                    value, cause = child, trouble
                    break
            else:
                break
        return path, cause


def _children(value: object) -> Iterator[tuple[str, object]]:
    """The values inside a value, each with the words that lead there."""
    if isinstance(value, dict):
        yield from ((f"key {key!r}", entry) for key, entry in list(value.items()))
    elif isinstance(value, list | tuple | set | frozenset):
        yield from ((f"item {number}", entry) for number, entry in enumerate(value))
    elif isinstance(value, FunctionType):
        yield from _function_children(value)
    elif isinstance(value, MethodType):
        yield f"its object (a {type(value.__self__).__name__})", value.__self__
        yield f"function {value.__func__.__qualname__!r}", value.__func__
    elif isinstance(value, partial):
        yield "its function", value.func
        yield from ((f"argument {number}", entry) for number, entry in enumerate(value.args, 1))
        yield from ((f"argument {key!r}", entry) for key, entry in value.keywords.items())
    elif isinstance(value, type):
        yield from ((f"attribute {key!r}", entry) for key, entry in list(vars(value).items()) if key[:2] != "__")
    else:
        yield from ((f"attribute {key!r}", entry) for key, entry in list(getattr(value, "__dict__", {}).items()))


def _function_children(function: FunctionType) -> Iterator[tuple[str, object]]:
    for name, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=True):
        try:
            yield f"its variable {name!r}", cell.cell_contents
        except ValueError:  # not assigned yet
            continue
    yield from ((f"default {number}", entry) for number, entry in enumerate(function.__defaults__ or (), 1))
    yield from ((f"default of {name!r}", entry) for name, entry in (function.__kwdefaults__ or {}).items())
    here = function.__globals__
    yield from ((f"global {name!r}", here[name]) for name in facts_of(function.__code__).loads if name in here)
