"""AsyncMapResult: maps over known and unknown input, order, chunks, errors."""

from __future__ import annotations

import asyncio
from concurrent.futures import CancelledError

import pytest

from enginery.client.map_result import AsyncMapResult
from enginery.errors import CompositeError, RemoteError


def test_a_map_over_a_sequence_is_one_range_of_ids(lview, link):
    ar = lview.map_async(pow, range(200), [2] * 300)
    assert isinstance(ar, AsyncMapResult)
    assert len(ar) == 200
    assert [task.id for task in link.submitted] == list(range(ar._first, ar._first + 200))
    assert ar.get() == [n**2 for n in range(200)]
    assert ar.progress == 200


@pytest.mark.parametrize("chunksize", [1, 3, 100])
@pytest.mark.parametrize("kind", [list, iter])
def test_map_gives_what_map_gives(lview, kind, chunksize):
    items = list(range(10))
    assert lview.map_sync(lambda n: n * n, kind(items), chunksize=chunksize) == [n * n for n in items]
    ar = lview.map_async(lambda n, m: n - m, kind(items), kind(items[:7]), chunksize=chunksize)
    assert list(ar) == [0] * 7
    assert ar.get() == [0] * 7
    assert len(ar) == ar.progress == 7


@pytest.mark.parametrize("kind", [list, iter])
def test_a_map_over_nothing_is_done(lview, kind, link):
    ar = lview.map_async(abs, kind([]))
    assert ar.done()
    assert ar.get() == list(ar) == []
    assert not link.submitted


def test_iteration_in_order_and_as_they_come(lview, link):
    link.held = True
    ordered = lview.map_async(abs, range(4))
    link.run(last=True)
    assert list(ordered) == [0, 1, 2, 3]
    unordered = lview.map_async(abs, range(4), ordered=False)
    link.run(1, last=True)
    values = iter(unordered)
    assert next(values) == 3
    link.run()
    assert list(values) == [0, 1, 2]
    assert list(unordered) == [3, 0, 1, 2]
    assert unordered.get() == [0, 1, 2, 3]


def test_unknown_input_is_submitted_item_by_item(lview, link):
    link.held = True
    counts = []

    def items():
        for n in range(3):
            counts.append(len(link.submitted))
            yield n

    ar = lview.map_async(abs, items())
    assert counts == [0, 1, 2]
    assert not ar.done()
    link.run()
    assert ar.done()
    assert ar.get() == [0, 1, 2]
    assert ar.msg_ids == ["s0_0", "s0_1", "s0_2"]


def test_input_that_raises_leaves_no_map_that_never_ends(lview, link):
    def items():
        yield 1
        raise LookupError("no more")

    with pytest.raises(LookupError):
        lview.map_async(abs, items())
    link.run()
    (ar,) = lview.client.log.results() or [None]
    assert ar is None or ar.done()


def test_errors(lview):
    ar = lview.map_async(int, ["1", "x", "3"])
    with pytest.raises(CompositeError, match="invalid literal"):
        ar.get()
    values = iter(ar)
    assert next(values) == 1
    with pytest.raises(RemoteError):
        next(values)
    kept = ar.get(return_exceptions=True)
    assert kept[0] == 1
    assert isinstance(kept[1], RemoteError)


@pytest.mark.parametrize("chunksize", [1, 2])
def test_errors_as_items(lview, dview, chunksize):
    first, bad, last = lview.map_sync(int, ["1", "x", "3"], chunksize=chunksize, return_exceptions=True)
    assert (first, last) == (1, 3)
    assert isinstance(bad, RemoteError)
    assert bad.ename == "ValueError"
    assert "engine_uuid" in bad.engine_info
    assert [type(each) for each in lview.map_async(int, ["1", "x"], return_exceptions=True)] == [int, RemoteError]
    assert [type(each) for each in dview.map_sync(int, "1x34", return_exceptions=True)] == [int, RemoteError, int, int]


def test_a_failed_chunk_counts_for_its_items(lview):
    ar = lview.map_async(int, ["1", "x", "3"], chunksize=2)
    assert [type(each) for each in ar.get(return_exceptions=True)] == [RemoteError, RemoteError, int]


def test_async_for(lview, link):
    link.held = True

    async def main():
        loop = asyncio.get_running_loop()
        ar = lview.map_async(abs, range(5), ordered=False)
        loop.call_later(0.01, link.run, 2)
        loop.call_later(0.02, link.run)
        return [value async for value in ar]

    assert asyncio.run(main()) == [0, 1, 2, 3, 4]


def test_cancelling_a_map_ends_its_iteration(lview, link):
    link.held = True
    ar = lview.map_async(abs, range(5))
    link.run(2)
    values = iter(ar)
    assert next(values) == 0
    assert ar.cancel()
    assert len(link.aborted) == 3
    with pytest.raises(CancelledError, match="cancelled"):
        list(values)


def test_split_of_a_map(lview, link):
    link.held = True
    ar = lview.map_async(abs, range(4), chunksize=2)
    parts = ar.split()
    link.run()
    assert [part.get() for part in parts] == [[0, 1], [2, 3]]
    growing = lview.map_async(abs, iter(range(3)))
    parts = growing.split()
    link.run()
    assert [part.get() for part in parts] == [0, 1, 2]


def test_numbers_that_make_no_sense(lview, dview):
    with pytest.raises(ValueError, match="chunksize"):
        lview.map(abs, [1], chunksize=0)
    for view in (lview, dview):
        with pytest.raises(TypeError, match="at least one sequence"):
            view.map(abs)
        with pytest.raises(TypeError, match="block"):
            view.map_async(abs, [1], block=True)
        with pytest.raises(TypeError, match="block"):
            view.map_sync(abs, [1], block=True)


def test_buffers_travel_with_their_items(lview):
    numpy = pytest.importorskip("numpy")
    arrays = [numpy.full(5000, n) for n in range(5)]
    assert lview.map_sync(lambda a: int(a[0]), arrays) == [0, 1, 2, 3, 4]
    doubled = lview.map_sync(lambda a: a * 2, arrays, chunksize=2)
    assert [int(a[-1]) for a in doubled] == [0, 2, 4, 6, 8]
