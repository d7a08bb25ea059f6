"""Cutting sequences and putting them together."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from enginery.client.partition import block_sizes, join, partition

DISTS = ["b", "r"]


@given(st.lists(st.integers()), st.integers(1, 12), st.sampled_from(DISTS))
def test_join_undoes_partition(items, parts, dist):
    cut = partition(items, parts, dist)
    assert len(cut) == parts
    assert max(map(len, cut)) - min(map(len, cut)) <= 1
    assert join(cut, dist) == items


@given(st.integers(0, 1000), st.integers(1, 50))
def test_block_sizes_add_up(length, parts):
    sizes = block_sizes(length, parts)
    assert sum(sizes) == length
    assert sizes == sorted(sizes, reverse=True)


@pytest.mark.parametrize("dist", DISTS)
@pytest.mark.parametrize("seq", ["", "abcdefg", b"abcdefg", range(7), (1, 2, 3), []])
def test_kinds_of_sequences(seq, dist):
    expected = seq if isinstance(seq, str | bytes) else list(seq)
    assert join(partition(seq, 3, dist), dist) == expected


def test_iterators_and_sets_are_listed():
    assert join(partition(iter(range(5)), 2)) == [0, 1, 2, 3, 4]
    assert sorted(join(partition({1, 2, 3}, 2))) == [1, 2, 3]
    assert join(partition({"a": 1, "b": 2}, 2)) == ["a", "b"]


@pytest.mark.parametrize("dist", DISTS)
@pytest.mark.parametrize("parts", [1, 3, 9])
def test_arrays_stay_arrays(dist, parts):
    numpy = pytest.importorskip("numpy")
    array = numpy.arange(14).reshape(7, 2)
    cut = partition(array, parts, dist)
    assert all(numpy.shares_memory(part, array) for part in cut if len(part))
    assert numpy.array_equal(join(cut, dist), array)


@pytest.mark.parametrize("dist", DISTS)
def test_frames_stay_frames(dist):
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame({"a": range(7), "b": list("abcdefg")})
    assert join(partition(frame, 3, dist), dist).equals(frame)
    assert join(partition(frame["a"], 3, dist), dist).equals(frame["a"])


def test_flattened_items_join_as_items():
    assert join([1, 2, 3]) == [1, 2, 3]
    assert join([1, 2, 3], "r") == [1, 2, 3]


def test_what_cannot_be_cut():
    with pytest.raises(ValueError, match="dist='x'"):
        partition([1], 1, "x")
    with pytest.raises(ValueError, match="0 parts"):
        partition([1], 0)
    with pytest.raises(TypeError, match="no sequence"):
        partition(5, 2)
