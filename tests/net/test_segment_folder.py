"""The folder of a cluster's segments: private, known to be in use by its lock, swept when its maker was killed."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from enginery.net import segment_folder
from enginery.net.addresses import segments_base
from enginery.net.segment_folder import make_segment_folder, sweep_segment_folders, usable

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="shared memory as files is Linux's")


@pytest.fixture
def base(monkeypatch):
    path = Path(f"/dev/shm/enginery-test-{os.getpid()}")
    monkeypatch.setattr(segment_folder, "segments_base", lambda: path)
    yield path
    shutil.rmtree(path, ignore_errors=True)


def test_the_users_own_place():
    assert segments_base() == Path(f"/dev/shm/enginery-{os.getuid()}")


def test_a_folder_is_private_and_goes_without_a_trace(base):
    one, other = make_segment_folder(), make_segment_folder()
    assert one.path != other.path
    for path in (base, one.path):
        assert path.stat().st_mode & 0o777 == 0o700
    (one.path / "c1-1").touch()
    one.remove()
    one.remove()
    assert list(base.iterdir()) == [other.path]
    other.remove()
    assert not base.exists()


def test_folders_in_use_are_not_swept(base):
    folder = make_segment_folder()
    assert sweep_segment_folders() == []
    assert folder.path.exists()
    folder.remove()


def test_folders_of_the_killed_are_swept(base):
    program = (
        "import os, signal; from pathlib import Path; from enginery.net import segment_folder;"
        f"segment_folder.segments_base = lambda: Path({str(base)!r});"
        "folder = segment_folder.make_segment_folder(); (folder.path / 'c1-1').touch();"
        "print(folder.path, flush=True); os.kill(os.getpid(), signal.SIGKILL)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == -signal.SIGKILL
    path = Path(done.stdout.strip())
    assert (path / "c1-1").exists()
    assert sweep_segment_folders() == [path]
    assert not base.exists()


def test_a_folder_without_a_lock_is_swept_when_it_is_empty(base):
    for name in ("empty", "other"):
        (base / name).mkdir(parents=True)
    (base / "other" / "file").touch()
    sweep_segment_folders()
    assert [path.name for path in base.iterdir()] == ["other"]


def test_nothing_to_sweep(base):
    assert sweep_segment_folders() == []


def test_none_where_there_is_too_little(base, monkeypatch):
    monkeypatch.setattr(segment_folder, "LEAST", 1 << 60)
    assert make_segment_folder() is None
    assert not base.exists()


@pytest.mark.parametrize("place", [None, Path("/nowhere/at/all")])
def test_none_where_there_is_no_such_place(monkeypatch, place):
    monkeypatch.setattr(segment_folder, "segments_base", lambda: place)
    assert make_segment_folder() is None
    assert sweep_segment_folders() == []


def test_none_where_somebody_has_taken_the_place(base, tmp_path):
    (tmp_path / "empty").mkdir()
    base.symlink_to(tmp_path)
    try:
        assert make_segment_folder() is None
        assert sweep_segment_folders() == []
    finally:
        base.unlink()
    assert (tmp_path / "empty").exists(), "nothing is swept where a link leads"


def test_makers_and_sweepers_do_not_disturb_each_other(base):
    made, ended = [], threading.Event()

    def sweep():
        while not ended.is_set():
            sweep_segment_folders()

    sweepers = [threading.Thread(target=sweep) for _ in range(2)]
    for thread in sweepers:
        thread.start()
    try:
        for _ in range(100):
            folder = make_segment_folder()
            assert folder is not None
            assert (folder.path / segment_folder.LOCK).exists()
            made.append(folder)
            if len(made) > 3:
                made.pop(0).remove()
    finally:
        ended.set()
        for thread in sweepers:
            thread.join()
    for folder in made:
        assert folder.path.exists()
        folder.remove()


def test_a_folder_that_is_not_here_is_of_no_use(base, caplog):
    folder = make_segment_folder()
    assert usable(str(folder.path)) == str(folder.path)
    assert usable("") == ""
    assert not caplog.messages
    folder.remove()
    assert usable(str(folder.path)) == "", "as in a container that shares the sockets and nothing else"
    assert "is not here" in caplog.text
