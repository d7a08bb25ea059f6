"""Fixtures of the tests with real processes: one cluster of two engines for each file."""

from __future__ import annotations

import sys

import pytest

from clusters import cluster

__all__ = ["cluster"]


#: Seconds that an engine may take to end what a test left there.
PATIENCE = 20.0

if sys.platform == "win32":
    collect_ignore_glob = ["test_*.py"]  # not tried on Windows


@pytest.fixture(autouse=True, scope="module")
def begun_quickly(quick_starts):
    """For all files of this folder."""


@pytest.fixture
def rc(cluster):
    """The file's client, on engines that remember nothing of earlier tests and outlive this one."""
    client = cluster.client
    yield client
    if client.ids == [0, 1] and client[:].clear(block=False).wait(PATIENCE):
        return
    output = cluster.engine_set.get_output() if cluster.engine_set else ""
    cluster.stop_cluster_sync()  # and anew, so that other tests need not suffer
    cluster.client = cluster.start_and_connect_sync()
    pytest.fail(f"engines left, or are busy: {client!r}\n{output}", pytrace=False)


@pytest.fixture
def dv(rc):
    return rc[:]


@pytest.fixture
def lv(rc):
    return rc.load_balanced_view()


@pytest.fixture
def own_rc(cluster):
    """A client of the test's own."""
    with cluster.connect_client_sync() as client:
        yield client
