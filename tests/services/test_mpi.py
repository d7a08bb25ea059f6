"""Engines that are ranks of an MPI job, with Open MPI and with MPICH."""

from __future__ import annotations

import contextlib
import os
import queue
import re
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import psutil
import pytest

import enginery
from enginery import Cluster, EngineError, RemoteError
from enginery.errors import LauncherError

pytestmark = pytest.mark.slow

SOURCE = Path(enginery.__file__).parents[1]
HERE = Path(__file__).parent
PATIENCE = 30.0
#: Open MPI refuses root, and more ranks than cores, unless told.
OPEN_MPI = {
    "OMPI_ALLOW_RUN_AS_ROOT": "1",
    "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1",
    "OMPI_MCA_rmaps_base_oversubscribe": "1",
}
RANKS = "ranks = (mpi_rank, mpi_size, engine_id)"


@pytest.fixture(scope="session")
def mpich():
    """The folder of an environment with MPICH, made by install.sh."""
    folder = HERE.parents[1] / ".services" / "mpich"
    assert (folder / "bin" / "mpiexec").exists(), f"MPICH is not in {folder}; run tests/services/install.sh"
    return folder / "bin"


@pytest.fixture(params=["openmpi", "mpich"])
def starter(request, monkeypatch):
    """An MPI: its mpiexec, and the Python whose mpi4py goes with it."""
    if request.param == "openmpi":
        for name, value in OPEN_MPI.items():
            monkeypatch.setenv(name, value)
        return ["mpiexec.openmpi"], sys.executable
    folder = request.getfixturevalue("mpich")
    monkeypatch.setenv("PYTHONPATH", str(SOURCE))
    return [str(folder / "mpiexec")], str(folder / "python")


@pytest.fixture
def cluster(tmp_path, starter):
    """Make clusters of MPI ranks; they are stopped at the end."""
    mpiexec, python = starter
    ends = contextlib.ExitStack()

    def make(**kwargs):
        config = {
            "MPILauncher": {"mpi_cmd": mpiexec},
            "MPIEngineSetLauncher": {"engine_cmd": [python, "-m", "enginery.engine"]},
        }
        one = Cluster(
            **{"engines": "mpi", "profile_dir": str(tmp_path / "profile"), "engine_timeout": PATIENCE, **kwargs},
            config=enginery_config(config),
            load_profile=False,
        )
        ends.callback(one.stop_cluster_sync)
        return one

    with ends:
        yield make


def enginery_config(plain):
    from traitlets.config import Config

    return Config(plain)


def wait_until(condition, patience=PATIENCE):
    """Wait for what nobody tells of."""
    deadline = time.monotonic() + patience
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True


@pytest.mark.row(55, 59)
def test_row_059_ranks_are_engines_and_calls_of_mpi_work(cluster):
    one = cluster(n=4)
    client = one.start_and_connect_sync()
    view = client[:]
    assert client.ids == [0, 1, 2, 3]
    view.execute(RANKS, block=True)
    assert view["ranks"] == [(rank, 4, rank) for rank in range(4)]
    view.execute(
        """
import numpy
mine = numpy.random.default_rng(mpi_rank).random(1000)
total = numpy.empty_like(mine)
MPI.COMM_WORLD.Allreduce(mine, total)
""",
        block=True,
    )
    import numpy as np

    expected = sum(np.random.default_rng(rank).random(1000) for rank in range(4))
    assert all(np.allclose(each, expected) for each in view["total"])
    assert np.allclose(sum(view["mine"]), expected)
    view.clear(block=True)
    view.execute(RANKS, block=True)


def test_a_second_job_gets_ids_in_the_order_of_its_ranks(cluster):
    one = cluster(n=2)
    client = one.start_and_connect_sync()
    one.start_engines_sync(3)
    client.wait_for_engines(5, timeout=PATIENCE)
    client[:].execute(RANKS, block=True)
    assert client[:]["ranks"] == [(0, 2, 0), (1, 2, 1), (0, 3, 2), (1, 3, 3), (2, 3, 4)]
    one.restart_engines_sync(next(iter(one.engines)))
    assert wait_until(lambda: len(client) == 5 and 0 not in client.ids)
    client[:].execute(RANKS, block=True)
    assert client[:]["ranks"] == [(0, 3, 2), (1, 3, 3), (2, 3, 4), (0, 2, 5), (1, 2, 6)]


def test_a_rank_in_a_barrier_is_interrupted_when_the_others_join_it(cluster):
    client = cluster(n=3).start_and_connect_sync()
    stuck = client[1].execute("print('on', flush=True)\nMPI.COMM_WORLD.Barrier()", block=False)
    assert wait_until(lambda: "on" in stuck.stdout)
    client.send_signal("SIGINT", targets=[1])
    # It cannot be freed by itself, which is said, with what to do.
    assert wait_until(lambda: "was interrupted 2 s ago and does not react" in stuck.stderr)
    assert "engine 1 (rank 1 of 3)" in stuck.stderr
    assert "restart_engines()" in stuck.stderr
    client[[0, 2]].execute("MPI.COMM_WORLD.Barrier()", block=True)
    with pytest.raises(RemoteError, match="KeyboardInterrupt"):
        stuck.get(timeout=PATIENCE)
    assert client[:].apply_sync(os.getpid)


def test_a_loop_in_python_is_interrupted_at_once(cluster):
    one = cluster(n=2)
    client = one.start_and_connect_sync()
    busy = client[:].execute("print('on', flush=True)\nwhile True: pass", block=False)
    assert wait_until(lambda: busy.stdout == ["on\n"] * 2)
    one.signal_engines_sync("SIGINT")
    with pytest.raises(Exception, match="KeyboardInterrupt"):
        busy.get(timeout=PATIENCE)
    assert "does not react" not in "".join(busy.stderr)


def test_a_rank_that_dies_takes_the_job_with_it_and_mpiexec_says_why(cluster):
    one = cluster(n=2)
    client = one.start_and_connect_sync()
    ends = queue.SimpleQueue()
    one.engine_set.on_stop(ends.put)
    dying = client[1].execute("import os, signal; os.kill(os.getpid(), signal.SIGKILL)", block=False)
    # mpiexec may have taken note of its end before its nanny could.
    with pytest.raises(EngineError, match="SIGKILL|died without a word, as by a signal; how, only mpiexec knows"):
        dying.get(timeout=PATIENCE)
    end = ends.get(timeout=PATIENCE)
    assert end["exit_code"] != 0
    assert re.search("signal:? 9", end["output"])


def test_another_mpi_than_that_of_mpiexec_is_refused_in_words(mpich, tmp_path, monkeypatch):
    for name, value in OPEN_MPI.items():
        monkeypatch.setenv(name, value)
    # MPICH's mpiexec, and a Python whose mpi4py finds Open MPI: each rank would be alone in its world.
    config = enginery_config({"MPILauncher": {"mpi_cmd": [str(mpich / "mpiexec")]}})
    cluster = Cluster(engines="mpi", n=2, config=config, profile_dir=str(tmp_path), load_profile=False)
    with pytest.raises(LauncherError, match="mpiexec started 2 ranks, but MPI_COMM_WORLD has 1"):
        cluster.start_and_connect_sync()


def test_what_open_mpi_has_against_root_is_shown(tmp_path, monkeypatch):
    for name in OPEN_MPI:
        monkeypatch.delenv(name, raising=False)
    cluster = Cluster(engines="mpi", n=2, profile_dir=str(tmp_path), load_profile=False)
    with pytest.raises(LauncherError, match="mpiexec has detected an attempt to run as root"):
        cluster.start_and_connect_sync()


@pytest.mark.row(56)
def test_row_056_a_controller_started_by_mpiexec(cluster, starter):
    one = cluster(controller="mpi", n=2)
    client = one.start_and_connect_sync()
    assert client.ids == [0, 1]
    ranks = psutil.Process(one.controller.pid).children(recursive=True)
    one.stop_cluster_sync()
    assert not one.is_running
    assert not psutil.wait_procs(ranks, PATIENCE)[1]


def test_a_killed_mpiexec_leaves_nobody_behind(cluster, starter):
    one = cluster(controller="mpi", n=2)
    one.start_and_connect_sync()
    started = [
        process
        for launcher in (one.controller, one.engine_set)
        for process in psutil.Process(launcher.pid).children(recursive=True)
    ]
    for mpiexec in [process for process in started if process.name().startswith(("mpiexec", "orterun", "mpirun"))]:
        mpiexec.kill()
    assert not psutil.wait_procs(started, PATIENCE)[1]


def test_mpiexec_ends_with_the_process_that_started_it(starter, tmp_path):
    mpiexec, python = starter
    script = f"""
        import sys
        from traitlets.config import Config
        from enginery import Cluster
        config = Config()
        config.MPILauncher.mpi_cmd = {mpiexec!r}
        config.MPIEngineSetLauncher.engine_cmd = [{python!r}, "-m", "enginery.engine"]
        cluster = Cluster(engines="mpi", n=2, config=config, profile_dir={str(tmp_path)!r}, load_profile=False)
        client = cluster.start_and_connect_sync()
        print(cluster.engine_set.pid, *client[:].apply_sync(__import__("os").getpid), flush=True)
        sys.stdin.read()
    """
    owner = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(script)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    pids = list(map(int, owner.stdout.readline().split()))
    assert len(pids) == 3
    owner.kill()
    owner.wait()
    owner.stdin.close()
    owner.stdout.close()
    assert wait_until(lambda: not any(Path(f"/proc/{pid}").exists() for pid in pids))


@pytest.fixture
def by_hand(tmp_path, starter, monkeypatch):
    """A controller that somebody has started, and how to start ranks beside it."""
    mpiexec, python = starter
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))
    with contextlib.ExitStack() as ends:

        def run(*command):
            ends.callback(end, subprocess.Popen(command))

        def start(*arguments, n=4):
            run(*mpiexec, "-n", str(n), python, "-m", "enginery.engine", *arguments)
            return enginery.Client(timeout=PATIENCE)

        run(sys.executable, "-m", "enginery.controller")
        yield start


def end(process):
    """Have a program leave; one that does not is killed, and fails the test."""
    process.terminate()
    try:
        process.wait(PATIENCE)
    finally:
        process.kill()


@pytest.mark.row(54)
def test_row_054_ranks_without_mpi_init(by_hand):
    with by_hand() as client:
        client.wait_for_engines(4, timeout=PATIENCE)
        assert client.ids == [0, 1, 2, 3]
        client[:].execute("import sys; initialised = 'mpi4py' in sys.modules", block=True)
        assert not any(client[:]["initialised"])
        # What was not done at the start can be done later: each engine is the very process that mpiexec started.
        client[:].execute("from mpi4py import MPI; found = MPI.COMM_WORLD.rank, MPI.COMM_WORLD.size", block=True)
        assert client[:]["found"] == [(rank, 4) for rank in range(4)]


@pytest.mark.row(57, 58)
def test_row_057_old_settings_of_mpi(by_hand, tmp_path):
    folder = tmp_path / "ipython" / "profile_default"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "ipengine_config.py").write_text(
        "c.MPI.use = 'mpi4py'\n"
        "c.MPI.init_script = 'from mpi4py import MPI as M\\nmine = M.COMM_WORLD.rank, M.COMM_WORLD.size'\n"
    )
    with by_hand(n=2) as client:
        client.wait_for_engines(2, timeout=PATIENCE)
        assert client[:]["mine"] == [(0, 2), (1, 2)]


@pytest.mark.row(48, 55)
def test_row_055_from_the_shell_with_a_profile(starter, tmp_path):
    mpiexec, python = starter
    (tmp_path / "ipcluster_config.py").write_text(
        "c.IPClusterEngines.engine_launcher_class = 'MPIEngineSetLauncher'\n"
        f"c.MPIExecLauncher.mpi_cmd = {mpiexec!r}\n"
        f"c.MPIEngineSetLauncher.engine_cmd = [{python!r}, '-m', 'enginery.engine']\n"
    )
    command = [sys.executable, "-m", "enginery.cluster"]
    for arguments in (["-n", "4"], ["-n", "2", "--engines=MPI"]):
        done = subprocess.Popen([*command, "start", *arguments, f"--profile-dir={tmp_path}"], stdout=subprocess.DEVNULL)
        try:
            with enginery.Client(profile_dir=str(tmp_path), timeout=PATIENCE) as client:
                client.wait_for_engines(int(arguments[1]), timeout=PATIENCE)
                client[:].execute(RANKS, block=True)
                assert client[:]["ranks"] == [(rank, len(client), rank) for rank in client.ids]
        finally:
            subprocess.run([*command, "stop", f"--profile-dir={tmp_path}"], check=True, timeout=PATIENCE)
            done.wait(PATIENCE)
