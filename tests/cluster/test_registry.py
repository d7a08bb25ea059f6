"""Launchers by every kind of name."""

from __future__ import annotations

import subprocess
import sys

import pytest

from enginery.cluster import registry
from enginery.cluster.launchers.base import BaseLauncher, EngineLauncher
from enginery.cluster.launchers.local import LocalControllerLauncher, LocalEngineSetLauncher
from enginery.cluster.registry import BUILT_IN, abbreviate_launcher_class, find_launcher_class


class MyLauncher(EngineLauncher):
    pass


@pytest.fixture(autouse=True)
def told_nothing(monkeypatch):
    monkeypatch.setattr(registry, "_told", set())


@pytest.mark.parametrize(
    "name",
    [
        "local",
        "Local",
        "LOCAL",
        " local ",
        "LocalEngineSetLauncher",
        "LocalEngineLauncher",
        "enginery.cluster.launchers.local.LocalEngineSetLauncher",
        "ipyparallel.cluster.launcher.LocalEngineSetLauncher",
        "ipyparallel.apps.launcher.LocalEngineSetLauncher",
        "IPython.parallel.apps.launcher.LocalEngineSetLauncher",
        LocalEngineSetLauncher,
    ],
)
def test_names_of_one_class(name):
    assert find_launcher_class(name, "engine") is LocalEngineSetLauncher


@pytest.mark.parametrize(("short", "family"), BUILT_IN.items())
def test_every_family_by_short_name_prefix_and_class_name(short, family, caplog):
    for kind in family.kinds:
        found = find_launcher_class(short, kind)
        assert found.__name__ == family.prefix + registry.SUFFIX[kind]
        assert find_launcher_class(family.prefix, kind) is found
        assert find_launcher_class(short.upper(), kind) is found
        assert find_launcher_class(found.__name__, kind) is found
        assert abbreviate_launcher_class(found) == short
    assert not caplog.records


@pytest.mark.parametrize("name", ["mpiexec", "MPIExec", "MPIExecEngineSetLauncher"])
def test_former_names_are_understood_and_one_line_says_so(name, caplog):
    from enginery.cluster.launchers.mpi import MPIEngineSetLauncher

    assert find_launcher_class(name, "engine") is MPIEngineSetLauncher
    assert find_launcher_class(name, "engine") is MPIEngineSetLauncher
    assert [record.getMessage() for record in caplog.records] == [
        f"launcher {name!r} is of an earlier version: it is 'mpi' now."
    ]


def test_dotted_names_of_former_modules_are_told_once(caplog):
    find_launcher_class("IPython.parallel.apps.launcher.LocalControllerLauncher", "controller")
    assert "'IPython.parallel.apps.launcher.LocalControllerLauncher' is of an earlier version" in caplog.text
    assert "it is 'local' now" in caplog.text


def test_kinds_are_told_apart():
    assert find_launcher_class("local", "controller") is LocalControllerLauncher
    with pytest.raises(ValueError, match="none for engines: say 'local'"):
        find_launcher_class("LocalControllerLauncher", "engine")
    with pytest.raises(ValueError, match="no controller launcher 'sshproxy'"):
        find_launcher_class("sshproxy", "controller")


def test_a_class_of_ones_own():
    assert find_launcher_class(MyLauncher, "engine") is MyLauncher


def test_nobody_has_this_name():
    with pytest.raises(ValueError, match=r"no engine launcher 'locl'. Did you mean 'local'\? Known are") as caught:
        find_launcher_class("locl", "engine")
    assert all(short in str(caught.value) for short in BUILT_IN)
    with pytest.raises(ValueError, match="no engine launcher 'MesosEngineSetLauncher'. Known are"):
        find_launcher_class("MesosEngineSetLauncher", "engine")


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
        name, value = "ours", "ipyparallel.cluster.launcher:OursEngineSetLauncher"

    class Former(Entry):
        name = "third-party"

    groups = {"enginery.engine_launchers": [Entry()], "ipyparallel.engine_launchers": [Original(), Former()]}
    monkeypatch.setattr("importlib.metadata.entry_points", lambda group: groups.get(group, []))
    assert find_launcher_class("mine", "engine") is MyLauncher
    assert find_launcher_class("MyLauncher", "engine") is MyLauncher
    assert find_launcher_class("Third-Party", "engine") is MyLauncher
    with pytest.raises(ValueError, match="no controller launcher 'mine'"):
        find_launcher_class("mine", "controller")
    with pytest.raises(ValueError, match="no engine launcher 'ours'"):
        find_launcher_class("ours", "engine")


def test_the_short_name_leads_back():
    name = abbreviate_launcher_class(BaseLauncher)
    assert find_launcher_class(name, "engine") is BaseLauncher


def test_only_what_is_asked_for_is_imported():
    code = (
        "import sys, enginery.cluster.cluster\n"
        "print(sorted(name for name in sys.modules if name.startswith('enginery.cluster.launchers.')))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "['enginery.cluster.launchers.base']"
