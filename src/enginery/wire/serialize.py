"""Values as bytes: a pickled head, and large buffers beside it that are never copied. No I/O.

1. Plain pickle (protocol 5) goes first. Where it fails, or names something of a module that the receiver cannot import,
   the pickler of ``wire.by_value`` does it again.
2. Buffers of 4 KiB and more leave the pickle and travel as frames: arrays, and large ``bytes``, ``bytearray`` and
   ``memoryview`` as arguments or one level inside of them. What arrives is built on the received buffers, so an array
   is writable if its buffer is.
3. A call is packed as the tuple of its arguments; as ``[args, kwargs, has_references]`` if there is more to say.

Only clients and engines unpack. The controller never does.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterable, Sequence
from pickle import PickleBuffer, dumps
from typing import Any, Final

from enginery.wire import rebuild
from enginery.wire.aside import THRESHOLD, aside_into
from enginery.wire.culprit import explain
from enginery.wire.importable import mentions_foreign
from enginery.wire.library import dump, use_cloudpickle, use_dill, use_pickle
from enginery.wire.reference import Reference, resolved

__all__ = [
    "EMPTY_CALL",
    "NONE",
    "THRESHOLD",
    "Buffer",
    "PrePickled",
    "Reference",
    "pack",
    "pack_call",
    "unpack",
    "unpack_call",
    "use_cloudpickle",
    "use_dill",
    "use_pickle",
]

Buffer = memoryview | bytes | bytearray

#: Containers with as many entries are pickled as they are, without a look inside.
_OPAQUE: Final = 64
#: How deep ``pack`` looks for large bytes: a map's items are argument tuples in a list in a dictionary.
_DEPTH: Final = 3

#: The packed call without arguments, and the packed None.
EMPTY_CALL: Final = dumps((), 5)
NONE: Final = dumps(None, 5)

#: Types whose values plain pickle handles whatever they are.
_SCALARS: Final = frozenset({type(None), bool, int, float, complex, str})
_BYTES: Final = frozenset({bytes, bytearray, memoryview})
_SPECIAL: Final = _BYTES | {Reference}
_CONTAINERS: Final = frozenset({list, tuple, dict})


class PrePickled:
    """A value pickled once and sent many times: ``view.apply(f, PrePickled(data))``. Engines see the value itself.

    The value is pickled when this is made: later changes to it are not sent, except inside its large buffers.
    """

    __slots__ = ("buffers", "head", "obj")

    def __init__(self, obj: object) -> None:
        self.obj = obj
        self.head, self.buffers = pack(obj)

    def __repr__(self) -> str:
        size = len(self.head) + sum(buffer.nbytes for buffer in self.buffers)
        return f"<PrePickled {type(self.obj).__name__}: {size} bytes>"

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[PickleBuffer, list[PickleBuffer]]]:
        return rebuild.load_packed, (PickleBuffer(self.head), [PickleBuffer(buffer) for buffer in self.buffers])


class _Raw:
    """A large bytes-like object on its way: pickles as a buffer, unpickles as what it was."""

    __slots__ = ("value",)

    def __init__(self, value: Buffer) -> None:
        self.value = value

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        value = self.value
        if isinstance(value, memoryview):
            flat = value if value.contiguous else memoryview(value.tobytes())
            return rebuild.as_memoryview, (PickleBuffer(flat), value.format, value.shape)
        return (rebuild.as_bytes if isinstance(value, bytes) else rebuild.as_bytearray), (PickleBuffer(value),)


def pack(obj: object) -> tuple[bytes, list[memoryview]]:
    """Pack a value: the head, and the buffers that travel beside it (views of the value's memory, not copies).

    Raises SerializationError, which names what inside the value cannot be sent.
    """
    if obj is None:
        return NONE, []
    kind = type(obj)
    if kind in _SCALARS:
        return dumps(obj, 5), []
    if kind in _SPECIAL or kind in _CONTAINERS:
        return _pack(_prepared(obj, _DEPTH), lambda: {f"the value (a {kind.__name__})": obj})
    return _pack(obj, lambda: {f"the value (a {kind.__name__})": obj})


def pack_call(args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[bytes, list[memoryview]]:
    """Pack the arguments of a call. Raises SerializationError, which names the argument that cannot be sent."""
    # This is paid once per task by the client; calls with plain arguments leave by the first doors.
    if not kwargs:
        if not args:
            return EMPTY_CALL, []
        if _SCALARS.issuperset(map(type, args)):
            return dumps(args, 5), []
    elif _SCALARS.issuperset(map(type, args)) and _SCALARS.issuperset(map(type, kwargs.values())):
        return dumps([args, kwargs, False], 5), []
    packed: object
    if _is_plain(args) and (not kwargs or _is_plain(kwargs.values())):
        packed = [args, kwargs, False] if kwargs else args
    else:
        has_references = _has_reference(args) or _has_reference(kwargs.values())
        args = tuple(_prepared(value) for value in args)
        kwargs = {name: _prepared(value) for name, value in kwargs.items()}
        packed = [args, kwargs, has_references] if kwargs or has_references else args
    return _pack(packed, lambda: _arguments(args, kwargs))


def unpack(head: bytes, buffers: Iterable[Buffer] = (), namespace: dict[str, Any] | None = None) -> Any:
    """Unpack a value. Functions in it are at home in ``namespace``; with None they get globals of their own.

    Trusts its input: anything the sender's pickle asks for is done.
    """
    if head == NONE:
        return None
    return rebuild.load(head, buffers, namespace)


def unpack_call(
    head: bytes, buffers: Iterable[Buffer] = (), namespace: dict[str, Any] | None = None
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Unpack the arguments of a call, references among them replaced by what they mean in ``namespace``.

    Raises what evaluating a reference raises, NameError above all.
    """
    if head == EMPTY_CALL:
        return (), {}
    packed = rebuild.load(head, buffers, namespace)
    if type(packed) is tuple:
        return packed, {}
    args, kwargs, has_references = packed
    if has_references:
        here = {} if namespace is None else namespace
        args = tuple(resolved(value, here) for value in args)
        kwargs = {name: resolved(value, here) for name, value in kwargs.items()}
    return args, kwargs


def _pack(obj: object, parts: Callable[[], dict[str, object]]) -> tuple[bytes, list[memoryview]]:
    buffers: list[memoryview] = []
    try:
        head = dumps(obj, 5, buffer_callback=aside_into(buffers))
    except Exception:  # pickle raises AttributeError, TypeError and its own; user-defined __reduce__ anything
        head = b""
    if head and not mentions_foreign(head):
        return head, buffers
    buffers.clear()
    try:
        return dump(obj, buffers), buffers
    except Exception as error:
        raise explain(error, parts(), dump) from error


def _is_plain(values: Iterable[Any]) -> bool:
    """Whether none of the values, and nothing one level inside of them, needs special treatment."""
    for value in values:
        kind = type(value)
        if kind in _SPECIAL:
            return False
        if kind in _CONTAINERS and len(value) < _OPAQUE:
            inside: Sequence[Any] = value.values() if kind is dict else value
            if not _SPECIAL.isdisjoint(map(type, inside)):
                return False
    return True


def _has_reference(values: Iterable[Any]) -> bool:
    for value in values:
        kind = type(value)
        if kind is Reference:
            return True
        if kind in _CONTAINERS and len(value) < _OPAQUE:
            if Reference in map(type, value.values() if kind is dict else value):
                return True
    return False


def _prepared(value: Any, depth: int = 1) -> Any:
    """The value with large bytes-like objects in it, or ``depth`` levels inside, wrapped to travel as buffers.

    Containers that hold none are returned as they are, so that what is shared stays shared.
    """
    kind = type(value)
    if kind in _BYTES:
        # A memoryview cannot be pickled in place, however small it is.
        return _Raw(value) if kind is memoryview or len(value) >= THRESHOLD else value
    if depth < 0 or kind not in _CONTAINERS or len(value) >= _OPAQUE:
        return value
    inside = list(value.values() if kind is dict else value)
    prepared = [_prepared(entry, depth - 1) for entry in inside]
    if all(map(operator.is_, inside, prepared)):
        return value
    return dict(zip(value, prepared, strict=True)) if kind is dict else kind(prepared)


def _arguments(args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, object]:
    found: dict[str, object] = {f"argument {number}": value for number, value in enumerate(args, 1)}
    found.update((f"argument {name!r}", value) for name, value in kwargs.items())
    return found
