"""Which store: the names by which stores were ever known, and how the chosen one is opened."""

from __future__ import annotations

import secrets
from functools import partial
from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

from enginery.store.backlog import Backlog
from enginery.store.memory import DictDB
from enginery.store.writer import Writer

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from enginery.store.interface import TaskStore

#: Stores of ours by class name, and their modules; imported when chosen.
_HOMES: Final = {"DictDB": "memory", "SQLiteDB": "sqlite", "MongoDB": "mongo"}
NONE: Final = "NoDB"
NAMES: Final = (NONE, *_HOMES)
DEFAULT: Final = "DictDB"
#: Where classes of these names lived in earlier generations.
_FORMER: Final = ("IPython.parallel.controller.", "ipyparallel.controller.", "enginery.controller.", "enginery.store.")


def canonical(name: str) -> str:
    """The class name of a store of ours, by any name it ever had; the dotted name of any other.

    Raises ValueError for what is neither.
    """
    last = name.rpartition(".")[2]
    if name == last or name.startswith(_FORMER):
        for known in NAMES:
            if last.lower() == known.lower():
                return known
        raise ValueError(f"{name!r} is no task store; there are {', '.join(NAMES)}, and dotted names of others.")
    return name


def open_store(
    name: str, settings: Mapping[str, Any], folder: Path, *, only_ended: bool = False
) -> Backlog | Writer | None:
    """Open the store with a canonical name. None for no store. ``only_ended``: see ``Writer``.

    ``settings`` are keyword arguments of its class; ``folder`` is where files go unless these say otherwise. Raises
    OSError if it cannot be opened, and ImportError, AttributeError or TypeError for a class that is none.
    """
    if name == NONE:
        return None
    given = dict(settings)
    if name == "DictDB":
        return Backlog(DictDB(**given))
    make: Callable[..., TaskStore]
    if name in _HOMES:
        make = getattr(import_module(f"enginery.store.{_HOMES[name]}"), name)
        given["session"] = secrets.token_hex(8)
        if name == "SQLiteDB" and not given.get("location"):
            given["location"] = str(folder)
    else:
        module, _, last = name.rpartition(".")
        make = getattr(import_module(module), last)
    return Writer(partial(make, **given), only_ended=only_ended)
