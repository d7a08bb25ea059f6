"""Post-mortem on engines: pdb on the frames of a task that failed, and tracebacks with variables."""

from __future__ import annotations

import io
import os
import signal
import sys
import textwrap

import pytest

from enginery.client.debugging import PostMortem, debug
from enginery.cluster.cluster import Cluster
from enginery.errors import EngineError

pytestmark = pytest.mark.slow
PATIENCE = 30


def divide(a, b):
    half = a / 2
    return half / b


def outer(x):
    secret = {"key": x}
    return divide(secret["key"], 0)


@pytest.fixture
def failed(rc):
    result = rc[1].apply_async(outer, 42)
    result.wait(PATIENCE)
    return result


def test_a_session_looks_at_the_frame_that_failed(failed):
    with PostMortem(failed) as session:
        assert session.engine == 1
        said = session.start()
        assert "ZeroDivisionError: float division by zero" in said
        assert "-> return half / b" in said
        assert session.is_open
        assert session.send("p half, b") == "(21.0, 0)\n"
        assert "outer" in session.send("up")
        assert session.send("p secret") == "{'key': 42}\n"
        assert session.send("secret['key'] + 1") == "43\n"
        assert "NameError" in session.send("nobody")
        session.send("q")
        assert not session.is_open


def test_what_expressions_print_comes_back(failed):
    with PostMortem(failed) as session:
        session.start()
        assert session.send("print('from', 'there')") == "from there\n"
        assert session.send("import os; os.write(1, b'raw\\n')").startswith("raw\n")


def test_the_loop_takes_commands_until_it_is_left(failed):
    said = io.StringIO()
    debug(failed, stdin=io.StringIO("p half\nq\np b\n"), stdout=said)
    text = said.getvalue()
    assert text.startswith("Post-mortem on engine 1 (pid ")
    assert "(Pdb) 21.0\n(Pdb) " in text
    assert text.endswith("(Pdb) ")


def test_or_until_there_is_no_more_input(failed, rc):
    debug(failed, stdin=io.StringIO("p half\n"), stdout=io.StringIO())
    assert rc[1].apply_sync(int) == 0


def test_the_engine_works_on_between_two_commands(rc, failed):
    with PostMortem(failed) as session:
        session.start()
        assert rc[1].apply_sync(int) == 0
        assert session.send("p half") == "21.0\n"


def test_a_command_that_takes_too_long_is_interrupted(rc, failed):
    said = io.StringIO()
    debug(failed, stdin=io.StringIO("import time; time.sleep(600)\np half\n"), stdout=said, timeout=0.5)
    assert "took longer than 0.5 s and was interrupted" in said.getvalue()
    assert "21.0\n" in said.getvalue()
    with PostMortem(failed, timeout=0.5) as session:
        session.start()
        with pytest.raises(TimeoutError):
            session.send("while True: pass")
    assert rc[1].apply_sync(int) == 0


def test_which_engine_can_be_said(rc, dv):
    dv.execute("number = engine_id * 10", block=True)
    result = dv.execute("1 / 0 + number")
    result.wait(PATIENCE)
    with PostMortem(result) as session:
        assert session.engine == 0
    with PostMortem(result, 1) as session:
        session.start()
        assert session.send("p number") == "10\n"


def test_balanced_tasks_and_maps_are_found_where_they_ran(lv):
    result = lv.map_async(divide, [1, 2, 3], [1, 0, 1])
    result.wait(PATIENCE)
    with PostMortem(result) as session:
        session.start()
        assert session.send("p a, b") == "(2, 0)\n"


def test_tracebacks_show_variables_on_request(failed):
    plain = failed.traceback()
    assert "secret" in plain  # the line of source
    assert "secret = {'key': 42}" not in plain
    told = failed.traceback(locals=True)
    assert "    secret = {'key': 42}\n" in told
    assert "    half = 21.0\n" in told
    assert "enginery" not in told


def test_what_has_not_failed_has_nothing_to_look_at(rc):
    result = rc[0].apply_async(int)
    result.get(PATIENCE)
    with pytest.raises(ValueError, match="nothing has failed"):
        result.debug()


def test_frames_go_when_newer_failures_come(rc, failed):
    for _ in range(3):
        rc[1].apply_async(divide, 1, 0).wait(PATIENCE)
    with pytest.raises(LookupError, match="keeps those of its last 3 failures"):
        failed.debug()


def test_frames_go_with_their_engine(tmp_path):
    with Cluster(n=1, profile_dir=str(tmp_path / "profile_x")) as rc:
        failed = rc[0].apply_async(divide, 1, 0)
        failed.wait(PATIENCE)
        died = rc[0].apply_async(os._exit, 1)
        died.wait(PATIENCE)
        with pytest.raises(ValueError, match="has left no frames"):
            died.debug()
        with pytest.raises(LookupError, match="not there any more"):
            failed.debug()
        with pytest.raises(EngineError):
            died.get(0)


PROGRAM = """
import sys
from enginery.client.client import Client

def outer(x):
    secret = x * 2
    return 1 / (x - x)

with Client(sys.argv[1]) as rc:
    result = rc[0].apply_async(outer, 21)
    result.wait()
    result.debug()
    print("left with", rc[0].apply_sync(int))
"""


@pytest.mark.skipif(sys.platform == "win32", reason="needs a pseudo-terminal")
def test_in_a_terminal(cluster, rc, tmp_path):
    pexpect = pytest.importorskip("pexpect")
    program = tmp_path / "program.py"
    program.write_text(textwrap.dedent(PROGRAM))
    info = tmp_path / "client.json"
    rc.link.info.save(info)
    child = pexpect.spawn(sys.executable, [str(program), str(info)], encoding="utf-8", timeout=PATIENCE)
    try:
        child.expect_exact("ZeroDivisionError")
        child.expect_exact("(Pdb) ")
        child.sendline("p secret")
        child.expect_exact("42")
        child.expect_exact("(Pdb) ")
        asleep = tmp_path / "asleep"
        os.mkfifo(asleep)
        child.sendline(f"import time; open({str(asleep)!r}, 'w').close(); time.sleep(600)")
        asleep.open().close()  # waits for the other side
        child.sendintr()
        child.expect_exact("(Pdb) ")
        child.sendline("p secret + 1")
        child.expect_exact("43")
        child.sendeof()
        child.expect_exact("left with 0")
        child.expect(pexpect.EOF)
    finally:
        child.close(force=True)
    assert child.exitstatus == 0 or child.signalstatus == signal.SIGHUP
