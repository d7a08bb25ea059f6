"""Fixtures of the tests of faults: clusters of their own, since most do not survive."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import psutil
import pytest

from enginery.cluster.cluster import Cluster
from waiting import PATIENCE, is_alive, wait_until

if sys.platform == "win32":
    collect_ignore_glob = ["test_*.py"]  # not tried on Windows


@pytest.fixture(autouse=True, scope="module")
def begun_quickly(quick_starts):
    """For all files of this folder."""


class Scene:
    """A cluster, its processes by role, and the places where it could leave something."""

    def __init__(self, folder, n=2) -> None:
        self.cluster = Cluster(n=n, profile_dir=str(folder))
        self.rc = self.cluster.start_and_connect_sync()
        self.controller = psutil.Process(self.cluster.controller.pid)
        self.host = psutil.Process(self.cluster.engine_set.pid)
        self.engines = [psutil.Process(pid) for pid in self.rc[:].apply_sync(os.getpid)]
        known = {each.pid for each in self.engines}
        (self.nanny,) = [each for each in self.host.children() if each.pid not in known]
        self.processes = [self.controller, self.host, self.nanny, *self.engines]
        sockets = [Path(url.removeprefix("ipc://")).parent for url in self.rc.link.info.urls if url.startswith("ipc")]
        shared = self.rc.link._requests.welcome.runtime
        self.places = [*sockets, *([Path(shared)] if shared else []), Path(folder) / "security", Path(folder) / "log"]

    def left(self):
        """What there is that should not be there any more."""
        alive = [each for each in self.processes if is_alive(each)]
        files = [str(path) for place in self.places if place.exists() for path in place.rglob("*")]
        return alive + files

    def assert_nothing_left(self):
        wait_until(lambda: not self.left(), lambda: self.left())

    def assert_works(self, n=2):
        assert self.rc[:].apply_async(abs, -1).get(PATIENCE) == [1] * n
        assert self.rc.load_balanced_view().map_async(abs, range(-20, 0)).get(PATIENCE) == list(range(20, 0, -1))


@pytest.fixture
def scene(tmp_path):
    """A cluster of two engines, to be harmed. Whatever happens to it, nothing may be left after it was stopped."""
    scene = Scene(tmp_path / "profile")
    yield scene
    scene.cluster.stop_cluster_sync()
    scene.assert_nothing_left()


@pytest.fixture(scope="module")
def sturdy(tmp_path_factory):
    """A cluster that is expected to survive what the tests of a file do to it."""
    scene = Scene(tmp_path_factory.mktemp("sturdy") / "profile")
    yield scene
    scene.cluster.stop_cluster_sync()
    scene.assert_nothing_left()


@pytest.fixture(scope="module")
def crowd(tmp_path_factory):
    """A cluster with more engines than the tests of a file kill one by one."""
    scene = Scene(tmp_path_factory.mktemp("crowd") / "profile", n=10)
    yield scene
    scene.cluster.stop_cluster_sync()
    scene.assert_nothing_left()
