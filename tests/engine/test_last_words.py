"""What C code wrote last, in memory that is shared by descent."""

from __future__ import annotations

import os
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from enginery.engine.last_words import SIZE, LastWords


@given(st.lists(st.tuples(st.integers(0, 2), st.binary(max_size=SIZE + 100)), min_size=1, max_size=8))
def test_the_end_of_what_the_last_task_wrote(said):
    words = LastWords()
    whole = {}
    last = None
    for task, text in said:
        words.keep(task, text)
        whole[task] = whole[task] + text if task == last else text
        last = task
    for task in range(3):
        assert words.of({task}) == (whole[task][-SIZE:] if task == last else b"")
    assert words.of({task for task, _ in said}) == whole[last][-SIZE:]


def test_nothing_was_written():
    assert LastWords().of({-1, 0}) == b""
    assert LastWords().of(()) == b""


@pytest.mark.skipif(sys.platform == "win32", reason="nothing is forked there")
def test_those_of_a_forked_process_that_is_gone():
    words = LastWords()
    pid = os.fork()
    if pid == 0:
        try:
            words.keep(5, b"double free")
        finally:
            os._exit(0)
    os.waitpid(pid, 0)
    assert words.of({5}) == b"double free"
