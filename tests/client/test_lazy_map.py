"""imap: input read only as engines become free."""

from __future__ import annotations

import gc
import itertools
import threading

import pytest

from enginery.client.lazy_map import LazyMapIterator
from enginery.errors import RemoteError


def readers():
    return [thread for thread in threading.enumerate() if thread.name == "enginery-imap"]


@pytest.fixture(autouse=True)
def no_reader_left():
    yield
    if readers():  # of what only the collector finds; to ask it each time would take most of these tests' time
        gc.collect()
    for thread in readers():
        thread.join(10)
    assert not readers()


@pytest.mark.parametrize("ordered", [True, False])
@pytest.mark.parametrize("max_outstanding", ["auto", 0, 1, 5])
def test_results_of_finite_input(lview, ordered, max_outstanding):
    values = lview.imap(lambda n: n * n, range(50), ordered=ordered, max_outstanding=max_outstanding)
    assert isinstance(values, LazyMapIterator)
    assert sorted(values) == [n * n for n in range(50)]
    assert list(values) == []


def test_endless_input(lview):
    values = lview.imap(lambda n, m: n - m, itertools.count(1), itertools.count())
    assert list(itertools.islice(values, 30)) == [1] * 30
    values.cancel()
    assert list(values) == []


def test_no_more_than_asked_for_is_outstanding(lview, link):
    link.held = True
    read = []

    def items():
        for n in range(100):
            read.append(n)
            yield n

    values = lview.imap(abs, items(), max_outstanding=3)
    assert link.lock  # the reader runs in its own thread: wait for what it can do
    with link.changed:
        assert link.changed.wait_for(lambda: len(link.waiting) == 3, 10)
    assert len(read) == 3
    link.run(1)
    assert next(values) == 0
    with link.changed:
        assert link.changed.wait_for(lambda: len(link.waiting) == 3, 10)
    assert len(read) == 4
    values.cancel()
    assert len(link.aborted) == 3


def test_order_is_kept_whatever_comes_first(lview, link):
    link.held = True
    values = lview.imap(abs, range(4), max_outstanding=0)
    with link.changed:
        assert link.changed.wait_for(lambda: len(link.waiting) == 4, 10)
    link.run(last=True)
    assert list(values) == [0, 1, 2, 3]


def test_unordered_yields_what_is_there(lview, link):
    link.held = True
    values = lview.imap(abs, range(4), ordered=False, max_outstanding=0)
    with link.changed:
        assert link.changed.wait_for(lambda: len(link.waiting) == 4, 10)
    link.run(1, last=True)
    assert next(values) == 3
    link.run()
    assert list(values) == [0, 1, 2]


def test_errors(lview):
    values = lview.imap(int, ["1", "x", "3"])
    assert next(values) == 1
    with pytest.raises(RemoteError, match="invalid literal"):
        next(values)
    assert next(values) == 3
    kept = list(lview.imap(int, ["1", "x"], return_exceptions=True))
    assert isinstance(kept[1], RemoteError)


def test_input_that_raises(lview):
    def items():
        yield 1
        raise LookupError("no more")

    values = lview.imap(abs, items())
    assert next(values) == 1
    with pytest.raises(LookupError, match="no more"):
        next(values)
    assert list(values) == []


def test_a_timeout(lview, link):
    link.held = True
    values = lview.imap(abs, [1])
    with pytest.raises(TimeoutError, match="result 0 of abs"):
        values.next(0.01)
    with link.changed:
        link.changed.wait_for(lambda: link.waiting, 10)
    link.run()
    assert values.next(10) == 1


def test_an_iterator_nobody_holds_stops_reading(lview, link):
    values = lview.imap(abs, itertools.count())
    assert next(values) == 0
    del values  # the fixture sees whether the reader ends


def test_numbers_that_make_no_sense(lview):
    with pytest.raises(ValueError, match="max_outstanding"):
        lview.imap(abs, [1], max_outstanding=-1)
    with pytest.raises(TypeError, match="at least one"):
        lview.imap(abs)
