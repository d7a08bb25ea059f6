"""Every message survives its trip, and garbage is turned away with msgspec's own errors only."""

from __future__ import annotations

import functools
import typing

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from enginery.wire import messages

UNIONS = {
    messages.decode_from_client: messages.FromClient,
    messages.decode_from_engine: messages.FromEngine,
    messages.decode_to_client: messages.ToClient,
    messages.decode_to_engine: messages.ToEngine,
}
#: What decoding raises for bytes that are no message. Text that is not UTF-8 and nesting without end come as Python's
#: own errors: whoever receives has to expect these, too.
TURNED_AWAY = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
PAIRS = [
    pytest.param(decode, kind, id=f"{name}-{kind.__name__}")
    for name, (decode, union) in zip(("client", "engine", "to-client", "to-engine"), UNIONS.items(), strict=True)
    for kind in typing.get_args(union)
]

INTEGERS = st.integers(min_value=-(2**63), max_value=2**63 - 1)
FLOATS = st.floats(allow_nan=False)
TEXT = st.text(max_size=20)
PLAIN = st.recursive(
    st.none() | st.booleans() | INTEGERS | FLOATS | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=6,
)


@functools.cache
def strategy_for(hint):
    """Values of a field's type."""
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    simple = {
        int: INTEGERS,
        float: FLOATS,
        str: TEXT,
        bytes: st.binary(max_size=40),
        bool: st.booleans(),
        type(None): st.none(),
        object: PLAIN,
    }
    if hint in simple:
        return simple[hint]
    if origin is typing.Annotated:
        bounds = hint.__metadata__[0]
        if args[0] is str:
            return st.text(max_size=bounds.max_length)
        least = bounds.ge if bounds.ge is not None else bounds.gt + 1
        return st.integers(min_value=least, max_value=bounds.lt - 1)
    if isinstance(hint, type) and issubclass(hint, msgspec.Struct):
        hints = typing.get_type_hints(hint, include_extras=True)
        return st.builds(hint, **{name: strategy_for(inner) for name, inner in hints.items()})
    if origin is list:
        return st.lists(strategy_for(args[0]), max_size=3)
    if origin is dict:
        return st.dictionaries(strategy_for(args[0]), strategy_for(args[1]), max_size=3)
    return st.one_of(*map(strategy_for, args))


@pytest.mark.parametrize(("decode", "kind"), PAIRS)
@given(data=st.data())
@settings(max_examples=5, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_messages_survive_the_trip(decode, kind, data):
    message = data.draw(strategy_for(kind))
    again = decode(messages.encode(message))
    assert type(again) is kind
    assert again == message


@pytest.mark.parametrize("decode", UNIONS)
@given(garbage=st.binary(max_size=200))
@settings(max_examples=50, deadline=None)
def test_garbage_is_turned_away(decode, garbage):
    with pytest.raises(TURNED_AWAY):
        decode(garbage)


@pytest.mark.parametrize(("decode", "union"), UNIONS.items())
@given(data=st.data())
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_damaged_messages_are_turned_away_or_are_other_messages(decode, union, data):
    kind = data.draw(st.sampled_from(typing.get_args(union)))
    body = bytearray(messages.encode(data.draw(strategy_for(kind))))
    for position in data.draw(st.lists(st.integers(0, len(body) - 1), max_size=4)):
        body[position] = data.draw(st.integers(0, 255))
    body = body[: data.draw(st.integers(0, len(body)))]
    try:
        again = decode(bytes(body))
    except TURNED_AWAY:
        return
    assert isinstance(again, msgspec.Struct)


@pytest.mark.parametrize("decode", UNIONS)
@given(value=PLAIN)
@settings(max_examples=30, deadline=None)
def test_plain_values_are_not_messages(decode, value):
    with pytest.raises(msgspec.ValidationError):
        decode(msgspec.msgpack.encode(value))


@pytest.mark.parametrize("decode", UNIONS)
def test_nesting_without_end_is_turned_away(decode):
    with pytest.raises(TURNED_AWAY):
        decode(b"\x91" * 100_000)
    query = messages.encode(messages.Query(1, "x", {"a": 1}))[:-1] + b"\x91" * 100_000
    with pytest.raises(TURNED_AWAY):
        decode(query)


def test_a_message_for_one_side_is_not_understood_by_the_other():
    with pytest.raises(msgspec.ValidationError):
        messages.decode_from_client(messages.encode(messages.Done([])))
    with pytest.raises(msgspec.ValidationError):
        messages.decode_from_engine(messages.encode(messages.Submit([])))


def test_every_tag_is_used_once():
    kinds = {kind for union in UNIONS.values() for kind in typing.get_args(union)}
    tags = [kind.__struct_config__.tag for kind in kinds]
    assert len(set(tags)) == len(tags)


def test_a_task_is_small_on_the_wire():
    task = messages.Task(1, messages.Action.APPLY, b"d" * 16, b"p" * 10)
    assert len(messages.encode(messages.Submit([task] * 100))) < 100 * 45
