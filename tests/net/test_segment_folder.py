"""The folders of a cluster's segments: private, known to be in use by a lock, swept when those who used them were killed."""

from __future__ import annotations

import fcntl
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
from enginery.net.segment_folder import (
    WORD,
    make_segment_folder,
    share_segment_folder,
    sweep_segment_folders,
    usable,
    word_of,
)

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


def test_who_shares_a_folder_has_it_until_the_last_one_leaves(base):
    one, other = share_segment_folder("ours"), share_segment_folder("ours")
    assert one.path == other.path == base / "ours"
    for path in (base, one.path):
        assert path.stat().st_mode & 0o777 == 0o700
    (one.path / "h1-1").touch()
    one.leave()
    assert sweep_segment_folders() == []
    assert (other.path / "h1-1").exists()
    third = share_segment_folder("ours")
    other.leave()
    assert (third.path / "h1-1").exists()
    third.leave()
    third.leave()
    assert not base.exists()


def test_only_those_who_see_the_very_folder_know_its_word(base):
    one = share_segment_folder("ours")
    word = word_of(str(one.path))
    assert len(word) == WORD
    assert word_of(str(share_segment_folder("ours").path)) == word
    assert word_of(str(share_segment_folder("theirs").path)) not in {word, ""}
    one.leave()
    shutil.rmtree(base)
    assert word_of(str(one.path)) == ""
    assert word_of("") == ""
    again = share_segment_folder("ours")
    assert again.path == one.path
    assert word_of(str(again.path)) != word, "another folder of the same name is another one"


def test_who_is_late_to_leave_does_not_take_the_next_folder_of_that_name(base):
    one = share_segment_folder("ours")
    shutil.rmtree(one.path)
    next_one = share_segment_folder("ours")
    one.leave()
    assert (next_one.path / segment_folder.LOCK).exists()
    next_one.leave()
    assert not base.exists()


def test_who_comes_in_the_moment_in_which_the_last_one_leaves_gets_a_new_folder(base, monkeypatch):
    last, plain = share_segment_folder("ours"), fcntl.flock

    def late(lock, how):
        monkeypatch.setattr(fcntl, "flock", plain)
        last.leave()
        plain(lock, how)

    monkeypatch.setattr(fcntl, "flock", late)
    folder = share_segment_folder("ours")
    assert len(word_of(str(folder.path))) == WORD
    assert sweep_segment_folders() == []


def test_who_is_killed_while_it_takes_a_folder_away_is_no_loss(base, monkeypatch):
    folder = share_segment_folder("ours")
    other = segment_folder.SegmentFolder(folder.path, os.dup(folder._lock))  # as after a fork
    for name in ("h1-1", "h1-2"):
        (folder.path / name).touch()
    plain, lock = os.unlink, folder.path / segment_folder.LOCK

    def killed(*_args, **_kwargs):
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "unlink", killed)
    monkeypatch.setattr(Path, "unlink", killed)
    with pytest.raises(KeyboardInterrupt):
        folder.leave()
    monkeypatch.setattr(Path, "unlink", lambda path, **_: plain(path))
    with pytest.raises(KeyboardInterrupt):
        folder.leave()
    assert list(folder.path.iterdir()) == [lock], "it is the last to go"
    monkeypatch.setattr(os, "unlink", plain)
    other.leave()
    assert not base.exists()


PROGRAM = """
import os, signal, sys
from pathlib import Path
from enginery.net import segment_folder
from enginery.net.segment_folder import share_segment_folder, sweep_segment_folders, word_of
segment_folder.segments_base = lambda: Path({base!r})
"""


def program(base, *lines):
    return subprocess.Popen(
        [sys.executable, "-c", "\n".join([PROGRAM.format(base=str(base)), *lines])],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def test_the_killed_do_not_hold_a_shared_folder(base):
    mine = share_segment_folder("ours")
    with program(base, "folder = share_segment_folder('ours')", "print(folder.path, flush=True)", "input()") as other:
        assert other.stdout.readline().strip() == str(mine.path)
        mine.leave()
        assert mine.path.exists()
        assert sweep_segment_folders() == []
        other.kill()
        other.wait()
    assert sweep_segment_folders() == [mine.path]
    assert not base.exists()


def test_forked_processes_leave_together(base):
    # As an engine and its nanny: whoever goes last, or is the only one that was not killed, has nothing left to do.
    lines = [
        "folder = share_segment_folder('ours')",
        "child = os.fork()",
        "if not child: sys.stdin.read(1); folder.leave(); os._exit(0)",
        "print('up', flush=True)",
        "os.kill(os.getpid(), signal.SIGKILL)",
    ]
    with program(base, *lines) as parent:
        assert parent.stdout.readline() == "up\n"
        parent.wait()
        assert sweep_segment_folders() == []
        parent.stdin.write("x")
        parent.stdin.close()
        assert parent.stdout.read() == "", "the child has ended"
    assert not base.exists()


def test_those_who_come_and_leave_at_once_do_not_disturb_each_other(base):
    lines = [
        "for number in range(30):",
        "    sweep_segment_folders()",
        "    folder = share_segment_folder('ours')",
        "    word, mine = word_of(str(folder.path)), folder.path / f'h{os.getpid()}-{number}'",
        "    mine.touch()",
        "    sweep_segment_folders()",
        "    assert word and word == word_of(str(folder.path)), (word, number)",
        "    assert mine.exists(), number",
        "    folder.leave()",
    ]
    several = [program(base, *lines) for _ in range(3)]
    for one in several:
        one.communicate()
    assert [one.returncode for one in several] == [0] * 3
    assert not base.exists()


def test_a_folder_somebody_is_taking_away_is_waited_for_a_little_while(base, monkeypatch):
    monkeypatch.setattr(segment_folder, "PAUSE", 0.0)
    folder = share_segment_folder("ours")
    lock = os.open(folder.path / segment_folder.LOCK, os.O_RDWR)
    os.close(folder._lock)
    fcntl.flock(lock, fcntl.LOCK_EX)  # and stays, as one that was stopped in that moment
    try:
        assert share_segment_folder("ours") is None
    finally:
        os.close(lock)
    assert share_segment_folder("ours").path == folder.path
    assert [path.name for path in base.iterdir()] == ["ours"], "nothing is left of the attempts"


def test_nothing_is_shared_where_somebody_has_taken_the_place(base, tmp_path):
    (tmp_path / "ours").mkdir()
    (tmp_path / "ours" / segment_folder.LOCK).touch()
    base.symlink_to(tmp_path)
    try:
        assert share_segment_folder("ours") is None
    finally:
        base.unlink()
