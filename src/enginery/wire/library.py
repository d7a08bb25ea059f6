"""Which library pickles what plain pickle cannot: our own pickler, or cloudpickle or dill if the user says so. No I/O.

The choice belongs to the sender. What another library made names that library, so the receiver needs no switch.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from pickle import PickleBuffer, dumps
from typing import Any

from enginery.wire import rebuild
from enginery.wire.aside import aside_into

_chosen: str | None = None


def use_dill() -> None:
    """Pickle functions, and objects that plain pickle refuses, with dill from now on, in this process.

    Raises ImportError, with what to do, if dill is not installed.
    """
    _choose("dill")


def use_cloudpickle() -> None:
    """Pickle functions, and objects that plain pickle refuses, as cloudpickle does from now on, in this process.

    Functions then bring globals of their own and do not see the engine's namespace.
    """
    _choose("cloudpickle")


def use_pickle() -> None:
    """Return to the default: functions run with the engine's namespace as their globals."""
    global _chosen  # noqa: PLW0603 - the switch is process-wide by contract
    _chosen = None


def chosen() -> str | None:
    """Return the name of the library in use, None for the default."""
    return _chosen


def dump(thing: object, buffers: list[memoryview] | None = None) -> bytes:
    """Pickle what plain pickle cannot, or must not. Large buffers go into ``buffers`` if that is given.

    Raises what the pickler raises.
    """
    if _chosen is None:
        # Imported at first need: cloudpickle costs as much as the rest of the client.
        from enginery.wire.by_value import pickle_by_value

        return pickle_by_value(thing, buffers)[0]
    data = importlib.import_module(_chosen).dumps(thing, protocol=5)
    return dumps(_Foreign(_chosen, data), 5, buffer_callback=aside_into(buffers))


class _Foreign:
    """Data of another library on its way: unpickles as what it contains."""

    def __init__(self, library: str, data: bytes) -> None:
        self.library = library
        self.data = data

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[str, PickleBuffer]]:
        return rebuild.load_with, (self.library, PickleBuffer(self.data))


def _choose(name: str) -> None:
    global _chosen  # noqa: PLW0603 - the switch is process-wide by contract
    try:
        importlib.import_module(name)
    except ImportError as missing:
        raise ImportError(
            f"use_{name}() needs {name}, which is not installed here. Install it on the client and on the engines "
            f"(`pip install {name}`), or stay with the default, which sends functions by value as well.",
            name=name,
        ) from missing
    _chosen = name
