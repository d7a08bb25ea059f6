"""joblib, and scikit-learn with it, on engines."""

from __future__ import annotations

import os

import pytest

joblib = pytest.importorskip("joblib")

from enginery.cluster.cluster import Cluster  # noqa: E402
from enginery.errors import RemoteError  # noqa: E402
from enginery.integrations import joblib as room  # noqa: E402

pytestmark = pytest.mark.slow


def square(x):
    return x * x


def who(_):
    return os.getpid()


@pytest.fixture
def registered(lv):
    lv.register_joblib_backend()
    return lv


@pytest.mark.parametrize("name", ["ipyparallel", "enginery"])
def test_calls_run_on_engines(rc, registered, name):
    with joblib.parallel_backend(name):
        assert joblib.Parallel()(joblib.delayed(square)(n) for n in range(100)) == [n * n for n in range(100)]
        assert set(joblib.Parallel()(joblib.delayed(who)(n) for n in range(100))) <= set(rc[:].apply_sync(os.getpid))


def test_the_number_of_jobs_is_that_of_engines(registered):
    with joblib.parallel_backend("enginery"):
        assert joblib.effective_n_jobs() == 2
        assert joblib.effective_n_jobs(1) == 1
        assert joblib.effective_n_jobs(100) == 2
        assert joblib.effective_n_jobs(-2) == 1
    with pytest.raises(ValueError, match="no meaning"):
        room.EngineryBackend(registered).effective_n_jobs(0)


def test_errors_come_back_and_the_rest_is_taken_back(rc, registered):
    def fail(n):
        import time

        if n == 3:
            raise ValueError("no 3")
        time.sleep(0.01)

    with joblib.parallel_backend("enginery"), pytest.raises(RemoteError, match="no 3"):
        joblib.Parallel()(joblib.delayed(fail)(n) for n in range(1000))
    assert rc[:].apply_sync(int) == [0, 0]


def test_results_can_be_had_one_by_one(registered):
    with joblib.parallel_backend("enginery"):
        results = joblib.Parallel(return_as="generator")(joblib.delayed(square)(n) for n in range(20))
        assert list(results) == [n * n for n in range(20)]


def test_direct_views_lend_their_engines(rc):
    rc[:].register_joblib_backend("direct")
    with joblib.parallel_backend("direct"):
        pids = joblib.Parallel()(joblib.delayed(who)(n) for n in range(10))
    assert set(pids) <= set(rc[:].apply_sync(os.getpid))


def test_it_can_be_the_default(registered, monkeypatch):
    monkeypatch.setattr("joblib.parallel.default_parallel_config", dict(joblib.parallel.default_parallel_config))
    monkeypatch.setattr("joblib.parallel.DEFAULT_BACKEND", joblib.parallel.DEFAULT_BACKEND)
    registered.register_joblib_backend(make_default=True)
    assert isinstance(joblib.parallel.get_active_backend()[0], room.EngineryBackend)


def test_cross_validation_gives_what_it_gives_alone(registered):
    datasets = pytest.importorskip("sklearn.datasets")
    from sklearn.model_selection import cross_val_score
    from sklearn.svm import SVC

    x, y = datasets.load_iris(return_X_y=True)
    alone = cross_val_score(SVC(), x, y, cv=5)
    with joblib.parallel_backend("ipyparallel"):
        assert list(cross_val_score(SVC(), x, y, cv=5)) == list(alone)


def test_without_a_view_the_default_cluster_is_used(tmp_path, monkeypatch):
    monkeypatch.setenv("IPP_PROFILE_DIR", str(tmp_path / "profile_x"))
    monkeypatch.setattr(room, "_default", None)
    with Cluster(n=2, cluster_id="", profile_dir=str(tmp_path / "profile_x")) as rc:
        room.register_joblib_backend("default")
        with joblib.parallel_backend("default"):
            pids = joblib.Parallel()(joblib.delayed(who)(n) for n in range(4))
        assert set(pids) <= set(rc[:].apply_sync(os.getpid))
        room._default.close()


def test_and_where_there_is_none_one_is_started(tmp_path, monkeypatch):
    monkeypatch.setenv("IPP_PROFILE_DIR", str(tmp_path / "profile_y"))
    monkeypatch.setattr(room, "_default", None)
    view = room.EngineryBackend().view
    try:
        assert len(view) == os.cpu_count()
        assert view.apply_sync(square, 3) == 9
    finally:
        view.client.cluster.stop_cluster_sync()
        view.client.close()
