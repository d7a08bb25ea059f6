"""Interrupts: what runs ends with KeyboardInterrupt, the engine lives on; and what does not heed them is killed."""

from __future__ import annotations

import os
import signal
import sys
import time

import pytest

from enginery.cluster.cluster import Cluster
from enginery.errors import CompositeError, EngineError, RemoteError, TaskAborted

pytestmark = [pytest.mark.slow, pytest.mark.skipif(sys.platform == "win32", reason="signals are POSIX's")]
PATIENCE = 30

CELLS = {
    "sleep": "import time\ntime.sleep(600)",
    "loop": "while True:\n    pass",
    "command": "!sleep 600",
    "subprocess": "import subprocess\nsubprocess.run(['sleep', '600'])",
    "await": "import asyncio\nawait asyncio.sleep(600)",
    "read": "import os\nos.read(os.pipe()[0], 1)",
    "lock": "import threading\nlock = threading.Lock()\nlock.acquire()\nlock.acquire()",
}


def begun(rc, result, count=1):
    """Wait until the task has printed a line."""

    def said():
        texts = result.stdout if isinstance(result.stdout, list) else [result.stdout]
        return sum("go\n" in text for text in texts) == count

    assert rc.link.wait_for(said, PATIENCE)
    return result


def wait():
    import time

    print("go")
    time.sleep(600)


@pytest.mark.parametrize("code", CELLS.values(), ids=CELLS)
def test_cells_are_interrupted_wherever_they_are(rc, code):
    result = begun(rc, rc[0].execute(f"print('go')\n{code}\nprint('not reached')", silent=False))
    rc.send_signal("SIGINT", targets=0)
    with pytest.raises(RemoteError, match="KeyboardInterrupt"):
        result.get(PATIENCE)
    assert "not reached" not in result.stdout
    assert rc[0].apply_sync(int) == 0


@pytest.mark.parametrize("name", ["SIGINT", signal.SIGINT, 2])
def test_signals_go_by_name_and_by_number(rc, name):
    result = begun(rc, rc[1].apply_async(wait))
    rc.send_signal(name, targets=1)
    with pytest.raises(RemoteError) as info:
        result.get(PATIENCE)
    assert info.value.ename == "KeyboardInterrupt"


def test_all_engines_at_once(rc, dv):
    result = begun(rc, dv.apply_async(wait), 2)
    rc.send_signal("SIGINT")
    with pytest.raises(CompositeError, match="KeyboardInterrupt"):
        result.get(PATIENCE)
    assert dv.apply_sync(int) == [0, 0]


def test_the_cluster_signals_engines_too(cluster, rc, dv):
    result = begun(rc, dv.apply_async(wait), 2)
    cluster.signal_engines_sync(signal.SIGINT)
    with pytest.raises(CompositeError, match="KeyboardInterrupt"):
        result.get(PATIENCE)


def test_other_signals_reach_handlers_of_the_user(rc):
    def listen():
        import signal
        import threading

        heard = threading.Event()
        signal.signal(signal.SIGUSR1, lambda *_: heard.set())
        print("go")
        return heard.wait(600)

    result = begun(rc, rc[0].apply_async(listen))
    rc.send_signal("SIGUSR1", targets=0)
    assert result.get(PATIENCE)


def test_a_task_may_catch_an_interrupt_and_the_next_one_comes_all_the_same(rc):
    def stubborn():
        import time

        caught = 0
        while True:
            try:
                print("go")
                time.sleep(600)
            except KeyboardInterrupt:
                caught += 1
                if caught == 2:
                    return "had enough"

    result = begun(rc, rc[0].apply_async(stubborn))
    rc.send_signal("SIGINT", targets=0)
    assert rc.link.wait_for(lambda: result.stdout == "go\ngo\n", PATIENCE)
    assert not result.done()
    rc.send_signal("SIGINT", targets=0)
    assert result.get(PATIENCE) == "had enough"


def test_an_idle_engine_is_not_disturbed(rc, dv, tmp_path):
    mark = f"lambda *_: open({str(tmp_path)!r} + f'/{{engine_id}}', 'w').close()"
    dv.execute(f"import signal; before = signal.signal(signal.SIGUSR1, {mark})", block=True)
    rc.send_signal("SIGINT")
    rc.send_signal("SIGUSR1")  # comes after the other one, and tells that it has come
    deadline = time.monotonic() + PATIENCE
    while len(list(tmp_path.iterdir())) < 2:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    assert dv.apply_sync(int) == [0, 0]
    dv.execute("signal.signal(signal.SIGUSR1, before)", block=True)


def test_what_is_interrupted_is_what_runs_and_what_waits_runs_next(rc):
    first = begun(rc, rc[0].apply_async(wait))
    second = rc[0].apply_async(int)
    rc.send_signal("SIGINT", targets=0)
    with pytest.raises(RemoteError):
        first.get(PATIENCE)
    assert second.get(PATIENCE) == 0


def test_interrupts_in_a_hail_of_short_tasks_harm_nobody(rc, lv):
    results = [lv.apply_async(int) for _ in range(500)]
    for _ in range(20):
        rc.send_signal("SIGINT")
    for result in results:
        error = result.exception(PATIENCE)
        assert error is None or error.ename == "KeyboardInterrupt"
    assert rc.ids == [0, 1]


def test_aborting_with_interrupt_ends_what_runs(rc, lv):
    result = begun(rc, lv.apply_async(wait))
    result.abort(interrupt=True)
    with pytest.raises(TaskAborted):
        result.get(PATIENCE)


def abort_the_next_as_it_begins():
    """Have the abort of the task after this one come between being taken from the queue and being run."""
    from enginery.engine.current import find
    from enginery.wire.messages import Abort

    runner = find("this test")
    member, link = runner._member, runner._link
    take = member.take

    def take_and_abort():
        held = take()
        if held is not None:
            member.take = take
            with link.line.lock:
                member.heard(Abort([held.task.id], True), [])
                task, member.interrupt = member.interrupt, 0
                link.interrupt(task)
        return held

    member.take = take_and_abort


def test_aborting_what_is_just_about_to_run(rc):
    rc[0].apply_sync(abort_the_next_as_it_begins)
    with pytest.raises(TaskAborted):
        rc[0].apply_async(time.sleep, 600).get(PATIENCE)
    assert rc[0].apply_sync(int) == 0


# --- who does not heed them -------------------------------------------------------------------------------------------


def stuck_in_c(path):
    import ctypes

    fifo = os.open(path, os.O_WRONLY)
    # Far more than a fifo holds: what comes out of it tells that this holds the interpreter, and for good.
    ctypes.PyDLL(None).write(fifo, bytes(10 << 20), 10 << 20)


@pytest.fixture
def in_c(tmp_path):
    """Begins a task and waits until it is stuck in C code."""
    readers = []

    def begin(view):
        path = tmp_path / "fifo"
        os.mkfifo(path)
        result = view.apply_async(stuck_in_c, str(path))
        readers.append(os.open(path, os.O_RDONLY))
        os.read(readers[-1], 1)
        return result

    yield begin
    for each in readers:
        os.close(each)


@pytest.fixture
def own(tmp_path):
    with Cluster(n=1, profile_dir=str(tmp_path / "profile_x")) as rc:
        yield rc


def test_a_task_stuck_in_c_code_is_killed_after_a_while_and_the_engine_started_anew(own, in_c):
    pid = own[0].apply_sync(os.getpid)
    result = in_c(own.load_balanced_view())
    result.abort(kill_after=0.5, restart=True)
    with pytest.raises(EngineError):
        result.get(0)
    own.wait_for_engines(1, timeout=PATIENCE)
    assert own[-1].apply_sync(os.getpid) != pid


def test_or_not_anew(own, in_c):
    result = in_c(own[0])
    own.abort(result, kill_after=0.5)
    with pytest.raises(EngineError, match="SIGKILL"):
        result.get(0)
    assert own.ids == []


def test_who_heeds_the_interrupt_is_not_killed(own):
    pid = own[0].apply_sync(os.getpid)
    result = begun(own, own[0].apply_async(wait))
    waiting = own[0].apply_async(int)
    own.abort(kill_after=PATIENCE)
    with pytest.raises(TaskAborted):
        result.get(0)
    with pytest.raises(TaskAborted):
        waiting.get(0)
    assert own[0].apply_sync(os.getpid) == pid
