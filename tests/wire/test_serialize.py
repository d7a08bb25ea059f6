"""Values and calls as bytes: what arrives is what was sent, large buffers go uncopied, errors name the culprit."""

from __future__ import annotations

import array
import datetime as dt
import pickle
import sys
import threading
from types import ModuleType

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from enginery.errors import SerializationError
from enginery.wire import library, serialize
from enginery.wire.serialize import (
    EMPTY_CALL,
    NONE,
    THRESHOLD,
    PrePickled,
    Reference,
    pack,
    pack_call,
    unpack,
    unpack_call,
    use_cloudpickle,
    use_dill,
    use_pickle,
)

VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False)
    | st.text(max_size=20)
    | st.binary(max_size=20)
    | st.binary(min_size=THRESHOLD, max_size=THRESHOLD + 5)
    | st.dates(),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.text(max_size=5), inner, max_size=4)
        | st.tuples(inner, inner)
        | st.frozensets(st.integers(), max_size=4)
    ),
    max_leaves=10,
)


def received(buffers):
    """Buffers as they arrive: writable memory that the receiver owns."""
    return [memoryview(bytearray(buffer)) for buffer in buffers]


def trip(value, namespace=None):
    head, buffers = pack(value)
    return unpack(head, received(buffers), namespace)


def call_trip(*args, _namespace=None, **kwargs):
    head, buffers = pack_call(args, kwargs)
    return unpack_call(head, received(buffers), _namespace)


@pytest.fixture(autouse=True)
def _default_library():
    yield
    use_pickle()


# --- values --------------------------------------------------------------------------------------------------------


@given(value=VALUES)
@settings(deadline=None)
def test_values_survive_the_trip(value):
    assert trip(value) == value
    assert type(trip(value)) is type(value)


@given(args=st.lists(VALUES, max_size=3), kwargs=st.dictionaries(st.text(max_size=5), VALUES, max_size=3))
@settings(deadline=None)
def test_calls_survive_the_trip(args, kwargs):
    head, buffers = pack_call(tuple(args), kwargs)
    assert unpack_call(head, received(buffers), {}) == (tuple(args), kwargs)


def test_the_shortest_values_are_constants():
    assert pack(None) == (NONE, [])
    assert pack_call((), {}) == (EMPTY_CALL, [])
    assert unpack(NONE) is None
    assert unpack_call(EMPTY_CALL) == ((), {})
    assert pickle.loads(NONE) is None
    assert pickle.loads(EMPTY_CALL) == ()


def test_empty_calls_do_not_share_their_dictionary():
    _, first = unpack_call(EMPTY_CALL)
    first["x"] = 1
    assert unpack_call(EMPTY_CALL) == ((), {})


@pytest.mark.parametrize(
    "value",
    [(1,), ((),), ([1, {}, False],), ([], {}), (None,), ([1], {"a": 2}, True), ({"args": 1},)],
    ids=repr,
)
def test_arguments_that_look_like_the_packed_form_are_not_mistaken_for_it(value):
    assert call_trip(*value) == (value, {})
    assert call_trip(*value, key=1) == (value, {"key": 1})


def test_what_is_shared_stays_shared():
    inner = [1]
    (first, second), _ = call_trip(inner, {"inner": inner, "large": b"x" * THRESHOLD})
    assert first is second["inner"]


def test_containers_that_contain_themselves():
    value = [1]
    value.append(value)
    again = trip(value)
    assert again[1] is again


# --- buffers -------------------------------------------------------------------------------------------------------


def test_large_arrays_leave_the_pickle_uncopied():
    sent = np.arange(100_000)
    head, buffers = pack_call((sent,), {})
    assert len(head) < 500
    (buffer,) = buffers
    assert buffer.nbytes == sent.nbytes
    assert np.shares_memory(np.frombuffer(buffer, dtype=sent.dtype), sent)


def test_arrays_are_built_on_the_received_memory_and_are_writable():
    sent = np.arange(100_000)
    head, buffers = pack(sent)
    arrived = received(buffers)
    again = unpack(head, arrived)
    assert np.shares_memory(again, np.frombuffer(arrived[0], dtype=again.dtype))
    again += 1
    assert (again == sent + 1).all()


@pytest.mark.parametrize("size", [1, 10, 10_000])
@pytest.mark.parametrize("order", ["C", "F"])
def test_the_order_of_arrays_is_kept(size, order):
    sent = np.asarray(np.arange(size * 3, dtype="f4").reshape(size, 3), order=order)
    again = trip(sent)
    assert again.flags[f"{order}_CONTIGUOUS"]
    assert again.flags.writeable
    assert again.dtype == sent.dtype
    assert (again == sent).all()


def test_views_that_are_not_contiguous():
    sent = np.arange(40_000).reshape(200, 200)[::2, ::3]
    again = trip(sent)
    assert (again == sent).all()
    assert again.flags.writeable


def test_small_arrays_stay_in_the_pickle():
    assert pack(np.arange(10))[1] == []
    again = trip(np.arange(10))
    again[0] = 5


@pytest.mark.parametrize(
    "value",
    [
        np.array([]),
        np.array(3.5),
        np.zeros((0, 5)),
        np.array(["a", "bc"]),
        np.array([1, "x", None], dtype=object),
        np.zeros(3000, dtype=[("a", "i4"), ("b", "f8")]),
        np.array(["2024-01-01"], dtype="M8[us]"),
    ],
    ids=lambda value: str(value.dtype),
)
def test_arrays_of_every_kind(value):
    again = trip(value)
    assert again.dtype == value.dtype
    assert again.shape == value.shape
    assert (again == value).all()


def test_masked_arrays_and_matrices_keep_their_class():
    assert isinstance(trip(np.ma.masked_array([1, 2], [True, False])), np.ma.MaskedArray)


def test_data_frames():
    sent = pd.DataFrame({"a": np.arange(10_000), "b": np.arange(10_000.0), "c": ["x"] * 10_000})
    head, buffers = pack_call((sent,), {})
    assert sum(buffer.nbytes for buffer in buffers) >= 160_000
    (again,), _ = unpack_call(head, received(buffers))
    pd.testing.assert_frame_equal(again, sent)


@pytest.mark.parametrize("kind", [bytes, bytearray])
@pytest.mark.parametrize(
    "wrap",
    [
        lambda value: value,
        lambda value: [1, value],
        lambda value: (value, 2),
        lambda value: {"key": value},
        lambda value: {"items": [(value,), (value,)], "return_exceptions": False},
    ],
    ids=["itself", "list", "tuple", "dict", "map"],
)
def test_large_bytes_leave_the_pickle(kind, wrap):
    sent = wrap(kind(b"x" * 100_000))
    head, buffers = pack(sent)
    assert len(head) < 1000
    assert buffers
    again = unpack(head, received(buffers))
    assert again == sent
    assert type(again) is type(sent)


def test_large_bytes_as_arguments_leave_the_pickle():
    data = b"x" * 100_000
    head, buffers = pack_call((data, [data]), {"key": data})
    assert len(head) < 1000
    assert len(buffers) == 3
    assert unpack_call(head, received(buffers)) == ((data, [data]), {"key": data})


@pytest.mark.parametrize("size", [10, 100_000])
def test_memoryviews_arrive_as_memoryviews(size):
    for sent in (
        memoryview(b"x" * size),
        memoryview(array.array("d", range(size))),
        memoryview(bytearray(size))[::2],
        memoryview(bytes(size)).cast("B", (size // 10, 10)),
    ):
        again = trip(sent)
        assert isinstance(again, memoryview)
        assert again == sent
        assert again.format == sent.format


def test_small_bytes_stay_in_the_pickle():
    assert pack([b"x" * 100])[1] == []


def test_large_containers_are_pickled_without_a_look_inside():
    sent = [b"x" * THRESHOLD] * 100
    head, buffers = pack(sent)
    assert buffers == []
    assert unpack(head) == sent


# --- references ----------------------------------------------------------------------------------------------------


def test_references_are_evaluated_in_the_namespace():
    (value,), _ = call_trip(Reference("a"), _namespace={"a": 5})
    assert value == 5
    (value,), _ = call_trip(Reference("a[1] + 1"), _namespace={"a": [1, 2]})
    assert value == 3
    _, kwargs = call_trip(x=Reference("a"), _namespace={"a": 5})
    assert kwargs == {"x": 5}


def test_references_one_level_inside_containers():
    args, kwargs = call_trip(
        [1, Reference("a")], (Reference("a"),), {"k": Reference("a")}, x=[Reference("a")], _namespace={"a": 5}
    )
    assert args == ([1, 5], (5,), {"k": 5})
    assert kwargs == {"x": [5]}


def test_references_deeper_inside_stay_references():
    (value,), _ = call_trip([[Reference("a")]], _namespace={"a": 5})
    assert value == [[Reference("a")]]


def test_a_name_that_is_missing_says_so():
    with pytest.raises(NameError, match="nowhere"):
        call_trip(Reference("nowhere"), _namespace={})


def test_references_are_made_from_text():
    with pytest.raises(TypeError, match="expression"):
        Reference(5)
    assert repr(Reference("a")) == "<Reference: 'a'>"
    assert Reference("a") == Reference("a") != Reference("b")
    assert len({Reference("a"), Reference("a")}) == 1


# --- packed once ---------------------------------------------------------------------------------------------------


def test_values_packed_once_arrive_as_themselves():
    (value, again), kwargs = call_trip(PrePickled({"a": 1}), 2, key=PrePickled(None))
    assert (value, again, kwargs) == ({"a": 1}, 2, {"key": None})
    assert trip([PrePickled("x")]) == ["x"]


def test_buffers_of_values_packed_once_are_used_again():
    data = np.arange(100_000)
    packed = PrePickled([data, b"y" * 100_000])
    for _ in range(2):
        _, buffers = pack_call((packed,), {})
        assert np.shares_memory(np.frombuffer(buffers[0], dtype=data.dtype), data)
    (value,), _ = call_trip(packed)
    assert (value[0] == data).all()
    assert value[0].flags.writeable
    assert value[1] == b"y" * 100_000


def test_values_packed_once_are_not_pickled_again():
    calls = []

    class Counting:
        def __reduce__(self):
            calls.append(1)
            return dict, ()

    packed = PrePickled(Counting())
    for _ in range(3):
        pack_call((packed,), {})
    assert len(calls) == 1
    assert "Counting" in repr(packed)


def test_functions_inside_values_packed_once_see_the_namespace():
    (function,), _ = call_trip(PrePickled(lambda: pushed), _namespace={"pushed": 3})  # noqa: F821
    assert function() == 3


# --- what plain pickle cannot do -----------------------------------------------------------------------------------


def test_lambdas_and_closures_inside_of_values():
    offset = 3
    (functions,), _ = call_trip([lambda x: x + offset, len])
    assert [functions[0](1), functions[1]("abc")] == [4, 3]


def test_functions_in_arguments_see_the_namespace():
    (function,), _ = call_trip(lambda: pushed, _namespace={"pushed": 5})  # noqa: F821
    assert function() == 5


def test_instances_of_local_classes():
    class Point:
        def __init__(self, x):
            self.x = x

    again = trip([Point(3)])
    assert again[0].x == 3
    assert isinstance(again[0], Point)


def test_modules():
    assert trip({"module": np.linalg})["module"] is np.linalg


def test_functions_of_modules_that_cannot_be_imported_go_by_value(monkeypatch):
    module = ModuleType("made_by_hand")
    exec("def f(x): return x + 1\nclass C: pass", vars(module))
    monkeypatch.setitem(sys.modules, "made_by_hand", module)
    head, _ = pack(module.f)
    assert b"make_function" in head
    assert unpack(head)(1) == 2
    assert b"make_class" in pack(module.C())[0]


def test_the_usual_values_take_the_quick_way(monkeypatch):
    monkeypatch.setattr(serialize, "dump", None)
    for value in (1, "x", [1, 2], np.arange(3), pd.Series([1]), len, np.mean, dt.datetime(2024, 1, 1, tzinfo=dt.UTC)):
        trip(value)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda lock: pack_call((1, lock), {}), ["argument 2", "lock"]),
        (lambda lock: pack_call((), {"guard": lock}), ["argument 'guard'", "lock"]),
        (lambda lock: pack_call(([1, {"deep": lock}],), {}), ["argument 1", "item 1", "key 'deep'"]),
        (lambda lock: pack({"a": lock}), ["the value", "key 'a'"]),
        (lambda lock: pack([lambda: lock]), ["item 0", "its variable 'lock'"]),
    ],
)
def test_the_error_names_the_culprit(call, words):
    with pytest.raises(SerializationError) as caught:
        call(threading.Lock())
    for word in [*words, "_thread.lock"]:
        assert word in str(caught.value)
    assert isinstance(caught.value, TypeError)


def test_the_error_names_attributes():
    class Job:
        def __init__(self):
            self.name = "x"
            self.lock = threading.Lock()

    with pytest.raises(SerializationError, match=r"argument 1, attribute 'lock': cannot pickle '_thread.lock'"):
        pack_call((Job(),), {})


def test_values_nested_too_deeply_are_refused():
    value = []
    for _ in range(100_000):
        value = [value]
    with pytest.raises(SerializationError, match="nested too deeply"):
        pack(value)
    while value:  # taken apart, as the interpreter would recurse
        value = value.pop()


def test_errors_of_user_code_while_pickling_are_explained():
    class Unwilling:
        def __getstate__(self):
            raise ValueError("not me")

    with pytest.raises(SerializationError, match="not me") as caught:
        pack(Unwilling())
    assert isinstance(caught.value.__cause__, ValueError)


# --- other libraries -----------------------------------------------------------------------------------------------


def test_cloudpickle_gives_functions_globals_of_their_own():
    use_cloudpickle()
    head, buffers = pack_call((lambda: pushed,), {})  # noqa: F821
    use_pickle()
    assert b"cloudpickle" in head
    (function,), _ = unpack_call(head, received(buffers), {"pushed": 5})
    with pytest.raises(NameError):
        function()


def test_the_receiver_needs_no_switch():
    use_cloudpickle()
    head, buffers = pack([lambda x: x + 1])
    use_pickle()
    assert unpack(head, received(buffers))[0](1) == 2


def test_a_missing_library_says_what_to_do(monkeypatch):
    monkeypatch.setitem(sys.modules, "dill", None)
    with pytest.raises(ImportError, match="pip install dill"):
        use_dill()
    assert library.chosen() is None
