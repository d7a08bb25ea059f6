from __future__ import annotations

import functools
import os
import signal
import subprocess
import sys

import pytest

from enginery.engine import watch
from enginery.engine.watch import Death, PidfdWatch, ThreadWatch, has_ended, reap, take_death, watch_process

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="processes are forked")
PATIENCE = 20.0


def waiting_child() -> tuple[int, int]:
    """A child that ends with code 3 when the returned descriptor is closed."""
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(writer)
        os.read(reader, 1)
        os._exit(3)
    os.close(reader)
    return pid, writer


@pytest.fixture(params=["pidfd", "thread"])
def watch_child(request, monkeypatch):
    if request.param == "pidfd" and not watch.has_pidfd():
        pytest.skip("no pidfds here")
    monkeypatch.setattr(watch, "has_pidfd", lambda: request.param == "pidfd")
    return watch.watch_child


def test_a_child_is_watched_until_its_end(watch_child):
    pid, hold = waiting_child()
    child = watch_child(pid)
    assert not has_ended(child)
    assert take_death(child) is None
    assert f"pid={pid} running" in repr(child)
    os.close(hold)
    assert has_ended(child, PATIENCE)
    death = take_death(child)
    assert death.code == 3
    assert death.peak > 1_000_000
    child.close()


def test_a_signal_is_told_from_an_exit_code(watch_child):
    pid, hold = waiting_child()
    child = watch_child(pid)
    child.send(signal.SIGTERM)
    assert has_ended(child, PATIENCE)
    assert take_death(child).code == -15
    # Nobody is there any more to be hurt.
    child.send(signal.SIGTERM)
    child.close()
    child.close()
    os.close(hold)


def test_a_stranger_is_watched_until_its_end(watch_child):
    process = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    stranger = watch_process(process.pid)
    assert not has_ended(stranger)
    process.communicate(timeout=PATIENCE)
    assert has_ended(stranger, PATIENCE)
    stranger.close()


def test_a_process_that_is_gone_cannot_be_watched(watch_child):
    pid, hold = waiting_child()
    os.close(hold)
    assert reap(pid) is not None
    with pytest.raises(ProcessLookupError):
        watch_process(pid)


def test_a_closed_watch_counts_as_ended():
    pid, hold = waiting_child()
    child = PidfdWatch(pid)
    child.close()
    assert has_ended(child)
    os.close(hold)
    reap(pid)


def test_a_thread_watch_keeps_what_its_wait_returned():
    pid, hold = waiting_child()
    child = ThreadWatch(pid, functools.partial(reap, pid))
    os.close(hold)
    assert has_ended(child, PATIENCE)
    assert isinstance(take_death(child), Death)
    # Asked again, it still knows.
    assert take_death(child).code == 3
    child.close()


@pytest.mark.skipif(sys.platform != "linux", reason="the kernel ends orphans on Linux only")
def test_a_tied_child_ends_with_its_parent():
    script = """
import os, signal, sys
from enginery.engine.watch import tie_to_parent
parent = os.getpid()
if os.fork() == 0:
    tie_to_parent(parent)
    print(os.getpid(), flush=True)
    signal.pause()
signal.pause()
"""
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True) as parent:
        child = watch_process(int(parent.stdout.readline()))
        assert not has_ended(child)
        parent.kill()
        assert has_ended(child, PATIENCE)
        child.close()


def test_a_process_without_a_host_has_no_lifeline():
    assert watch.host_gone_fd() == -1
