"""Traces of values: while the trace of a value stays equal, the value has not changed. No I/O."""

from __future__ import annotations

import hashlib
import pickle
import types
import weakref
from typing import Final

#: What can be compared with the trace of the same name later; nothing else may be done with it.
Trace = object

#: Values of these types never change.
ATOMIC: Final = frozenset(
    {type(None), bool, int, float, complex, str, bytes, range, type(Ellipsis), type(NotImplemented)}
)
#: Things with an identity of their own: replaced, not changed (functions are watched separately).
NAMED: Final = (type, types.FunctionType, types.ModuleType, types.BuiltinFunctionType)

_DESCRIPTORS: Final = (
    types.GetSetDescriptorType,
    types.MemberDescriptorType,
    types.WrapperDescriptorType,
    types.MethodDescriptorType,
    types.ClassMethodDescriptorType,
)


def trace_of(value: object) -> Trace:
    """Return the trace of a value; holds no strong reference to functions, classes and modules."""
    if type(value) in ATOMIC:
        return type(value), value
    if isinstance(value, NAMED):
        return weakref.ref(value)
    if isinstance(value, staticmethod | classmethod):
        return trace_of(value.__func__)
    if isinstance(value, property):
        return trace_of(value.fget), trace_of(value.fset), trace_of(value.fdel)
    if isinstance(value, _DESCRIPTORS):
        return type(value)
    return measure(value)[0] or object()  # an object equals nothing: changed every time


def measure(value: object, limit: int | None = None) -> tuple[bytes | None, int]:
    """Return a digest of a value's contents, and how many bytes it takes to send it.

    Functions and classes inside count by their names only. The digest is None, and the size 0, where plain pickle
    cannot read the value; above ``limit`` bytes no digest is made.
    """
    buffers: list[pickle.PickleBuffer] = []
    try:
        head = pickle.dumps(value, 5, buffer_callback=buffers.append)
        contents: list[bytes | memoryview] = [head, *(buffer.raw() for buffer in buffers)]
        size = sum(map(len, contents))
        if limit is not None and size > limit:
            return None, size
        digest = hashlib.blake2b(digest_size=16)
        for content in contents:
            digest.update(content)
    except Exception:  # user-defined __reduce__ and __getstate__ may raise anything
        return None, 0
    return digest.digest(), size
