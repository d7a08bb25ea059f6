"""Exceptions of user code, of every sort: each becomes a readable error of its task, and the engine goes on."""

from __future__ import annotations

import os
import pickle
import signal
import socket
import sys
import threading
import time

import pytest

import enginery as ipp

PATIENCE = 30
pytestmark = pytest.mark.slow


class Unpicklable(Exception):
    def __init__(self) -> None:
        super().__init__("holds a lock")
        self.lock = threading.Lock()


class TwoArguments(Exception):
    def __init__(self, one, two) -> None:
        super().__init__(f"{one} and {two}")


class Silent(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no text")


class Stubborn(Exception):
    def __getattribute__(self, name):
        raise RuntimeError(f"no {name}")


class BadReduce:
    def __reduce__(self):
        raise ValueError("will not be pickled")


class BadLoad:
    def __reduce__(self):
        return _explode, ()


def _explode():
    raise ValueError("will not be unpickled")


def raise_(kind, *args):
    raise kind(*args)


def deep(n):
    return deep(n + 1)


def remote_error(result):
    error = result.exception(PATIENCE)
    assert isinstance(error, ipp.RemoteError), repr(error)
    return error


@pytest.mark.parametrize(
    ("args", "ename", "text"),
    [
        ((ZeroDivisionError, "x"), "ZeroDivisionError", "x"),
        ((KeyError, ("a", 1)), "KeyError", "('a', 1)"),
        ((ValueError, {"a": [1, 2]}, 3.5), "ValueError", "({'a': [1, 2]}, 3.5)"),
        ((ValueError,), "ValueError", ""),
        ((ValueError, b"bytes"), "ValueError", "b'bytes'"),
        ((OSError, 2, "No such file", "path"), "FileNotFoundError", "[Errno 2] No such file: 'path'"),
        ((UnicodeDecodeError, "utf-8", b"\xff", 0, 1, "bad"), "UnicodeDecodeError", "can't decode byte 0xff"),
        ((StopIteration, 5), "StopIteration", "5"),
        ((AssertionError, None), "AssertionError", "None"),
        ((SystemExit, 3), "SystemExit", "3"),
        ((KeyboardInterrupt, "mine"), "KeyboardInterrupt", "mine"),
        ((GeneratorExit,), "GeneratorExit", ""),
        ((BaseException, "base"), "BaseException", "base"),
        ((MemoryError,), "MemoryError", ""),
        ((Unpicklable,), "Unpicklable", "holds a lock"),
        ((TwoArguments, 1, 2), "TwoArguments", "1 and 2"),
        ((Silent, "x"), "Silent", "no text"),
        ((Stubborn, "x"), "Stubborn", ""),
        ((ExceptionGroup, "several", [ValueError(1), TypeError(2)]), "ExceptionGroup", "several (2 sub-exceptions)"),
        ((ValueError, "long " * 100_000), "ValueError", "characters left out"),
        ((ValueError, "ünï\udc80"), "ValueError", "ünï"),
    ],
    ids=lambda value: value if isinstance(value, str) else None,
)
def test_what_is_raised_is_told(rc, lv, args, ename, text):
    for view in (lv, rc[0]):
        error = remote_error(view.apply_async(raise_, *args))
        assert error.ename == ename
        assert text in error.evalue
        assert error.engine_info["engine_id"] in {0, 1}
        assert str(error)
        assert ename in "\n".join(error.render_traceback())
        pickle.loads(pickle.dumps(error))
    assert rc[:].apply_sync(int) == [0, 0]


def test_the_remote_frames_are_shown_and_ours_are_not(rc):
    def outer():
        inner()

    def inner():
        raise ValueError("deep inside")

    text = remote_error(rc[0].apply_async(outer)).traceback
    assert "in outer" in text
    assert "in inner" in text
    assert "runner.py" not in text


def test_chained_exceptions_are_shown(rc):
    def chained():
        try:
            raise KeyError("first")
        except KeyError as error:
            raise ValueError("second") from error

    error = remote_error(rc[0].apply_async(chained))
    assert error.ename == "ValueError"
    assert "KeyError: 'first'" in error.traceback


def test_endless_recursion(rc, dv):
    assert remote_error(rc[0].apply_async(deep, 0)).ename == "RecursionError"
    nested = remote_error(rc[0].apply_async(lambda: [x := [], [x := [x] for _ in range(100_000)], x][-1]))
    assert "nested too deeply" in str(nested)
    assert dv.apply_sync(int) == [0, 0]


@pytest.mark.parametrize(
    "make",
    [threading.Lock, lambda: (n for n in range(3)), socket.socket, BadReduce, lambda: [1, {"a": BadReduce()}]],
    ids=["lock", "generator", "socket", "bad reduce", "inside"],
)
def test_results_that_cannot_be_sent(rc, dv, make):
    error = remote_error(rc[0].apply_async(make))
    assert error.ename == "SerializationError"
    for each in dv.apply_async(make).split():
        assert remote_error(each).ename == "SerializationError"
    assert dv.apply_sync(int) == [0, 0]


def test_results_that_cannot_be_taken(rc, dv):
    result = rc[0].apply_async(BadLoad)
    with pytest.raises(ValueError, match="will not be unpickled") as caught:
        result.get(PATIENCE)
    assert "on the client" in str(caught.value.__notes__)
    with pytest.raises(ValueError, match="will not be unpickled"):
        dv.apply_sync(BadLoad)
    assert dv.apply_sync(int) == [0, 0]


def test_arguments_that_cannot_be_taken(rc, lv):
    error = remote_error(lv.apply_async(int, BadLoad()))
    assert error.ename == "ValueError"
    assert rc[:].apply_sync(int) == [0, 0]


class TestArgumentsThatCannotBeSent:
    def test_they_are_named(self, lv, dv):
        lock = threading.Lock()
        cases = {
            "argument 2": lambda: lv.apply_async(pow, 1, lock),
            "'key'": lambda: lv.apply_async(dict, key=lock),
            "argument 1": lambda: dv.apply_async(len, [1, [lock]]),
            "lock": lambda: dv.push({"name": lock}),
            "_thread.lock": lambda: lv.map(str, [1, lock]),
        }
        for named, call in cases.items():
            with pytest.raises(ipp.SerializationError, match=named) as caught:
                call()
            assert "lock" in str(caught.value)

    def test_and_nothing_is_left_behind(self, rc, lv):
        lock = threading.Lock()
        for _ in range(3):
            with pytest.raises(ipp.SerializationError):
                lv.apply_async(int, lock)
            with pytest.raises(ipp.SerializationError):
                list(lv.imap(int, ["1", lock]))
        assert rc.wait(timeout=PATIENCE)
        assert not rc.outstanding
        assert lv.apply_sync(int, "5") == 5

    def test_functions_that_hold_them(self, lv):
        lock = threading.Lock()
        with pytest.raises(ipp.SerializationError, match="lock"):
            lv.apply_async(lambda: lock)


class TestSignals:
    def test_an_interrupt_ends_the_task_and_no_more(self, rc):
        result = rc[0].apply_async(time.sleep, PATIENCE)
        other = rc[1].apply_async(time.sleep, 0.05)
        while rc.queue_status()[0]["queue"] == 0:
            pass
        time.sleep(0.05)
        rc.send_signal("SIGINT", targets=0)
        assert remote_error(result).ename == "KeyboardInterrupt"
        assert other.get(PATIENCE) is None
        assert rc[:].apply_sync(int) == [0, 0]

    def test_an_interrupt_between_tasks_harms_nobody(self, rc):
        for _ in range(20):
            rc.send_signal(signal.SIGINT)
            error = rc[:].apply_async(int).exception(PATIENCE)  # it may come before, after or just while that runs
            assert error is None or "KeyboardInterrupt" in str(error)

    def test_an_interrupt_that_user_code_handles(self, rc):
        def handled():
            try:
                print("begun", flush=True)
                time.sleep(PATIENCE)
            except KeyboardInterrupt:
                return "handled"

        result = rc[0].apply_async(handled)
        deadline = time.monotonic() + PATIENCE
        while not result.stdout:
            assert time.monotonic() < deadline
            time.sleep(0.005)
        rc.send_signal(2, targets=[0])
        assert result.get(PATIENCE) == "handled"

    def test_an_unknown_signal_harms_nobody(self, rc):
        rc.send_signal("SIGNOTHING", targets=0)
        rc.send_signal(200, targets=0)
        assert rc[:].apply_sync(int) == [0, 0]


def test_user_code_that_spoils_its_surroundings(rc):
    """What many scripts do to the interpreter they run in must not take the engine along."""

    def spoil():
        sys.stdout = sys.stderr = None
        signal.signal(signal.SIGALRM, signal.SIG_IGN)
        os.chdir("/")
        sys.setrecursionlimit(2000)
        print("to nobody")

    rc[0].apply_async(spoil).wait(PATIENCE)
    assert rc[0].apply_sync(int) == 0
    assert rc[0].apply_sync(lambda: setattr(sys, "stdout", sys.__stdout__)) is None
    assert rc[0].apply_sync(lambda: (sys.stdin.read(), sys.argv is not None)) == ("", True)
