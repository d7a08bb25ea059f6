"""Configurables of the task stores, under the names of their classes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from traitlets import Dict, Float, Integer, List, Unicode
from traitlets.config import Configurable

if TYPE_CHECKING:
    from traitlets.config.loader import Config

#: Records and bytes that DictDB keeps, by default.
RECORDS: Final = 1024
BYTES: Final = 64 << 20
#: The table or database of a store that lasts, by default.
LASTING: Final = "ipython-tasks"


class DictDB(Configurable):
    """Records of tasks in memory, the newest of them: the default."""

    record_limit = Integer(RECORDS, min=0, help="Finished tasks that are kept; 0: no limit.").tag(config=True)
    size_limit = Integer(BYTES, min=0, help="Bytes that they may hold; 0: no limit.").tag(config=True)
    cull_fraction = Float(
        0.1, min=0.0, max=1.0, help="The part of the limits by which the oldest go at once, where there are more."
    ).tag(config=True)


class SQLiteDB(Configurable):
    """Records of tasks in an SQLite database, which lasts from one run to the next."""

    filename = Unicode("tasks.db", help="Name of the database file.").tag(config=True)
    location = Unicode("", help="Its folder (default: that of the profile).").tag(config=True)
    table = Unicode(LASTING, help="The table of the records; empty: a new one for each run.").tag(config=True)


class MongoDB(Configurable):
    """Records of tasks in a MongoDB database, which lasts from one run to the next. Needs PyMongo."""

    database = Unicode(LASTING, help="Name of the database; empty: a new one for each run.").tag(config=True)
    connection_args: List[Any] = List(help="Positional arguments of pymongo.MongoClient.").tag(config=True)
    connection_kwargs: Dict[str, Any] = Dict(help="Keyword arguments of pymongo.MongoClient.").tag(config=True)


STORES: Final[Any] = {each.__name__: each for each in (DictDB, SQLiteDB, MongoDB)}


def store_settings(name: str, parent: Any) -> dict[str, Any]:
    """The keyword arguments of a store: the traits of ours, the section of the configuration of any other."""
    kind = STORES.get(name)
    if kind is not None:
        found = kind(parent=parent)
        return {trait: getattr(found, trait) for trait in found.trait_names(config=True)}
    config: Config = parent.config
    section = config.get(name.rpartition(".")[2], {})
    return dict(section) if hasattr(section, "items") else {}
