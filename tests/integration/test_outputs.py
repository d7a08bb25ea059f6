"""What tasks print: all of it, in order, before the reply, with the right result and no other."""

from __future__ import annotations

import sys
import time

import pytest

PATIENCE = 30
pytestmark = pytest.mark.slow


def say(text, end="\n"):
    print(text, end=end)
    return text


def test_it_is_there_when_the_result_is(dv, lv):
    for n in range(30):
        result = lv.apply_async(say, f"line {n}")
        result.get()
        assert result.stdout == f"line {n}\n"
        assert result.stderr == ""
    result = dv.apply_async(say, "both")
    result.get()
    assert result.stdout == ["both\n", "both\n"]


def test_each_result_gets_its_own(lv):
    results = [lv.apply_async(say, f"{n}") for n in range(300)]
    for n, result in enumerate(results):
        assert result.get(PATIENCE) == f"{n}"
        assert result.stdout == f"{n}\n"


def test_both_streams_in_order(rc):
    def both():
        for n in range(5):
            print("out", n)
            print("err", n, file=sys.stderr)

    result = rc[0].apply_async(both)
    result.get()
    assert result.stdout == "".join(f"out {n}\n" for n in range(5))
    assert result.stderr == "".join(f"err {n}\n" for n in range(5))


def test_big_outputs_arrive_whole(rc):
    def much():
        for n in range(20_000):
            print(n, "x" * 50)

    result = rc[0].apply_async(much)
    result.get(PATIENCE)
    lines = result.stdout.splitlines()
    assert len(lines) == 20_000
    assert lines[0] == "0 " + "x" * 50
    assert lines[-1] == "19999 " + "x" * 50
    one = rc[0].apply_async(say, "y" * 3_000_000, "")
    one.get(PATIENCE)
    assert one.stdout == "y" * 3_000_000


def test_more_than_a_result_keeps_says_so(rc):
    result = rc[0].apply_async(lambda: [print("z" * 100_000) for _ in range(120)] and None)
    result.get(PATIENCE)
    assert len(result.stdout) < 11_000_000
    assert "were dropped" in result.stdout
    assert result.stdout.rstrip().endswith(("z", "]"))  # the last words may be that some were dropped


def test_it_comes_while_the_task_runs(rc, tmp_path):
    gate = tmp_path / "gate"

    def talk(path):
        import os

        print("first")
        while not os.path.exists(path):
            time.sleep(0.005)
        print("second")

    result = rc[0].apply_async(talk, str(gate))
    deadline = time.monotonic() + PATIENCE
    while result.stdout != "first\n":
        assert time.monotonic() < deadline
        time.sleep(0.005)
    assert not result.done()
    gate.touch()
    result.get(PATIENCE)
    assert result.stdout == "first\nsecond\n"


def test_of_failing_tasks(rc):
    result = rc[0].apply_async(lambda: (print("before"), 1 / 0))
    assert result.exception(PATIENCE).ename == "ZeroDivisionError"
    assert result.stdout == "before\n"


def test_of_maps_and_source(dv, lv):
    mapped = lv.map_async(say, ["a", "b", "c"])
    mapped.get(PATIENCE)
    assert mapped.stdout == ["a\n", "b\n", "c\n"]
    executed = dv.execute("print('executed')")
    executed.get(PATIENCE)
    assert executed.stdout == ["executed\n"] * 2


def test_of_threads_that_outlive_their_task(rc):
    """Their text is not lost on the engine, and harms no later task."""

    code = """
import threading
go, over = threading.Event(), threading.Event()

def talk():
    go.wait(10)
    print("late")
    over.set()

threading.Thread(target=talk, daemon=True).start()
print("on time")
"""
    result = rc[0].execute(code)
    result.get(PATIENCE)
    assert result.stdout == "on time\n"
    rc[0].execute("go.set(); assert over.wait(10)").get(PATIENCE)
    assert result.stdout == "on time\n"
    assert rc[0].apply_async(say, "fine").get(PATIENCE) == "fine"


def test_odd_text(rc):
    texts = [
        "",
        "\n",
        "no end",
        "ünï\u2028cödé \U0001f600",
        "nul\0byte",
        "\r\x1b[31mred",
        "\ud800".encode("utf-8", "replace").decode(),
    ]
    for text in texts:
        result = rc[0].apply_async(say, text, "")
        assert result.get(PATIENCE) == text
        assert result.stdout == text


def test_text_that_no_encoding_knows_does_not_end_the_engine(rc):
    # A lone surrogate, as file names with broken encodings give.
    result = rc[0].apply_async(say, "a\udc80b", "")
    result.wait(PATIENCE)
    assert result.done()
    assert rc[0].apply_sync(int) == 0


def test_streaming_shows_it_under_labels(rc, dv, capsys):
    result = dv.apply_async(say, "hello")
    with result.stream_output():
        result.get(PATIENCE)
    # Together, unless one came too late for that.
    assert capsys.readouterr().out in {
        "[stdout:0-1] hello\n",
        "[stdout:0] hello\n[stdout:1] hello\n",
        "[stdout:1] hello\n[stdout:0] hello\n",
    }
    result.display_outputs()
    assert capsys.readouterr().out == "[stdout:0-1] hello\n"


def test_writing_what_is_no_text(rc):
    error = rc[0].apply_async(lambda: sys.stdout.write(b"bytes")).exception(PATIENCE)
    assert error.ename == "TypeError"
    assert rc[0].apply_sync(lambda: (sys.stdout.isatty(), sys.stdout.writable(), sys.stdout.encoding)) == (
        False,
        True,
        "utf-8",
    )
