"""Clusters of real programs: from nothing to a result, and nothing left behind."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
from traitlets.config import Config

from enginery.cluster.cluster import Cluster
from enginery.errors import LauncherError
from enginery.net.addresses import runtime_base
from waiting import PATIENCE, is_alive

pytestmark = [pytest.mark.slow, pytest.mark.skipif(sys.platform == "win32", reason="not tried on Windows")]


@pytest.fixture
def profile(tmp_path):
    return tmp_path / "profile_x"


@pytest.fixture
def others():
    """Processes that serve other tests."""
    return set(family(os.getpid()))


@pytest.fixture
def cluster(profile, others):
    """Two engines, started and connected; ``cluster.client`` is the client."""
    cluster = Cluster(n=2, profile_dir=str(profile))
    cluster.client = cluster.start_and_connect_sync()
    yield cluster
    cluster.stop_cluster_sync()


def files_in(folder):
    return sorted(str(path) for path in Path(folder).rglob("*") if not path.is_dir())


def family(pid):
    """A process's descendants, children first."""
    return psutil.Process(pid).children(recursive=True)


def all_gone(processes):
    """Whether all processes end in good time. Those our container has not reaped yet count as ended."""
    deadline = time.monotonic() + PATIENCE
    while any(is_alive(each) for each in processes):
        if time.monotonic() > deadline:
            return False
        psutil.wait_procs(processes, timeout=0.02)
    return True


@pytest.fixture
def before():
    """Sockets that others have left, who were killed."""
    return set(files_in(runtime_base()))


def test_from_nothing_to_a_result_and_back_to_nothing(profile, before, others):
    with Cluster(n=2, profile_dir=str(profile)) as rc:
        assert rc.ids == [0, 1]
        assert rc.cluster.engine_set.n == 2
        pids = rc[:].apply_sync(os.getpid)
        processes = set(family(os.getpid())) - others
        assert set(pids) <= {each.pid for each in processes}
        assert str(profile / "security" / f"cluster-{rc.cluster.cluster_id}.json") in files_in(profile)
    assert all_gone(processes)
    assert files_in(profile) == []
    assert set(files_in(runtime_base())) <= before


def test_the_same_awaited(profile):
    async def main():
        async with Cluster(n=1, profile_dir=str(profile)) as rc:
            return await rc[0].apply_async(os.getpid)

    assert asyncio.run(main()) != os.getpid()
    assert files_in(profile) == []


def test_no_engines_but_a_controller(profile):
    with Cluster(n=0, profile_dir=str(profile)) as rc:
        assert rc.ids == []
        rc.cluster.start_engines_sync(1)
        rc.wait_for_engines(1, timeout=PATIENCE)


def test_another_process_connects_and_takes_over(cluster, profile, others):
    heir = Cluster.from_file(profile_dir=profile, cluster_id=cluster.cluster_id)
    with heir.connect_client_sync() as rc:
        assert rc[:].apply_sync(os.getpid) == cluster.client[:].apply_sync(os.getpid)
    processes = set(family(os.getpid())) - others
    heir.stop_cluster_sync()
    assert all_gone(processes)


LEAVE_BEHIND = """
import sys
from enginery.cluster.cluster import Cluster
cluster = Cluster(n=2, profile_dir=sys.argv[1], cluster_id="left", shutdown_atexit=False)
cluster.start_and_connect_sync()
print(cluster)
"""


def test_what_a_process_leaves_behind_another_one_takes_over(profile, before):
    done = subprocess.run(
        [sys.executable, "-c", LEAVE_BEHIND, str(profile)], capture_output=True, text=True, check=True, timeout=PATIENCE
    )
    assert "<Cluster(cluster_id='left', profile='x', controller=<running>" in done.stdout
    heir = Cluster.from_file(profile_dir=profile, cluster_id="left")
    with heir.connect_client_sync() as rc:
        endless = rc[0].execute("print('begun'); import time; time.sleep(600)")
        assert wait_until(lambda: "begun" in endless.stdout)
        heir.signal_engines_sync("SIGINT")
        with pytest.raises(Exception, match="KeyboardInterrupt"):
            endless.get(timeout=PATIENCE)
        heir.scale_sync(3)
        assert rc.link.wait_for(lambda: len(rc) == 3, PATIENCE)  # the cluster has asked with a client of its own
        heir.restart_engines_sync()
        assert rc.link.wait_for(lambda: len(rc) == 3 and min(rc.ids) > 2, PATIENCE)
        processes = [psutil.Process(each.pid) for each in rc.link.engines.values()]
        processes += [psutil.Process(each.pid) for each in heir.launchers()]
    heir.stop_cluster_sync()
    assert all_gone(processes)
    assert files_in(profile) == []
    assert set(files_in(runtime_base())) <= before


def test_one_engine_is_signalled(cluster):
    rc = cluster.client
    result = rc[0].execute(f"print('begun'); import time; time.sleep({PATIENCE})")
    assert wait_until(lambda: "begun" in result.stdout)
    cluster.signal_engine_sync(0, signal.SIGINT)
    with pytest.raises(Exception, match="KeyboardInterrupt"):
        result.get(timeout=PATIENCE)
    assert rc[:].apply_sync(int) == [0, 0]


def test_one_engine_is_stopped(cluster):
    rc = cluster.client
    cluster.stop_engine_sync(1)
    assert wait_until(lambda: rc.ids == [0])
    assert rc[0].apply_sync(int) == 0


def test_one_engine_is_restarted(cluster):
    rc = cluster.client
    before = rc[1].apply_sync(os.getpid)
    cluster.restart_engine_sync(1)
    assert wait_until(lambda: len(rc.ids) == 2 and before not in {each.pid for each in rc.link.engines.values()})
    assert before not in rc[:].apply_sync(os.getpid)


def test_an_engine_set_is_signalled(cluster, profile, tmp_path):
    rc = cluster.client
    first = next(iter(cluster.engines))
    cluster.start_engines_sync(1, "other")
    rc.wait_for_engines(3, timeout=PATIENCE)
    dv = rc[:]
    mark = f"open({str(tmp_path)!r} + '/' + name, 'w').close()"
    dv.execute(f"import signal; signal.signal(signal.SIGUSR1, lambda *_: {mark})", block=True)
    for each in rc.ids:
        rc[each].push({"name": f"signalled-{each}"}, block=True)
    cluster.signal_engines_sync("SIGUSR1", first)
    assert wait_until(lambda: {each.name for each in tmp_path.glob("signalled-*")} == {"signalled-0", "signalled-1"})
    cluster.signal_engines_sync(signal.SIGUSR1)
    assert wait_until((tmp_path / "signalled-2").exists)


def test_engine_sets_are_restarted(cluster):
    rc = cluster.client
    before = set(rc[:].apply_sync(os.getpid))
    cluster.restart_engines_sync()
    assert wait_until(lambda: len(rc.ids) == 2 and before.isdisjoint(rc[:].apply_sync(os.getpid)))


def test_engines_that_fail_end_the_start_at_once(profile):
    config = Config()
    config.LocalEngineSetLauncher.engine_cmd = [sys.executable, "-c", "import sys; sys.exit('no such luck')"]
    cluster = Cluster(n=2, profile_dir=str(profile), config=config)
    with pytest.raises(LauncherError, match="no such luck") as caught:
        cluster.start_and_connect_sync()
    assert caught.value.code == 1
    assert not cluster.is_running
    assert files_in(profile) == []


def test_a_dead_host_is_noticed(cluster, caplog):
    with caplog.at_level(logging.WARNING, "enginery.cluster"):
        launcher = cluster.engine_set
        os.kill(launcher.pid, signal.SIGKILL)
        assert launcher.join(PATIENCE)
        assert wait_until(lambda: cluster.client.ids == [])
        assert wait_until(lambda: "killed by SIGKILL" in caplog.text)  # told by a thread of its own


SCRIPT = """
import sys, time
from enginery.cluster.cluster import Cluster
with Cluster(n=2, profile_dir=sys.argv[1]) as rc:
    print("up", flush=True)
    rc[:].apply_sync(time.sleep, 60)
"""


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM", "SIGKILL"])
def test_nothing_is_left_when_the_parent_goes(profile, before, name):
    with subprocess.Popen(
        [sys.executable, "-c", SCRIPT, str(profile)], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as parent:
        assert parent.stdout.readline() == "up\n"
        processes = family(parent.pid)
        assert len(processes) >= 4
        parent.send_signal(getattr(signal, name))
        parent.wait(PATIENCE)
        assert all_gone(processes)
    assert wait_until(lambda: files_in(profile) == [])
    assert set(files_in(runtime_base())) <= before


def wait_until(condition):
    """For what nobody can wait for: whether ``condition`` comes true in good time."""
    deadline = time.monotonic() + PATIENCE
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.01)
    return True
