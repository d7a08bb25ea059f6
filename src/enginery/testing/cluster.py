"""A small real cluster for tests: real processes and sockets, in a folder of its own, gone afterwards.

As a pytest fixture:

    @pytest.fixture(scope="module")
    def client():
        with small_cluster(n=2) as client:
            yield client
"""

from __future__ import annotations

import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from enginery.cluster.cluster import Cluster

if TYPE_CHECKING:
    from collections.abc import Iterator

    from enginery.client.client import Client


@contextmanager
def small_cluster(n: int = 2, **traits: Any) -> Iterator[Client]:
    """A controller and ``n`` engines on this host, with their profile in a temporary folder.

    Gives a connected client; its ``cluster`` is the cluster. ``traits`` are those of ``Cluster``. Everything is
    stopped and removed on the way out, whatever happened. Raises as ``Cluster.start_and_connect_sync``.
    """
    with tempfile.TemporaryDirectory(prefix="enginery-") as folder:
        # The user's own profile and its configuration must not have a say in tests.
        own: dict[str, Any] = {"profile_dir": str(Path(folder) / "profile_test"), "load_profile": False}
        with Cluster(n=n, **own | traits) as client:
            yield client
