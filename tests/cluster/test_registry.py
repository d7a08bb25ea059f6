"""Launchers by every kind of name."""

from __future__ import annotations

import pytest

from enginery.cluster.launchers.base import BaseLauncher, EngineLauncher
from enginery.cluster.launchers.local import LocalControllerLauncher, LocalEngineSetLauncher
from enginery.cluster.registry import abbreviate_launcher_class, find_launcher_class


class MyLauncher(EngineLauncher):
    pass


@pytest.mark.parametrize(
    "name",
    [
        "local",
        "Local",
        "LOCAL",
        "LocalEngineSetLauncher",
        "enginery.cluster.launchers.local.LocalEngineSetLauncher",
        "ipyparallel.cluster.launcher.LocalEngineSetLauncher",
        "IPython.parallel.apps.launcher.LocalEngineSetLauncher",
        LocalEngineSetLauncher,
    ],
)
def test_names_of_one_class(name):
    assert find_launcher_class(name, "engine") is LocalEngineSetLauncher


def test_kinds_are_told_apart():
    assert find_launcher_class("local", "controller") is LocalControllerLauncher


def test_a_class_of_ones_own():
    assert find_launcher_class(MyLauncher, "engine") is MyLauncher


def test_nobody_has_this_name():
    with pytest.raises(ValueError, match=r"no engine launcher 'locl'. Did you mean 'local'\? Known are") as caught:
        find_launcher_class("locl", "engine")
    assert "local" in str(caught.value)


def test_no_launcher():
    with pytest.raises(TypeError, match="not a launcher"):
        find_launcher_class("collections.OrderedDict", "engine")
    with pytest.raises(ImportError):
        find_launcher_class("no.such.module.Launcher", "engine")


def test_an_entry_point(monkeypatch):
    class Entry:
        name, value = "Mine", "somewhere:MyLauncher"

        def load(self):
            return MyLauncher

    class Original(Entry):
        name, value = "oar", "ipyparallel.cluster.launcher:OAREngineSetLauncher"

    groups = {"enginery.engine_launchers": [Entry()], "ipyparallel.engine_launchers": [Original()]}
    monkeypatch.setattr("importlib.metadata.entry_points", lambda group: groups.get(group, []))
    assert find_launcher_class("mine", "engine") is MyLauncher
    with pytest.raises(ValueError, match="no controller launcher 'mine'"):
        find_launcher_class("mine", "controller")
    with pytest.raises(ValueError, match="no engine launcher 'oar'"):
        find_launcher_class("oar", "engine")


def test_the_short_name_leads_back():
    for kind in ("controller", "engine"):
        found = find_launcher_class("local", kind)
        assert abbreviate_launcher_class(found) == "local"
    name = abbreviate_launcher_class(BaseLauncher)
    assert find_launcher_class(name, "engine") is BaseLauncher
