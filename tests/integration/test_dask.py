"""Dask's scheduler and workers on engines, for a while."""

from __future__ import annotations

import os

import pytest

distributed = pytest.importorskip("distributed")
dask = pytest.importorskip("dask")

from enginery.integrations import dask as room  # noqa: E402

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]


@pytest.fixture(scope="module")
def session(cluster):
    """A dask client whose workers are the engines: they take seconds to import Dask."""
    yield cluster.client.become_dask()
    cluster.client.stop_dask()


def test_delayed_work_runs_on_the_engines(rc, session):
    total = dask.delayed(sum)([dask.delayed(pow)(2, n) for n in range(10)])
    assert total.compute() == 1023
    pids = set(session.run(os.getpid).values())
    assert pids == set(rc[:].apply_sync(os.getpid))


def test_engines_stay_engines_meanwhile(rc, session):
    rc[:]["a"] = 5
    assert rc[:].apply_sync(lambda: a) == [5, 5]  # noqa: F821
    assert set(session.run(lambda: __import__("__main__").a).values()) == {5}


def test_asking_again_gives_the_same(rc, session):
    assert rc.become_distributed() is session
    assert len(session.scheduler_info()["workers"]) == 2


def test_afterwards_they_are_engines_again(rc, session):
    rc.stop_distributed()
    assert session.status == "closed"
    assert rc not in room._clusters
    assert (
        rc[:].apply_sync(lambda: __import__("enginery.integrations.dask").integrations.dask._worker is None)
        == [True] * 2
    )
    assert rc[:].apply_sync(int) == [0, 0]
    rc.stop_dask()


def test_a_part_of_the_engines_can_come_and_go(rc):
    client = rc.become_dask(targets=[0], nthreads=2)
    assert [each["nthreads"] for each in client.scheduler_info()["workers"].values()] == [2]
    assert rc.become_dask(targets=[1]) is client
    rc.stop_dask(targets=[0])
    assert set(client.run(os.getpid).values()) == {rc[1].apply_sync(os.getpid)}
    rc.stop_dask(targets=[1])
    assert client.status == "closed"


def test_a_worker_that_cannot_start_says_why(rc):
    with pytest.raises(Exception, match="unexpected keyword argument"):
        rc.become_dask(nobody_knows_this=1)
    assert rc not in room._clusters
    assert rc[:].apply_sync(int) == [0, 0]
