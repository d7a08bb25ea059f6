"""Stores by all the names they ever had, and stores of one's own."""

from __future__ import annotations

import sys
from types import ModuleType

import pytest

from enginery.store.backlog import Backlog
from enginery.store.choice import canonical, open_store
from enginery.store.memory import DictDB


@pytest.mark.parametrize(
    ("name", "known"),
    [
        ("dictdb", "DictDB"),
        ("DictDB", "DictDB"),
        ("nodb", "NoDB"),
        ("NoDB", "NoDB"),
        ("sqlitedb", "SQLiteDB"),
        ("mongodb", "MongoDB"),
        ("IPython.parallel.controller.dictdb.DictDB", "DictDB"),
        ("IPython.parallel.controller.dictdb.NoDB", "NoDB"),
        ("IPython.parallel.controller.sqlitedb.SQLiteDB", "SQLiteDB"),
        ("ipyparallel.controller.mongodb.MongoDB", "MongoDB"),
        ("ipyparallel.controller.sqlitedb.SQLiteDB", "SQLiteDB"),
        ("enginery.store.memory.DictDB", "DictDB"),
        ("mine.stores.RedisDB", "mine.stores.RedisDB"),
    ],
)
def test_names_of_all_generations(name, known):
    assert canonical(name) == known


@pytest.mark.parametrize("name", ["", "redis", "ipyparallel.controller.couch.CouchDB"])
def test_names_of_nothing(name):
    with pytest.raises(ValueError, match="is no task store; there are NoDB, DictDB, SQLiteDB, MongoDB"):
        canonical(name)


def test_stores_are_opened(tmp_path):
    assert open_store("NoDB", {}, tmp_path) is None
    memory = open_store("DictDB", {"record_limit": 5}, tmp_path)
    assert isinstance(memory, Backlog)
    assert "newest 5 finished" in memory.limits()
    lasting = open_store("SQLiteDB", {"table": "tasks"}, tmp_path)
    lasting.close()
    assert (tmp_path / "tasks.db").is_file()


def test_a_store_of_ones_own_gets_its_settings(tmp_path, monkeypatch):
    class Own(DictDB):
        def __init__(self, shelf):
            super().__init__()
            self.shelf = shelf

        def limits(self):
            return f"what fits on shelf {self.shelf}"

    module = ModuleType("my_stores")
    module.Own = Own
    monkeypatch.setitem(sys.modules, "my_stores", module)
    store = open_store("my_stores.Own", {"shelf": 7}, tmp_path)
    assert store.limits() == "what fits on shelf 7"
    store.close()
    with pytest.raises(TypeError, match="shelf"):
        open_store("my_stores.Own", {}, tmp_path)
