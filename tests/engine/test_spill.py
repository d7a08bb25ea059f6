"""The host's hold on the pipes of an engine."""

from __future__ import annotations

import os
import selectors
import sys

import pytest

if sys.platform != "linux":
    pytest.skip("output is captured on Linux only", allow_module_level=True)

from enginery.engine.capture import make_pipes
from enginery.engine.spill import Spill


class Loop:
    def __init__(self):
        self.selector = selectors.DefaultSelector()
        self.later = []

    def after(self, seconds, call):
        self.later.append((seconds, call))

    def turn(self):
        """What is readable is told, and what is due later happens now."""
        for key, _ in self.selector.select(0):
            key.data()
        due, self.later = self.later, []
        for _, call in due:
            call()


@pytest.fixture
def loop():
    loop = Loop()
    yield loop
    loop.selector.close()


@pytest.fixture
def pipes():
    pipes = make_pipes()
    os.set_blocking(pipes.writing[0], False)
    yield pipes
    for descriptor in pipes.writing:
        os.close(descriptor)


@pytest.fixture
def spill(loop, pipes):
    spill = Spill(pipes, loop.selector, loop.after)
    yield spill
    spill.close()


def fill(descriptor):
    size = 0
    while True:
        try:
            size += os.write(descriptor, b"x" * 4096)
        except BlockingIOError:
            return size


def test_what_the_engine_reads_is_left_to_it(loop, pipes, spill, capfd):
    os.write(pipes.writing[0], b"text")
    for _ in range(5):
        loop.turn()
    assert os.read(pipes.reading[0], 10) == b"text"
    assert capfd.readouterr().err == ""


def test_a_pipe_that_stays_full_is_emptied_into_the_log(loop, pipes, spill, capfd):
    size = fill(pipes.writing[0])
    for _ in range(3):
        loop.turn()
    assert len(capfd.readouterr().err) == size
    assert fill(pipes.writing[0]) == size


def test_one_that_is_read_meanwhile_is_not(loop, pipes, spill, capfd):
    fill(pipes.writing[0])
    loop.turn()
    os.read(pipes.reading[0], 1 << 20)
    for _ in range(3):
        loop.turn()
    assert capfd.readouterr().err == ""


def test_words_that_were_read_before_the_end_are_logged_if_their_task_was_running(loop, pipes, capfd):
    pipes.words.keep(7, b"read, ")
    os.write(pipes.writing[1], b"unread\n")
    Spill(pipes, loop.selector, loop.after).close({7, -1})
    assert capfd.readouterr().err == "read, unread\n"


def test_words_of_a_task_that_has_ended_are_not(loop, pipes, capfd):
    pipes.words.keep(7, b"said long ago\n")
    Spill(pipes, loop.selector, loop.after).close({8, -1})
    assert capfd.readouterr().err == ""


def test_last_words_are_logged(loop, pipes, capfd):
    spill = Spill(pipes, loop.selector, loop.after)
    os.write(pipes.writing[1], b"last words\n")
    loop.turn()
    spill.close()
    assert capfd.readouterr().err == "last words\n"
    loop.turn()  # what was due later does nothing any more
    spill.close()
