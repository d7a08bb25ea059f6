"""Of several that want to start, one does."""

from __future__ import annotations

import subprocess
import sys

import pytest

from enginery.net.start_lock import StartLock, TakenError, remove_abandoned

HOLD = "import sys; from pathlib import Path; from enginery.net.start_lock import StartLock; "


def test_one_has_it_until_it_lets_go(tmp_path):
    path = tmp_path / "security" / "lock"
    first = StartLock(path)
    with pytest.raises(TakenError):
        StartLock(path)
    first.release()
    first.release()
    assert not path.exists()
    second = StartLock(path)
    second.release()


def test_who_waited_on_a_file_that_is_gone_has_nothing(tmp_path, monkeypatch):
    """Somebody has opened the file, and gets the lock when the file is not there any more."""
    from enginery.net import start_lock as room

    path, real, locked = tmp_path / "lock", room._lock, []

    def late(fd):
        if not locked:
            path.unlink()  # by whoever had it until then
        locked.append(fd)
        return real(fd)

    monkeypatch.setattr(room, "_lock", late)
    lock = StartLock(path)
    assert len(locked) == 2
    monkeypatch.undo()
    with pytest.raises(TakenError):
        StartLock(path)
    lock.release()


def test_who_is_refused_for_a_file_that_is_gone_by_then_tries_again(tmp_path, monkeypatch):
    """Whoever had it has let go, as one does that only looks for what the dead have left."""
    from enginery.net import start_lock as room

    path, real = tmp_path / "lock", room._lock

    def refuse(_fd):
        monkeypatch.setattr(room, "_lock", real)
        path.unlink()
        return False

    monkeypatch.setattr(room, "_lock", refuse)
    StartLock(path).release()


def test_of_a_process_that_was_killed_nothing_is_in_the_way(tmp_path):
    path = tmp_path / "lock"
    code = HOLD + "lock = StartLock(Path(sys.argv[1])); print('held', flush=True); sys.stdin.read()"
    with subprocess.Popen([sys.executable, "-c", code, path], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        assert other.stdout.readline() == b"held\n"
        with pytest.raises(TakenError):
            StartLock(path)
        remove_abandoned(path)
        assert path.exists()
        other.kill()
    lock = StartLock(path)
    lock.release()


def test_what_a_process_that_was_killed_has_left_can_be_removed(tmp_path):
    path = tmp_path / "lock"
    path.touch()
    remove_abandoned(path)
    assert not path.exists()
    remove_abandoned(path)
