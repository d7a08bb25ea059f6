"""What a nanny does with what is relayed to it: it is there once all has come, and goes when nobody needs it."""

from __future__ import annotations

import os
import secrets
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from enginery.engine.deposit import LEASE, SWEEP_EVERY, Deposit, folder_for
from enginery.engine.options import EngineOptions
from enginery.engine.sharing import Sharing
from enginery.net.connection_file import ConnectionInfo
from enginery.net.segment_folder import SegmentFolder, share_segment_folder
from enginery.wire.messages import Relay, Relayed

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="shared memory as files is Linux's")

SIZE = 300_000


@pytest.fixture
def name():
    return f"test-{os.getpid()}"


@pytest.fixture
def folder(name):
    made = share_segment_folder(name)
    yield made.path
    made.remove()


@pytest.fixture
def deposit(folder, name):
    return Deposit(share_segment_folder(name))


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
    for folder in (None, SegmentFolder(tmp_path / "gone", -1)):
        deposit = Deposit(folder)
        assert (deposit.is_open, deposit.place) == (False, "")
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


@pytest.fixture
def one_lease_later():
    with pytest.MonkeyPatch.context() as patch:
        now = time.time() + LEASE + 1
        yield lambda: patch.setattr("enginery.engine.deposit.time.time", lambda: now)


def test_what_a_controller_that_is_gone_had_relayed_stays_for_one_lease(deposit, folder, name, one_lease_later):
    old = deposit.take(Relay(1, SIZE, 0), portion(1, SIZE)).name
    deposit.begin_anew()
    deposit.trim(time.monotonic() + 2 * SWEEP_EVERY)
    assert files(folder) == [old]  # a task may be about to read it
    deposit = Deposit(share_segment_folder(name))  # nor does another nanny touch it
    new = deposit.take(Relay(1, SIZE, 0), portion(2, SIZE)).name
    deposit.release([old])
    assert bytes(Sharing("", 1, str(folder)).read(old, SIZE)[:1]) == b"\1"
    one_lease_later()
    deposit.trim(time.monotonic() + 2 * SWEEP_EVERY)
    assert files(folder) == [new]


def test_nannies_of_one_host_are_at_one_place(deposit, folder, name):
    other = Deposit(share_segment_folder(name))
    assert deposit.place == other.place == Sharing("", 1, str(folder)).place != ""
    assert Sharing("", 1).place == ""


def test_what_another_nanny_has_there_stays_as_long_as_that_is_there(deposit, folder, name, one_lease_later):
    other = Deposit(share_segment_folder(name))
    theirs = other.take(Relay(1, SIZE, 0), portion(2, SIZE)).name
    coming = files(folder)
    other.take(Relay(2, SIZE, 0), portion(3, 1))
    (coming,) = set(files(folder)) - set(coming)
    one_lease_later()
    deposit.trim(time.monotonic() + 2 * SWEEP_EVERY)
    assert files(folder) == sorted([theirs, coming]), "lent for longer than a lease, which is nobody's business"
    assert other.take(Relay(2, SIZE, 1), portion(3, SIZE - 1)).name == coming
    del other  # as when it is killed: its locks go with it
    deposit.trim(time.monotonic() + 4 * SWEEP_EVERY)
    assert files(folder) == []


def test_it_leaves_what_others_may_read_and_the_last_one_takes_everything_along(deposit, folder, name):
    other = Deposit(share_segment_folder(name))
    lent = deposit.take(Relay(1, SIZE, 0), portion(1, SIZE)).name
    free = deposit.take(Relay(2, SIZE, 0), portion(1, SIZE)).name
    deposit.release([free])
    deposit.leave()
    assert files(folder) == [lent]
    assert bytes(Sharing("", 1, str(folder)).read(lent, SIZE)[:1]) == b"\1"
    Deposit(share_segment_folder(name)).leave()
    other.leave()
    assert folder.exists(), "the test itself has it still"


def test_an_engine_that_does_not_find_what_was_relayed_fails_that_task_in_words(folder):
    with pytest.raises(OSError, match=r"h7-1, 300000 bytes\) could not be read"):
        Sharing("", 1, str(folder)).read("h7-1", SIZE)
    with pytest.raises(OSError, match="there is no shared memory here"):
        Sharing("", 1).read("h7-1", SIZE)


def test_hosts_beside_their_controller_need_none(tmp_path):
    socket = tmp_path / "engines"
    socket.touch()
    here = ConnectionInfo("engine", url=f"ipc://{socket}", urls=(f"ipc://{socket}", "tcp://127.0.0.1:9"))
    for n in (1, 4):
        assert folder_for(EngineOptions(connection=here, n=n)) is None


def test_a_cluster_has_one_folder_on_a_host_whoever_is_started_there(tmp_path):
    there = ConnectionInfo("engine", url="tcp://127.0.0.1:9", server_key=secrets.token_hex(20), epoch=1)
    later = replace(there, epoch=2, pid=7, url="tcp://127.0.0.1:10", urls=("tcp://127.0.0.1:10",))
    another = replace(there, cluster_id="another")
    several = [folder_for(EngineOptions(connection=info, n=n)) for info, n in ((there, 1), (there, 4), (later, 1))]
    assert len({each.path for each in several}) == 1
    path = several[0].path
    assert path.stat().st_mode & 0o777 == 0o700
    assert path.parent == Path(f"/dev/shm/enginery-{os.getuid()}")
    assert there.server_key not in str(path)
    other = folder_for(EngineOptions(connection=another))
    assert other.path != path
    for folder in (*several, other):
        assert folder.path.exists()
        folder.leave()
    assert not path.exists()
    assert not other.path.exists()


RANK = """
import os, signal, sys
from pathlib import Path
from enginery.engine.options import EngineOptions
from enginery.engine.rank import run_beside_nanny
from enginery.net.connection_file import ConnectionInfo

def be_engine(options, *, uuid, begun):
    assert Path(options.segments, "lock").exists()
    print(options.segments, flush=True)
    (nanny,) = Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()
    if sys.argv[1] != "nobody":
        os.kill(int(nanny) if sys.argv[1] == "nanny" else os.getpid(), signal.SIGKILL)
    return 7

run_beside_nanny(EngineOptions(connection=ConnectionInfo("engine", url="tcp://127.0.0.1:9")), engine_main=be_engine)
"""


@pytest.mark.parametrize("killed", ["nobody", "engine", "nanny"])
def test_a_rank_and_its_nanny_leave_nothing_whichever_of_them_is_killed(killed):
    done = subprocess.run([sys.executable, "-c", RANK, killed], stdout=subprocess.PIPE, text=True, check=False)
    # All is read, so both have ended.
    assert done.returncode == (-signal.SIGKILL if killed == "engine" else 0)
    assert done.stdout
    assert not Path(done.stdout.strip()).exists()
