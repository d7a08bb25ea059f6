"""What C code and subprocesses print, what is displayed and published: on the way from engines to their client."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from enginery.cluster.cluster import Cluster
from enginery.errors import EngineError

pytestmark = [pytest.mark.slow, pytest.mark.skipif(sys.platform != "linux", reason="descriptors are captured on Linux")]

PATIENCE = 30


def until(rc, true):
    assert rc.link.wait_for(true, PATIENCE)


def interleaved():
    import os
    import subprocess

    for n in range(50):
        print("python", n)
        os.write(1, b"c %d\n" % n)
    subprocess.run(["echo", "from a subprocess"], check=True)
    print("and python again")


def test_order_holds_between_python_c_and_subprocesses(rc):
    result = rc[0].apply_async(interleaved)
    result.get(PATIENCE)
    lines = result.stdout.splitlines()
    assert lines[:4] == ["python 0", "c 0", "python 1", "c 1"]
    assert lines[-3:] == ["c 49", "from a subprocess", "and python again"]
    assert len(lines) == 102


def test_everything_is_there_before_the_result(lv):
    def write(n):
        import os

        os.write(1, b"%d" % n)
        os.write(2, b"%d" % -n)

    results = [lv.apply_async(write, n) for n in range(1, 300)]
    for n, result in enumerate(results, 1):
        result.get(PATIENCE)
        assert (result.stdout, result.stderr) == (str(n), str(-n))


def test_what_c_keeps_is_flushed(rc):
    def write():
        import ctypes

        ctypes.CDLL(None).printf(b"no end of line")

    result = rc[0].apply_async(write)
    result.get(PATIENCE)
    assert result.stdout == "no end of line"


def test_it_is_live(rc):
    def write(path):
        import os

        os.write(1, b"begun\n")
        with open(path) as fifo:  # opened when the client has read that line
            return fifo.read()

    import os
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "fifo")
        os.mkfifo(path)
        result = rc[0].apply_async(write, path)
        until(rc, lambda: result.stdout == "begun\n")
        assert not result.done()
        with open(path, "w") as fifo:
            fifo.write("go on")
        assert result.get(PATIENCE) == "go on"


def test_forked_children_print_to_the_task_that_runs(rc):
    def fork():
        import os

        print("parent")
        pid = os.fork()
        if pid == 0:
            print("child")
            print("without end", end="", flush=True)
            os._exit(0)
        os.waitpid(pid, 0)
        print()
        print("parent again")

    result = rc[0].apply_async(fork)
    result.get(PATIENCE)
    assert result.stdout == "parent\nchild\nwithout end\nparent again\n"


def test_streams_can_be_handed_to_subprocesses(rc):
    def hand():
        import subprocess
        import sys

        subprocess.run(["echo", "to stderr"], stdout=sys.stderr, check=True)

    result = rc[0].apply_async(hand)
    result.get(PATIENCE)
    assert result.stderr == "to stderr\n"


def test_a_task_may_close_the_descriptors(tmp_path):
    def close():
        import os

        print("before")
        os.close(1)
        os.close(2)
        print("after")

    with Cluster(n=1, profile_dir=str(tmp_path / "profile_x")) as rc:
        result = rc[0].apply_async(close)
        result.get(PATIENCE)
        assert result.stdout == "before\nafter\n"
        assert rc[0].apply_sync(int) == 0


def test_a_subprocess_that_never_stops_does_not_keep_the_task_from_ending(rc):
    def begin():
        import subprocess

        process = subprocess.Popen(["yes"])
        return process.pid

    def end(pid):
        import os
        import signal

        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)

    pid = rc[0].apply_async(begin).get(PATIENCE)
    rc[0].apply_async(end, pid).get(PATIENCE)


@pytest.mark.parametrize("is_read", [False, True])
def test_last_words_of_c_code_are_in_the_log(tmp_path, is_read):
    def crash():
        import ctypes
        import fcntl
        import termios

        library = ctypes.CDLL if is_read else ctypes.PyDLL  # which keeps other threads from running
        library(None).write(2, b"corrupted double-linked list\n", 29)
        while is_read and any(fcntl.ioctl(2, termios.FIONREAD, bytes(4))):
            pass
        ctypes.string_at(0)

    with Cluster(n=1, profile_dir=str(tmp_path / "profile_x")) as rc:
        launcher = rc.cluster.engine_set
        with pytest.raises(EngineError, match="SIGSEGV"):
            rc[0].apply_async(crash).get(PATIENCE)
        launcher.join(PATIENCE)
        output = launcher.get_output()
    assert "corrupted double-linked list" in output
    assert "in crash" in output  # the Python stack, by faulthandler


def test_c_code_that_holds_the_interpreter_does_not_wait_for_ever(rc):
    def flood(size):
        import ctypes

        text = (b"x" * 99 + b"\n") * (size // 100)
        write = ctypes.PyDLL(None).write
        sent = 0
        while sent < size:
            sent += write(1, text[sent:], size - sent)
        return sent

    assert rc[0].apply_async(flood, 3_000_000).get(PATIENCE) == 3_000_000


# --- displays and data ------------------------------------------------------------------------------------------------


def test_functions_display(rc):
    def show():
        from IPython.display import HTML, display

        print("before")
        display(HTML("<b>bold</b>"))
        display(1, display_id="one").update(2)
        print("after")

    result = rc[0].apply_async(show)
    result.get(PATIENCE)
    assert [each["data"].get("text/html", each["data"]["text/plain"]) for each in result.outputs] == [
        "<b>bold</b>",
        "2",
    ]
    assert result.stdout == "before\nafter\n"


def test_data_are_published_while_a_task_runs(rc):
    def publish():
        import time

        from enginery.datapub import publish_data

        publish_data({"step": 1, "kept": {1, 2}})
        publish_data({"step": 2})
        time.sleep(60)

    result = rc[0].apply_async(publish)
    until(rc, lambda: result.data.get("step") == 2)
    assert result.data == {"step": 2, "kept": {1, 2}}
    assert not result.done()
    result.abort(interrupt=True)
    result.wait(PATIENCE)


def test_data_are_published_on_engines_only():
    from enginery.datapub import publish_data

    with pytest.raises(RuntimeError, match="on an engine only"):
        publish_data({})


def test_names_of_published_data_are_names(rc):
    def publish():
        from enginery.datapub import publish_data

        publish_data({1: 2})

    with pytest.raises(Exception, match="these are no names"):
        rc[0].apply_sync(publish)


def test_progress_bars_of_engines_arrive(rc):
    def bar():
        from tqdm import tqdm

        return sum(tqdm(range(3), desc="busy"))

    result = rc[0].apply_async(bar)
    assert result.get(PATIENCE) == 3
    assert "\rbusy: 100%" in result.stderr


# --- much -------------------------------------------------------------------------------------------------------------


def test_a_million_lines_are_printed_in_order_and_kept_in_bounds(rc):
    def flood(count):
        for n in range(count):
            print(n)

    result = rc[:].apply_async(flood, 300_000)
    result.get(2 * PATIENCE)
    for text in result.stdout:
        lines = text.splitlines()
        assert len(text) < 12_000_000
        assert lines[-1] == "299999"
        numbers = [int(line) for line in lines if line.isdigit()]
        assert numbers == sorted(numbers)


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="this system has no full disk to offer")
def test_a_full_disk_behind_the_log_is_no_reason_to_end():
    code = (
        "import logging, os; from enginery.engine.capture import Capture\n"
        "logging.warning('not written'); Capture(); os._exit(7)"
    )
    with open("/dev/full", "w") as full:
        assert subprocess.run([sys.executable, "-c", code], stderr=full, check=False).returncode == 7
