"""Cutting sequences and putting them together."""

from __future__ import annotations

import pickle

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
    assert all(numpy.shares_memory(part, array) for part in cut if len(part) and dist == "b")
    assert numpy.array_equal(join(cut, dist), array)


numpy = pytest.importorskip("numpy")
ARRAYS = {
    "cubes": numpy.arange(7 * 8).reshape(7, 2, 2, 2),
    "big endian": numpy.arange(7, dtype=">i2"),
    "columns": numpy.asfortranarray(numpy.arange(21.0).reshape(7, 3)),
    "records": numpy.zeros(5, dtype=[("a", "i4"), ("b", "f8", 3)]),
    "named records": numpy.rec.array([(1, 2.0), (3, 4.0), (5, 6.0)], dtype=[("x", "i4"), ("y", "f8")]),
    "masked": numpy.ma.masked_greater(numpy.arange(7), 3),
    "matrix": numpy.arange(12).reshape(6, 2).view(numpy.matrix),
    "dates": numpy.arange(6).astype("M8[s]"),
    "texts": numpy.array(["a", "bcd", "ef"]),
    "objects": numpy.array([None, {}, [1]], dtype=object),
    "empty": numpy.zeros((0, 3), "f4"),
    "fewer than parts": numpy.arange(2, dtype="u1"),
}


@pytest.mark.parametrize("dist", DISTS)
@pytest.mark.parametrize("parts", [1, 3, 4])
@pytest.mark.parametrize("name", ARRAYS)
def test_arrays_stay_what_they_are(name, parts, dist):
    array = ARRAYS[name]
    cut = partition(array, parts, dist)
    assert all(part.flags.forc or array.dtype.hasobject for part in cut), "so that they travel beside the pickle"
    back = join([pickle.loads(pickle.dumps(part, 5)) for part in cut], dist)
    assert (type(back), back.dtype, back.shape) == (type(array), array.dtype, array.shape)
    assert back.flags.f_contiguous == array.flags.f_contiguous
    assert numpy.array_equal(numpy.ma.getmaskarray(back), numpy.ma.getmaskarray(array))
    assert numpy.array_equal(numpy.asarray(back), numpy.asarray(array))


def test_what_engines_made_of_their_parts():
    assert join([numpy.arange(2), numpy.arange(2.0)]).dtype == float
    assert join([numpy.arange(2), numpy.arange(2.0)], "r").tolist() == [0, 0, 1, 1]
    assert join([[1], numpy.arange(2)]) == [1, 0, 1]


@pytest.mark.parametrize("dist", DISTS)
def test_indexes_and_arrow(dist):
    pandas = pytest.importorskip("pandas")
    arrow = pytest.importorskip("pyarrow")
    for whole in (
        pandas.date_range("2020", periods=5),
        arrow.array([1, 2, None, 4, 5]),
        arrow.chunked_array([[1, 2], [3]]),
        arrow.table({"a": [1, 2, 3], "b": ["x", "y", "z"]}),
    ):
        for parts in (1, 2, 4):
            back = join(partition(whole, parts, dist), dist)
            assert type(back) is type(whole)
            assert back.equals(whole)
    batch = arrow.record_batch({"a": [1, 2, 3]})
    assert join(partition(batch, 2, dist), dist).to_pydict() == {"a": [1, 2, 3]}


@pytest.mark.parametrize("dist", DISTS)
def test_bytearrays_stay_bytearrays(dist):
    back = join(partition(bytearray(b"abcde"), 3, dist), dist)
    assert type(back) is bytearray
    assert back == b"abcde"


@pytest.mark.parametrize("dist", DISTS)
def test_frames_stay_frames(dist):
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame({"a": range(7), "b": list("abcdefg")})
    assert join(partition(frame, 3, dist), dist).equals(frame)
    assert join(partition(frame["a"], 3, dist), dist).equals(frame["a"])
    few = pandas.DataFrame({"x": pandas.Categorical(["a", "b"])}, index=["v", "w"])
    assert join(partition(few, 4, dist), dist).equals(few)


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
