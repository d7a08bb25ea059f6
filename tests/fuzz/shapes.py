"""Messages of every kind out of a fuzzer's bytes: what fields may hold by their types, the strangest values included."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING

import msgspec
from msgspec import inspect

if TYPE_CHECKING:
    from fuzz.targets import Bytes

INTEGERS = [0, 1, 2, -1, 3, 1 << 20, (1 << 20) + 1, 1 << 31, (1 << 63) - 1, -(1 << 63)]
FLOATS = [0.0, 1.0, -1.0, 0.5, 1e300, -1e300, float("inf"), float("-inf"), float("nan")]
WORDS = ["", "e0", "e1", "x", "tasks", "why", "story", "statistics", "queue_status", "scope", "\x00", "ä" * 40]
DEEPEST = 4


described = functools.cache(inspect.type_info)


def message(read: Bytes, kinds: list[type]) -> msgspec.Struct:
    """A message of one of these kinds."""
    kind = kinds[read.number(len(kinds))]
    return kind(**_fields(described(kind), read, 0))


def _fields(info: inspect.Type, read: Bytes, depth: int) -> dict[str, object]:
    assert isinstance(info, inspect.StructType)
    # Half of the fields that may be left out are.
    return {each.name: value(each.type, read, depth + 1) for each in info.fields if each.required or read.number(2)}


def value(info: inspect.Type, read: Bytes, depth: int = 0) -> object:
    """Something that a field of this type may hold."""
    match info:
        case inspect.IntType():
            return INTEGERS[read.number(len(INTEGERS))]
        case inspect.FloatType():
            return FLOATS[read.number(len(FLOATS))]
        case inspect.StrType():
            return WORDS[read.number(len(WORDS))]
        case inspect.BytesType() | inspect.RawType():
            return read.text()
        case inspect.BoolType():
            return bool(read.number(2))
        case inspect.NoneType():
            return None
        case inspect.EnumType():
            members = list(info.cls)
            return members[read.number(len(members))]
        case inspect.ListType():
            return [value(info.item_type, read, depth + 1) for _ in range(read.number(4) if depth < DEEPEST else 0)]
        case inspect.DictType():
            size = read.number(4) if depth < DEEPEST else 0
            return {value(info.key_type, read, depth + 1): value(info.value_type, read, depth + 1) for _ in range(size)}
        case inspect.UnionType():
            return value(info.types[read.number(len(info.types))], read, depth + 1)
        case inspect.StructType():
            return info.cls(**_fields(info, read, depth))
        case inspect.AnyType() | inspect.CustomType():
            return _anything(read, depth)
    raise NotImplementedError(info)


def _anything(read: Bytes, depth: int) -> object:
    kind = read.number(8 if depth < DEEPEST else 5)
    if kind >= 5:
        inner = [_anything(read, depth + 1) for _ in range(read.number(4))]
        return inner if kind == 5 else dict(zip(WORDS[read.number(4) :], inner, strict=False))
    choices: list[object] = [[None], INTEGERS, FLOATS, WORDS, [True, False]][kind]  # type: ignore[assignment]
    return choices[read.number(len(choices))]
