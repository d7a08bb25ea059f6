"""Engines that print without end: they are not held up, nothing grows, and each engine's lines stay in order."""

from __future__ import annotations

import itertools
import threading

import psutil
import pytest

from enginery.client import screen
from enginery.client.outputs import LIMIT
from enginery.cluster.cluster import Cluster

pytestmark = [pytest.mark.slow, pytest.mark.timeout(240)]

LINES = 1_000_000


def shout(count):
    for number in range(count):
        print(number)


@pytest.fixture(scope="module")
def view():
    with Cluster(n=4) as client:
        yield client[:]


class Stopped:
    """A terminal that stands still, as after Ctrl-S, until it is told to go on."""

    def __init__(self):
        self.go_on = threading.Event()
        self.reached = threading.Event()
        self.said = []
        self.lines = {}

    def write(self, stream, text):
        self.said.append(text)

    def show(self, piece, engines):
        self.reached.set()
        self.go_on.wait()
        for engine in engines:
            self.lines.setdefault(engine, []).extend(piece.text.splitlines())

    def tail(self, lines):
        pass

    def clear(self, *, wait):
        pass


@pytest.fixture
def stopped(monkeypatch):
    terminal = Stopped()
    monkeypatch.setattr(screen, "_make", lambda: terminal)
    yield terminal
    terminal.go_on.set()


def test_a_million_lines_of_each_engine(view, stopped):
    memory = psutil.Process().memory_info
    before = memory().rss
    result = view.apply_async(shout, LINES)
    with result.stream_output():
        stopped.reached.wait()
        # All engines end, though nothing is shown: nobody waits for the terminal.
        assert result.wait()
        kept = sum(len(text) for text in result.stdout)
        grown = memory().rss - before
        stopped.go_on.set()
    assert kept < 1.1 * LIMIT
    assert grown < 12 * LIMIT  # the text is kept, and was asked for just now; 28 MB went by
    for text in result.stdout:
        assert "bytes of earlier output were dropped" in text.partition("\n")[0]
        check_order(text.splitlines()[1:])
    assert any("characters were dropped before they could be shown" in text for text in stopped.said)
    assert sorted(stopped.lines) == [0, 1, 2, 3]
    for lines in stopped.lines.values():
        check_order(lines, gaps=len(stopped.said))


def check_order(lines, gaps=1):
    """The numbers rise. Where something was dropped, which is said, a number may have been cut in two."""
    numbers = [int(line) for line in lines if line.isdecimal()]
    gaps += sum("were dropped here" in line for line in lines)
    falls = sum(later <= sooner for sooner, later in itertools.pairwise(numbers))
    assert falls <= 2 * gaps
    assert len(numbers) > 100_000
    # To the very end, unless that is said.
    assert numbers[-1] == LINES - 1 or "were dropped here" in lines[-1]
