"""What a nanny does with what is relayed to it: it is there once all has come, and goes when nobody needs it."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

import pytest

from enginery.engine.deposit import LEASE, SWEEP_EVERY, Deposit, folder_for
from enginery.engine.options import EngineOptions
from enginery.engine.sharing import Sharing
from enginery.net.connection_file import ConnectionInfo
from enginery.net.segment_folder import make_segment_folder
from enginery.wire.messages import Relay, Relayed

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="shared memory as files is Linux's")

SIZE = 300_000


@pytest.fixture
def folder():
    made = make_segment_folder()
    yield made.path
    made.remove()


@pytest.fixture
def deposit(folder):
    return Deposit(str(folder))


def portion(byte, size):
    return [memoryview(bytes([byte]) * size)]


def files(folder):
    return sorted(path.name for path in folder.iterdir() if path.name != "lock")


def test_engines_find_what_has_come_in_portions(deposit, folder):
    assert deposit.take(Relay(7, SIZE, 0), portion(1, 100_000)) == Relayed(7, 100_000)
    assert deposit.take(Relay(8, 1000, 0), portion(9, 1000)).name
    last = deposit.take(Relay(7, SIZE, 100_000), portion(2, 200_000))
    assert (last.number, last.arrived) == (7, SIZE)
    seen = Sharing("", 3, str(folder)).read(last.name, SIZE)
    assert bytes(seen) == b"\1" * 100_000 + b"\2" * 200_000
    seen[0] = 5  # the engine's own copy
    assert Sharing("", 4, str(folder)).read(last.name, SIZE)[0] == 1


def test_nothing_can_be_put_where_there_is_no_shared_memory(tmp_path):
    for folder in ("", str(tmp_path / "gone")):
        deposit = Deposit(folder)
        assert not deposit.is_open
        assert deposit.take(Relay(1, SIZE, 0), portion(1, SIZE)) == Relayed(1, -1)


@pytest.mark.parametrize("frames", [[], portion(1, SIZE + 1), portion(1, 1) * 2], ids=["none", "too much", "two"])
def test_what_does_not_fit_is_refused(deposit, frames):
    assert deposit.take(Relay(1, SIZE, 0), frames) == Relayed(1, -1)
    assert deposit.take(Relay(1, SIZE, 10), portion(1, 10)) == Relayed(1, -1)


def test_memory_is_used_again_once_it_is_given_back(deposit, folder):
    first = deposit.take(Relay(1, SIZE, 0), portion(1, SIZE)).name
    second = deposit.take(Relay(2, SIZE, 0), portion(2, SIZE)).name
    assert files(folder) == sorted([first, second])
    deposit.release([first])
    third = deposit.take(Relay(3, SIZE, 0), portion(3, SIZE)).name
    assert files(folder) == sorted([second, third])


def test_what_a_controller_that_is_gone_had_relayed_stays_for_one_lease(deposit, folder):
    old = deposit.take(Relay(1, SIZE, 0), portion(1, SIZE)).name
    deposit.begin_anew()
    deposit.trim(time.monotonic() + 2 * SWEEP_EVERY)
    assert files(folder) == [old]  # a task may be about to read it
    deposit = Deposit(str(folder))  # nor does another nanny touch it
    new = deposit.take(Relay(1, SIZE, 0), portion(2, SIZE)).name
    deposit.release([old])
    assert bytes(Sharing("", 1, str(folder)).read(old, SIZE)[:1]) == b"\1"
    moments = iter([time.time() + LEASE + 1])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("enginery.engine.deposit.time.time", lambda: next(moments))
        deposit.trim(time.monotonic() + 2 * SWEEP_EVERY)
    assert files(folder) == [new]


def test_it_takes_everything_along(deposit, folder):
    deposit.take(Relay(1, SIZE, 0), portion(1, SIZE))
    deposit.remove()
    assert not folder.exists()


def test_hosts_beside_their_controller_need_none(tmp_path):
    socket = tmp_path / "engines"
    socket.touch()
    here = ConnectionInfo("engine", url=f"ipc://{socket}", urls=(f"ipc://{socket}", "tcp://127.0.0.1:9"))
    there = ConnectionInfo("engine", url="tcp://127.0.0.1:9", urls=("tcp://127.0.0.1:9",))
    assert folder_for(EngineOptions(connection=here, n=4)) is None
    assert folder_for(EngineOptions(connection=there, n=1)) is None
    made = folder_for(EngineOptions(connection=there, n=2))
    assert made.path.stat().st_mode & 0o777 == 0o700
    assert made.path.parent == Path(f"/dev/shm/enginery-{os.getuid()}")
    made.remove()
