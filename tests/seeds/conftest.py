"""Fixtures of the tests of seed rows: commands, and one cluster for each file that needs no more."""

from __future__ import annotations

import sys

import pytest

from commands import PATIENCE, ROOT, Commands
from enginery.client.client import Client

if sys.platform == "win32":
    collect_ignore_glob = ["test_*.py"]  # not tried on Windows


@pytest.fixture
def commands(tmp_path, warm):
    """Commands in a private IPython folder; what was started is gone at the end."""
    commands = Commands(tmp_path, warm)
    yield commands
    commands.end()


@pytest.fixture
def former(tmp_path):
    """Commands in a private IPython folder, where ``ipyparallel`` is the one in compat."""
    commands = Commands(tmp_path, PYTHONPATH=str(ROOT / "compat" / "src"))
    yield commands
    commands.end()


@pytest.fixture(scope="module")
def cluster(tmp_path_factory, warm):
    """The commands of a folder in whose default profile two engines run, started by ``ipcluster start -n 2``."""
    commands = Commands(tmp_path_factory.mktemp("ipython"), warm)
    commands.start("cluster", "start", "-n", "2", until="appear to have started")
    yield commands
    commands.end()


@pytest.fixture
def connect():
    """Make clients that are closed at the end."""
    clients = []

    def connect(*args, n=None, **kwargs):
        client = Client(*args, timeout=PATIENCE, **kwargs)
        clients.append(client)
        if n is not None:
            client.wait_for_engines(n, timeout=PATIENCE)
        return client

    yield connect
    for client in clients:
        client.close()
