"""A real cluster for each file of tests that asks for one, as a fixture that several folders share."""

from __future__ import annotations

import pytest

from enginery.cluster.cluster import Cluster


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    """Two engines, started and connected; ``cluster.client`` is the client."""
    cluster = Cluster(n=2, profile_dir=str(tmp_path_factory.mktemp("profile")))
    cluster.client = cluster.start_and_connect_sync()
    yield cluster
    cluster.stop_cluster_sync()
