"""Failures that an engine keeps, pdb on them, and tracebacks with variables."""

from __future__ import annotations

import pytest

from enginery.engine import failures as room
from enginery.engine.debugger import with_locals
from enginery.engine.failures import MOST, Failures
from enginery.errors import UnmetDependency


class Odd:
    def __repr__(self):
        raise RuntimeError("no")


def divide(a, b):
    odd, many = Odd(), list(range(1000))
    return a / b, odd, many


def failure(function=divide, *args):
    try:
        function(*(args or (1, 0)))
    except BaseException as error:
        return error
    raise AssertionError("it did not fail")


@pytest.fixture
def kept():
    failures = Failures()
    failures.keep(1, failure())
    return failures


def command(failures, line):
    return failures.obey({"task": 1, "do": "line", "line": line})


def test_the_debugger_stands_at_the_frame_that_failed(kept, capsys):
    assert kept.obey({"task": 1, "do": "open"}) == {"open": True, "prompt": "(Pdb) "}
    said = capsys.readouterr().out
    assert "ZeroDivisionError: division by zero" in said
    assert "-> return a / b" in said


def test_commands_are_obeyed_one_by_one(kept, capsys):
    kept.obey({"task": 1, "do": "open"})
    capsys.readouterr()
    for line, said in [
        ("p a, b", "(1, 0)\n"),
        ("many[2] + 5", "7\n"),
        ("nobody", "NameError"),
        ("up", "failure()"),
        ("p function is None", "False"),
    ]:
        assert command(kept, line)["open"]
        assert said in capsys.readouterr().out


@pytest.mark.parametrize("line", ["q", "c", "EOF"])
def test_it_can_be_left(kept, line):
    kept.obey({"task": 1, "do": "open"})
    assert not command(kept, line)["open"]
    assert not command(kept, "p a")["open"]


def test_it_can_be_closed_and_opened_again(kept):
    kept.obey({"task": 1, "do": "open"})
    assert not kept.obey({"task": 1, "do": "close"})["open"]
    assert kept.obey({"task": 1, "do": "open"})["open"]


def test_a_task_cannot_be_started_again_from_there(kept, capsys):
    kept.obey({"task": 1, "do": "open"})
    assert command(kept, "run")["open"]
    assert "submit it anew" in capsys.readouterr().out


def test_an_interrupt_ends_the_command_only(kept, capsys):
    kept.obey({"task": 1, "do": "open"})
    assert command(kept, "raise KeyboardInterrupt")["open"]
    assert "KeyboardInterrupt" in capsys.readouterr().out


def test_tracebacks_show_variables(kept):
    text = kept.obey({"task": 1, "do": "locals"})["text"]
    assert "    a = 1\n" in text
    assert "    odd = <Odd instance at" in text
    assert "    many = [0, 1, 2," in text
    assert ", 999" not in text
    assert text.rstrip().endswith("ZeroDivisionError: division by zero")


def test_so_do_those_of_the_exceptions_before():
    def wrap(secret):
        try:
            divide(secret, 0)
        except ZeroDivisionError as error:
            raise ValueError("wrapped") from error

    text = with_locals(failure(wrap, 42))
    assert "    a = 42\n" in text
    assert "    secret = 42\n" in text


def test_a_cell_shows_only_what_it_names():
    variables = {"used": 1, "other": "much"}
    with pytest.raises(ZeroDivisionError) as info:
        exec(compile("used / 0", "<cell>", "exec"), variables)
    text = with_locals(info.value)
    assert "    used = 1\n" in text
    assert "other" not in text


def test_only_the_newest_are_kept(kept):
    for task in range(2, 2 + MOST):
        kept.keep(task, failure())
    with pytest.raises(LookupError, match=f"last {MOST} failures"):
        kept.obey({"task": 1, "do": "open"})
    assert kept.obey({"task": 1 + MOST, "do": "open"})["open"]


def test_they_expire_unless_somebody_looks(kept, monkeypatch):
    now = 0.0
    monkeypatch.setattr(room, "monotonic", lambda: now)
    failures = Failures()
    assert failures.seconds_left() is None
    failures.keep(1, failure())
    failures.keep(2, failure())
    now = room.KEPT_FOR - 1
    assert failures.seconds_left() == 1
    failures.obey({"task": 1, "do": "open"})
    now = room.KEPT_FOR
    failures.expire()
    with pytest.raises(LookupError):
        failures.obey({"task": 2, "do": "open"})
    assert failures.obey({"task": 1, "do": "line", "line": "p a"})["open"]


def test_some_are_not_kept():
    failures = Failures()
    failures.keep(1, failure(lambda *_: (_ for _ in ()).throw(MemoryError())))
    failures.keep(2, failure(lambda *_: (_ for _ in ()).throw(UnmetDependency())))
    failures.keep(3, ValueError("never raised"))
    assert failures.seconds_left() is None
