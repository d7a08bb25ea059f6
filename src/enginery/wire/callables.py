"""Functions as bytes: packed once, named by digest, sent once to each engine. No I/O.

What a function is on the other side, and what it brings along, stands in ``wire.rebuild`` and ``wire.by_value``.
"""

from __future__ import annotations

import pickle
import weakref
from collections.abc import Callable
from hashlib import blake2b
from types import FunctionType
from typing import Any, Final

from enginery.wire.culprit import explain
from enginery.wire.importable import goes_by_reference, mentions_foreign
from enginery.wire.library import chosen, dump
from enginery.wire.rebuild import Rebuilder, load
from enginery.wire.reference import Reference
from enginery.wire.requirements import dependent
from enginery.wire.watch import Watch

#: Length of a digest in bytes.
DIGEST_SIZE: Final = 16

_ABSENT: Final = object()


class PackedFunction:
    """A callable as bytes. Equal callables have equal digests; ``name`` is for people."""

    __slots__ = ("body", "digest", "name")

    def __init__(self, body: bytes, name: str) -> None:
        self.digest = blake2b(body, digest_size=DIGEST_SIZE).digest()
        self.body = body
        self.name = name

    def __repr__(self) -> str:
        return f"<PackedFunction {self.name} {self.digest.hex()[:8]}: {len(self.body)} bytes>"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, PackedFunction) and other.digest == self.digest

    def __hash__(self) -> int:
        return hash(self.digest)


#: id of a callable -> the callable, what it was packed to, and what that depends on.
_cache: dict[int, tuple[weakref.ref[Any], PackedFunction, Watch]] = {}


def pack_function(function: Any) -> PackedFunction:
    """Pack a callable, or a ``Reference`` to one.

    The result is remembered with the callable as long as nothing it depends on can have changed. Safe in any thread.
    Raises TypeError for what cannot be called, SerializationError for what cannot be sent.
    """
    # Paid once per task by the client.
    known = _cache.get(id(function))
    if known is not None and known[0]() is function and known[2].holds() and chosen() is None:
        return known[1]
    name = name_of(function)
    if not callable(function) and not isinstance(function, Reference):
        raise TypeError(f"{name} cannot be called: pass a function, another callable, or a Reference to one.")
    body, watch = _pack(function, name)
    packed = PackedFunction(body, name)
    if watch is not None:
        _remember(function, packed, watch)
    return packed


def unpack_function(body: bytes, namespace: dict[str, Any] | None) -> Callable[..., Any]:
    """Rebuild a callable with ``namespace`` as the globals of functions that have none over here.

    Called again later, it puts back what it carries, as far as the rules of ``wire.rebuild`` let it.
    Raises what unpickling raises: ModuleNotFoundError for a module that is missing here, above all.
    """
    rebuilder = Rebuilder(namespace)
    made = load(body, (), rebuilder)
    if isinstance(made, Reference):
        return _Referring(made, rebuilder.namespace)
    if not callable(made):
        raise TypeError(f"What was sent as a function is {made!r}, which cannot be called.")
    return _Carrying(made, rebuilder) if rebuilder.carried or rebuilder.left else made


def name_of(function: Any) -> str:
    """Return what to call a callable in messages."""
    if isinstance(function, Reference):
        return function.name
    while hasattr(function, "func") and not hasattr(function, "__qualname__"):
        function = function.func  # a partial has no name of its own
    name = getattr(function, "__qualname__", None) or getattr(function, "__name__", None)
    return name if isinstance(name, str) else type(function).__qualname__


class _Referring:
    """A reference that is called: the function is looked up each time."""

    __slots__ = ("_namespace", "_reference")

    def __init__(self, reference: Reference, namespace: dict[str, Any]) -> None:
        self._reference = reference
        self._namespace = namespace

    def __call__(self, /, *args: Any, **kwargs: Any) -> Any:
        return self._reference.resolve(self._namespace)(*args, **kwargs)


class _Carrying:
    """A callable that makes sure, before each call, that what it carries is in place."""

    __slots__ = ("__wrapped__", "_carried", "_left", "_namespace", "_rebuilder")

    def __init__(self, function: Callable[..., Any], rebuilder: Rebuilder) -> None:
        self.__wrapped__ = function
        self._rebuilder = rebuilder
        self._namespace = rebuilder.namespace
        self._carried = [(name, value) for name, (value, _) in rebuilder.carried.items()]
        self._left = rebuilder.left

    def __call__(self, /, *args: Any, **kwargs: Any) -> Any:
        namespace = self._namespace
        for name, value in self._carried:
            if namespace.get(name, _ABSENT) is not value:
                self._put_back()
                break
        if not self._left:
            return self.__wrapped__(*args, **kwargs)
        for name in self._left:
            self._rebuilder.injected.withdraw(name)
        try:
            return self.__wrapped__(*args, **kwargs)
        except NameError as error:
            if error.name in self._left:
                error.add_note(self._left[error.name])
            raise

    def __getattr__(self, name: str) -> Any:
        return getattr(self.__wrapped__, name)

    def __repr__(self) -> str:
        return repr(self.__wrapped__)

    def _put_back(self) -> None:
        offer = self._rebuilder.injected.offer
        for name, (value, fingerprint) in self._rebuilder.carried.items():
            offer(name, value, fingerprint)


def _pack(function: Any, name: str) -> tuple[bytes, Watch | None]:
    watch = Watch()
    try:
        body = pickle.dumps(function, 5)
    except Exception:  # pickle raises AttributeError, TypeError and its own; user-defined __reduce__ anything
        body = b""
    if body and not mentions_foreign(body):
        return body, watch if goes_by_reference(function) and watch.add_reference(function) else None
    try:
        if chosen() is not None:
            return dump(function), None
        return _pack_by_value(function, watch)
    except Exception as error:
        raise explain(error, {f"function {name!r}": function}, dump) from error


def _pack_by_value(function: Any, watch: Watch) -> tuple[bytes, Watch | None]:
    # Imported at first need: cloudpickle costs as much as the rest of the client.
    from enginery.wire.by_value import pickle_by_value
    from enginery.wire.classes import version_of

    body, pickler = pickle_by_value(function)
    for cls in pickler.classes:
        watch.add_class(cls, version_of(cls))
    for here, global_name, value in pickler.left:
        watch.add_left(here, global_name, value)
    is_constant = (
        function.is_constant() if isinstance(function, dependent) else isinstance(function, FunctionType | type)
    ) and all(watch.add_function(each, names) for each, names in pickler.functions)
    return body, watch if is_constant else None


def _remember(function: Any, packed: PackedFunction, watch: Watch) -> None:
    key = id(function)
    try:
        reference = weakref.ref(function, lambda _: _cache.pop(key, None))
    except TypeError:  # no weak references to it; packing it again is cheap, it goes by name
        return
    _cache[key] = (reference, packed, watch)
