"""@remote and @parallel."""

from __future__ import annotations

import inspect

import pytest

from enginery.client.functions import parallel, remote
from enginery.client.map_result import AsyncMapResult


def test_remote(client, dview, lview):
    @dview.remote(block=True)
    def double(n: int) -> int:
        """Twice as much."""
        return 2 * n

    assert double(4) == [8, 8]
    assert double.__doc__ == "Twice as much."
    assert double.__name__ == "double"
    assert list(inspect.signature(double).parameters) == ["n"]
    assert dview.block is False

    @remote(lview, retries=3)
    def half(n):
        return n // 2

    ar = half(8)
    assert ar.get() == 4
    assert ar._options.retries == 3
    assert lview.retries == 0


def test_flags_of_the_view_count_as_they_are_at_the_call(client):
    view = client[0]

    @view.remote()
    def one():
        return 1

    assert one().get() == 1
    view.block = True
    assert one() == 1


@pytest.mark.parametrize("dist", ["b", "r"])
@pytest.mark.parametrize("which", ["direct", "balanced"])
def test_parallel(client, which, dist):
    view = client[:] if which == "direct" else client.load_balanced_view()

    @parallel(view, dist=dist, block=True)
    def squares(part):
        return [n * n for n in part]

    assert squares(range(5)) == [0, 1, 4, 9, 16]
    assert squares.map([[1], [2], [3]]) == [[1], [4], [9]]
    assert squares([]) == []
    with pytest.raises(TypeError, match="at least one"):
        squares()


def test_parallel_over_several_sequences(client):
    @client[:].parallel()
    def difference(a, b):
        return a - b

    numpy = pytest.importorskip("numpy")
    ar = difference(numpy.arange(6), numpy.ones(6))
    assert isinstance(ar, AsyncMapResult)
    assert ar.get().tolist() == [-1, 0, 1, 2, 3, 4]
    assert len(ar) == 6
    with pytest.raises(ValueError, match="same length"):
        difference([1], [1, 2])


def test_parallel_settings(client, link):
    view = client.load_balanced_view()

    @view.parallel(block=True)
    def negative(part):
        return [-n for n in part]

    negative.chunksize = 2
    link.submitted.clear()
    assert negative([1, 2, 3, 4, 5]) == [-1, -2, -3, -4, -5]
    assert len(link.submitted) == 3
    assert "negative" in repr(negative)
