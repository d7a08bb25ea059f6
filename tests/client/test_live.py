"""Output shown while it arrives: in order, folded, with lines that change below."""

from __future__ import annotations

import io
import sys

import pytest
from msgspec import msgpack

from enginery.client import live as live_module
from enginery.client.live import LONGEST_LINE, TAIL, Live
from enginery.client.outputs import LIMIT, Spoken
from enginery.client.pieces import label
from enginery.client.screen import Terminal
from enginery.wire.messages import Output


class Paper:
    """A screen that keeps everything."""

    def __init__(self):
        self.shown = []
        self.lines = []
        self.cleared = 0

    def write(self, stream, text):
        self.shown.append(text)

    def show(self, piece, engines):
        self.shown.append(f"{label(piece, engines)} {piece.text}")

    def tail(self, lines):
        self.lines = list(lines)

    def clear(self, *, wait):
        self.cleared += 1


class Scene:
    def __init__(self, engines):
        self.spoken = Spoken()
        self.paper = Paper()
        self.live = Live([(self.spoken, None)], self.paper, engines)

    def say(self, engine, kind, text="", **bundle):
        data = msgpack.encode(bundle) if bundle else b""
        self.spoken.add(engine, engine, Output(1, kind, text, data))

    def shown(self):
        self.live.show()
        found, self.paper.shown = self.paper.shown, []
        return found


@pytest.fixture
def scene():
    return Scene(engines=4)


def test_engines_that_say_the_same_are_shown_once(scene):
    for engine in range(4):
        scene.say(engine, "stdout", "hello\n")
    scene.say(2, "stdout", "and more\n")
    assert scene.shown() == ["[stdout:0-1,3] hello\n", "[stdout:2] hello\nand more\n"]


def test_each_engine_is_shown_in_its_order(scene):
    scene.say(0, "stdout", "a\n")
    scene.say(1, "stdout", "x\n")
    scene.say(0, "display", data={"text/plain": "plot"})
    scene.say(0, "stdout", "b\n")
    scene.say(0, "stdout", "c\n")
    assert scene.shown() == ["[stdout:0] a\n", "[output:0] plot", "[stdout:0] b\nc\n", "[stdout:1] x\n"]


def test_a_line_is_written_when_it_is_complete(scene):
    scene.say(0, "stdout", "wor")
    assert scene.shown() == []
    assert scene.paper.lines == ["[stdout:0] wor"]
    scene.say(0, "stdout", "king\nand")
    assert scene.shown() == ["[stdout:0] working\n"]
    assert scene.paper.lines == ["[stdout:0] and"]
    scene.live.finish()
    assert scene.paper.shown == ["[stdout:0] and"]
    assert scene.paper.lines == []


def test_what_was_begun_stands_before_a_display(scene):
    scene.say(0, "stdout", "a: ")
    scene.live.show()
    scene.say(0, "display", data={"text/plain": "plot"})
    assert scene.shown() == ["[stdout:0] a: ", "[output:0] plot"]


def test_progress_bars_of_engines_change_below(scene):
    for percent in (0, 10, 20):
        for engine in range(2):
            scene.say(engine, "stderr", f"\r {percent}%|##")
            scene.say(engine, "stdout", f"at {percent}\n")
        assert scene.shown() == [f"[stdout:0-1] at {percent}\n"]
        assert scene.paper.lines == [f"[stderr:0-1] {percent}%|##"]
    scene.say(0, "stderr", "\r 100%|##\n")
    assert scene.shown() == ["[stderr:0]  100%|##\n"]
    assert scene.paper.lines == ["[stderr:1] 20%|##"]


def test_long_lines_are_not_kept_back_for_ever(scene):
    scene.say(0, "stdout", "x" * (LONGEST_LINE + 1))
    assert len(scene.shown()[0]) > LONGEST_LINE
    for number in range(LONGEST_LINE):
        scene.say(1, "stderr", f"\r {number} steps")
    assert scene.shown() == []
    assert scene.paper.lines == [f"[stderr:1] {LONGEST_LINE - 1} steps"]
    assert len(scene.live._open[1, "stderr"]) < LONGEST_LINE


def test_the_tail_is_short():
    scene = Scene(engines=100)
    for engine in range(100):
        scene.say(engine, "stdout", f"engine {engine}")
    scene.live.show()
    assert len(scene.paper.lines) == TAIL
    assert scene.paper.lines[-1] == "… and 93 more"


def test_displays_that_are_updated(scene):
    name = {"transient": {"display_id": "x"}}
    for number in range(3):
        scene.say(0, "update", data={"text/plain": f"step {number}"}, **name)
        assert scene.shown() == []
        assert scene.paper.lines == [f"[output:0] step {number}"]
    scene.live.finish()
    assert scene.paper.shown == ["[output:0] step 2"]


def test_clearing():
    scene = Scene(engines=1)
    scene.say(0, "stdout", "gone\nhalf")
    scene.say(0, "clear")
    scene.say(0, "stdout", "new\n")
    assert scene.shown() == ["[stdout:0] new\n"]
    assert scene.paper.cleared == 1
    several = Scene(engines=2)
    several.say(0, "clear")
    several.live.show()
    assert several.paper.cleared == 0  # the output of the other one stays


def test_what_was_dropped_is_said(scene):
    for number in range(6):
        scene.say(0, "stdout", f"{number}" * (LIMIT // 4) + "\n")
    shown = scene.shown()
    assert shown[0].startswith("[output] ")
    assert "characters were dropped" in shown[0]
    assert shown[1].endswith("5\n")


def test_it_waits_a_moment_for_the_others(scene):
    waits = []

    def wait(predicate, timeout):
        waits.append(timeout)
        if not predicate():
            scene.say(0 if len(waits) == 1 else 1, "stdout", "hello\n")
        return predicate()

    scene.live.step(wait, lambda: False)
    assert waits == [None, live_module.GATHER]
    assert scene.paper.shown == ["[stdout:0-1] hello\n"]


def test_what_is_interrupted_is_shown_the_next_time(scene, monkeypatch):
    for engine in range(2):
        scene.say(engine, "stdout", f"{engine}\n")
    show = scene.paper.show

    def interrupted(piece, engines):
        monkeypatch.setattr(scene.paper, "show", show)
        raise KeyboardInterrupt

    monkeypatch.setattr(scene.paper, "show", interrupted)
    with pytest.raises(KeyboardInterrupt):
        scene.live.show()
    assert scene.shown() == ["[stdout:0] 0\n", "[stdout:1] 1\n"]


# --- the terminal -----------------------------------------------------------------------------------------------------


class Console(io.StringIO):
    def isatty(self):
        return True


def test_a_terminal_takes_back_what_changes(monkeypatch):
    console = Console()
    monkeypatch.setattr(sys, "stderr", console)
    monkeypatch.setattr(sys, "stdout", console)
    terminal = Terminal()
    terminal.tail(["[stdout:0] half", "x" * 1000])
    terminal.write("stdout", "[stdout:1] whole\n")
    terminal.tail([])
    first, second, rest = console.getvalue().split("\n", 2)
    assert first == "[stdout:0] half"
    assert len(second) < 200
    assert rest == "\x1b[2A\x1b[J[stdout:1] whole\n"


def test_where_nothing_can_be_taken_back_only_whole_lines_are_shown(capsys):
    terminal = Terminal()
    terminal.tail(["half"])
    terminal.write("stdout", "whole\n")
    assert capsys.readouterr() == ("whole\n", "")


def test_progress_bars_stand_below(monkeypatch):
    from tqdm import tqdm

    console = Console()
    monkeypatch.setattr(sys, "stderr", console)
    monkeypatch.setattr(sys, "stdout", console)
    with tqdm(total=2, file=console) as bar:
        Terminal().write("stdout", "above\n")
        bar.update(2)
    lines = console.getvalue().replace("\r", "\n").split("\n")
    assert "above" in lines
    assert "2/2" in lines[-2]
