"""The receiving side of what goes by value: functions are made anew with the engine's namespace as globals. No I/O.

The engine's globals come first:

1. A function of ``__main__`` is rebuilt with the namespace as its globals. It reads what was pushed there, and
   ``global x`` writes there.
2. What the function refers to on the client comes along (it is *carried*) and is put into the namespace where that has
   no value under the name, or only one that was carried before and is still that same object.
3. What the client could not send, or the engine cannot import, is left out: the engine may have its own. If it has not,
   the NameError says why.
4. So a pushed name beats a carried one, and a carried one follows the client's changes. A carried mutable object that
   has not changed on the client stays as the engine's functions left it.

Pickles made by ``wire.by_value`` call the functions of this file by name. ``load`` binds those names to a namespace for
the time of one unpickling; without one they build functions with globals of their own.
"""

from __future__ import annotations

import builtins
import functools
import importlib
import io
import pickle
import sys
from collections.abc import Callable, Iterable
from types import CellType, FunctionType
from typing import TYPE_CHECKING, Any, Final

from enginery.wire.code import load_code, remember_source

if TYPE_CHECKING:
    from enginery.wire.code import Source

#: Where a function's globals are: nothing for the namespace, else one of these and a name.
MODULE: Final = "module:"
PRIVATE: Final = "private:"

_MISSING: Final = object()
_HERE: Final = __name__
_MARKS: Final = (_HERE.encode(), b"__main__")
#: How many namespaces are remembered by their dictionary; an engine has one.
_MOST_NAMESPACES: Final = 64


class Injected:
    """What this mechanism has put into one namespace: name -> the object, and the fingerprint of its origin."""

    __slots__ = ("_put", "namespace")

    def __init__(self, namespace: dict[str, Any]) -> None:
        self.namespace = namespace
        self._put: dict[str, tuple[object, bytes | None]] = {}

    def offer(self, name: str, value: object, fingerprint: bytes | None) -> None:
        """Put a carried value into the namespace, unless the user's own value stands there."""
        present = self.namespace.get(name, _MISSING)
        if present is value:
            return
        if present is not _MISSING:
            before = self._put.get(name)
            if before is None or before[0] is not present:
                self._put.pop(name, None)
                return
            if fingerprint is not None and before[1] == fingerprint:
                return  # unchanged where it comes from; what was done to it here stays
        self.namespace[name] = value
        self._put[name] = (value, fingerprint)

    def withdraw(self, name: str) -> None:
        """Take a carried value away again, if it still stands there: it is out of date."""
        before = self._put.pop(name, None)
        if before is not None and self.namespace.get(name, _MISSING) is before[0]:
            del self.namespace[name]


_tables: dict[int, Injected] = {}


def injected_into(namespace: dict[str, Any]) -> Injected:
    """Return the table of a namespace, the same one each time. Tables keep their namespace alive."""
    table = _tables.get(id(namespace))
    if table is None:
        while len(_tables) >= _MOST_NAMESPACES:
            del _tables[next(iter(_tables))]
        table = _tables[id(namespace)] = Injected(namespace)
    return table


class Rebuilder:
    """Makes the functions of one pickle.

    ``carried`` collects what was offered to the namespace, ``left`` what could not be, with the reasons.
    """

    def __init__(self, namespace: dict[str, Any] | None) -> None:
        self.namespace: dict[str, Any] = {"__name__": "__main__"} if namespace is None else namespace
        self.injected = Injected(self.namespace) if namespace is None else injected_into(namespace)
        self.carried: dict[str, tuple[object, bytes | None]] = {}
        self.left: dict[str, str] = {}
        self._private: dict[str, dict[str, Any]] = {}

    def make_function(
        self, magic: bytes, body: bytes, source: Source | None, home: str, name: str, cells: tuple[CellType, ...] | None
    ) -> FunctionType:
        """First half of a function: its code, with cells that may still be empty."""
        if source is not None:
            remember_source(*source)
        return FunctionType(load_code(magic, body), self._globals(home), name, None, cells)

    def set_function(self, function: FunctionType, state: dict[str, Any]) -> None:
        """Second half of a function: everything that may refer to the function itself."""
        for module in state.get("imports", ()):
            # Submodules the function reaches as attributes of a package; if one is missing, using it says so.
            with _Forgiving():
                importlib.import_module(module)
        for cell, content in zip(function.__closure__ or (), state.get("cells", ()), strict=False):
            if content:
                cell.cell_contents = content[0]
        carried, left = state.get("carried", {}), state.get("left", {})
        for name, module in state.get("modules", {}).items():
            try:
                carried[name] = importlib.import_module(module)
            except ImportError as missing:
                left[name] = f"'{name}' is module {module} on the client, and cannot be imported here: {missing}."
        self._carry(function.__globals__, carried, state.get("fingerprints", {}))
        if function.__globals__ is self.namespace:
            self.left.update(left)
            for name in left:
                self.injected.withdraw(name)
        function.__dict__.update(state.get("dict", {}))
        for attribute in ("module", "qualname", "doc", "defaults", "kwdefaults", "annotations"):
            if attribute in state:
                setattr(function, f"__{attribute}__", state[attribute])

    def load_packed(self, head: bytes, buffers: Iterable[Any]) -> object:
        """Unpack what was packed once, ahead of the pickle that contains it."""
        return load(head, buffers, self)

    def _globals(self, home: str) -> dict[str, Any]:
        if not home:
            return self.namespace
        if home.startswith(MODULE):
            return importlib.import_module(home.removeprefix(MODULE)).__dict__
        name = home.removeprefix(PRIVATE).partition(":")[2]
        return self._private.setdefault(home, {"__name__": name, "__builtins__": builtins})

    def _carry(self, target: dict[str, Any], values: dict[str, Any], fingerprints: dict[str, bytes]) -> None:
        if target is not self.namespace:
            target.update(values)
            return
        for name, value in values.items():
            fingerprint = fingerprints.get(name)
            self.carried[name] = (value, fingerprint)
            self.injected.offer(name, value, fingerprint)


class _Forgiving:
    """Passes over ImportError: cheaper than contextlib.suppress and as short."""

    def __enter__(self) -> None: ...

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> bool:
        return kind is not None and issubclass(kind, ImportError)


class _Unpickler(pickle.Unpickler):
    """Binds the names below to a rebuilder, and looks for ``__main__`` in the namespace first."""

    def __init__(self, head: bytes, buffers: Iterable[Any], rebuilder: Rebuilder, *, engine: bool) -> None:
        super().__init__(io.BytesIO(head), buffers=buffers)
        self._rebuilder = rebuilder
        self._engine = engine

    def find_class(self, module: str, name: str, /) -> Any:
        if module == _HERE and name in _BOUND:
            return getattr(self._rebuilder, name)
        if module == "__main__" and self._engine:
            first, *rest = name.split(".")
            found = self._rebuilder.namespace.get(first, _MISSING)
            if found is not _MISSING:
                return functools.reduce(getattr, rest, found)
        return super().find_class(module, name)


def load(head: bytes, buffers: Iterable[Any], namespace: dict[str, Any] | Rebuilder | None = None) -> Any:
    """Unpickle with functions at home in ``namespace``; with None they get globals of their own."""
    if type(head) is not bytes:
        head = bytes(head)
    for mark in _MARKS:
        if mark in head:
            break
    else:
        return pickle.loads(head, buffers=buffers)
    rebuilder = namespace if isinstance(namespace, Rebuilder) else Rebuilder(namespace)
    return _Unpickler(head, buffers, rebuilder, engine=namespace is not None).load()


# --- names that pickles refer to -----------------------------------------------------------------------------------


def make_function(*arguments: Any) -> FunctionType:
    """Outside of ``load``: a function whose globals are its own."""
    return Rebuilder(None).make_function(*arguments)


def set_function(function: FunctionType, state: dict[str, Any]) -> None:
    """Outside of ``load``: second half of such a function."""
    Rebuilder(None).set_function(function, state)


def load_packed(head: bytes, buffers: Iterable[Any]) -> object:
    """Outside of ``load``: unpack what was packed ahead."""
    return load(head, buffers)


_BOUND: Final = frozenset({"load_packed", "make_function", "set_function"})


def make_cell() -> CellType:
    """An empty cell of a closure; functions that share a variable share the cell."""
    return CellType()


def make_cached(function: Callable[..., Any], parameters: dict[str, Any]) -> Callable[..., Any]:
    """A function under ``functools.lru_cache``, with an empty cache."""
    cached: Callable[..., Any] = functools.lru_cache(**parameters)(function)
    return cached


def make_cached_property(function: Callable[[Any], Any], name: str | None) -> functools.cached_property[Any]:
    """A ``functools.cached_property`` that knows its name."""
    made = functools.cached_property(function)
    if name is not None:
        made.attrname = name
    return made


def load_with(library: str, data: bytes) -> Any:
    """Load what another pickling library made (dill, cloudpickle). Raises ImportError if it is not here."""
    importlib.import_module(library)
    return sys.modules[library].loads(data)


def as_bytes(buffer: Any) -> bytes:
    """Large bytes that travelled as a buffer."""
    return bytes(buffer)


def as_bytearray(buffer: Any) -> bytearray:
    """A large bytearray that travelled as a buffer."""
    return bytearray(buffer)


def as_memoryview(buffer: Any, format_: str, shape: tuple[int, ...]) -> memoryview:
    """A memoryview that travelled as a buffer."""
    view = memoryview(buffer)
    return view if format_ == "B" and len(shape) == 1 else view.cast("B").cast(format_, shape)  # type: ignore[call-overload]
