"""The MPI job an engine is a rank of, without any MPI: a module of the same name takes its place."""

from __future__ import annotations

import logging
import os
import signal
import sys
import threading
import types
from dataclasses import replace

import pytest

from enginery.engine import mpi
from enginery.engine.deaf import DeafWatch, explanation
from enginery.engine.namespace import Namespace
from enginery.engine.options import EngineOptions
from enginery.net.connection_file import ConnectionInfo

OPTIONS = EngineOptions(connection=ConnectionInfo(kind="engine", url="tcp://127.0.0.1:5"), rank=1, init_mpi=mpi.INIT)


class World:
    Get_rank = staticmethod(lambda: 1)
    Get_size = staticmethod(lambda: 4)


@pytest.fixture
def fake_mpi4py(monkeypatch):
    library = types.ModuleType("mpi4py.MPI")
    library.COMM_WORLD, library.Get_library_version = World, lambda: "Fake MPI 7\0\nbuilt somewhere"
    package = types.ModuleType("mpi4py")
    package.MPI = library
    monkeypatch.setitem(sys.modules, "mpi4py", package)
    monkeypatch.setitem(sys.modules, "mpi4py.MPI", library)


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({}, None),
        ({"OMPI_COMM_WORLD_RANK": "3", "OMPI_COMM_WORLD_SIZE": "4", "PMIX_NAMESPACE": "j"}, (3, 4, "j")),
        ({"PMI_RANK": "0", "PMI_SIZE": "2"}, (0, 2, "")),
        ({"PMIX_RANK": "5"}, (5, 0, "")),
        ({"PMI_RANK": "nonsense"}, None),
        ({"SLURM_PROCID": "1", "SLURM_NTASKS": "2"}, None),
    ],
)
def test_ranks_are_found(environment, expected):
    assert mpi.find_rank(environment, told=False) == expected


def test_tasks_of_slurm_are_ranks_if_one_says_so():
    assert mpi.find_rank({"SLURM_PROCID": "1", "SLURM_NTASKS": "2"}, told=True) == (1, 2, "")


def test_mpi_is_initialised_in_the_namespace(fake_mpi4py):
    namespace = Namespace(1)
    assert mpi.start(replace(OPTIONS, ranks=4), namespace)
    namespace.execute(compile("def f(): return mpi_rank, mpi_size", "<x>", "exec"), "")
    assert namespace.variables["f"]() == (1, 4)
    namespace.clear()
    assert "mpi_rank" in namespace.variables
    assert "f" not in namespace.variables


def test_another_mpi_than_that_of_mpiexec_is_an_error(fake_mpi4py, caplog):
    assert not mpi.start(replace(OPTIONS, ranks=2), Namespace(1))
    assert "mpiexec started 2 ranks, but MPI_COMM_WORLD has 4: mpi4py uses Fake MPI 7" in caplog.text


def test_without_mpi4py_engines_are_engines(monkeypatch, caplog):
    monkeypatch.setitem(sys.modules, "mpi4py", None)
    code = "raise ModuleNotFoundError(name='mpi4py')"
    assert mpi.start(replace(OPTIONS, init_mpi=code), Namespace(1))
    assert f"mpi4py is not installed for {sys.executable}" in caplog.text


@pytest.mark.parametrize("code", ["1/0", "import no_such_mpi"])
def test_code_that_fails_is_shown(code, caplog):
    with caplog.at_level(logging.ERROR):
        assert not mpi.start(replace(OPTIONS, init_mpi=code), Namespace(1))
    assert "MPI could not be initialised (IPEngine.init_mpi)" in caplog.text
    assert "ZeroDivisionError" in caplog.text or "no_such_mpi" in caplog.text


@pytest.mark.skipif(sys.platform == "win32", reason="signals")
def test_a_deaf_task_is_reported_and_others_are_not():
    said, handled, running = threading.Event(), [0], [7]

    def handle(_number, _frame):
        handled[0] += hears[0]

    before = signal.signal(signal.SIGINT, handle)
    watch = DeafWatch(lambda: running[0], lambda: handled[0], said.set, patience=0.05)
    try:
        hears = [0]
        os.kill(os.getpid(), signal.SIGINT)
        assert said.wait(30)
        said.clear()
        running[0] = -1
        os.kill(os.getpid(), signal.SIGINT)
        running[0], hears[0] = 8, 1
        os.kill(os.getpid(), signal.SIGINT)
    finally:
        watch.close()
        signal.signal(signal.SIGINT, before)
    assert not said.is_set()
    assert "engine 3 (rank 1 of 4)" in explanation(3, 1, 4)
