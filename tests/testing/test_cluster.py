"""A small real cluster is up inside the with block and gone after it."""

from __future__ import annotations

import os
import sys

import psutil
import pytest

from enginery.testing.cluster import small_cluster

pytestmark = [pytest.mark.slow, pytest.mark.skipif(sys.platform == "win32", reason="not tried on Windows")]


def test_it_computes_and_leaves_nothing():
    with small_cluster(n=2) as client:
        pids = client[:].apply_sync(os.getpid)
        assert len(set(pids)) == 2
    assert not any(psutil.pid_exists(pid) for pid in pids)
