"""The pickler that sends by value what the receiver cannot import: functions, classes, modules. No I/O.

It stands on cloudpickle for classes and for the many kinds of objects that plain pickle refuses, and treats functions
its own way (see ``wire.rebuild`` for what becomes of them):

- Code travels with its source lines; cells of closures keep being shared; a function may refer to itself.
- Which globals a function has on the other side depends on where it comes from. Functions of ``__main__``, and of
  modules nobody else can import, are at home in the engine's namespace and carry the globals they read. Functions of
  an importable module that cannot be found by name (lambdas, nested ones) are at home in that module over there,
  and carry nothing; unless they refer to names their module lacks: those must be meant for the namespace.
- A global that cannot be pickled, or is large, stays at home: the engines may have their own (a connection, their part
  of the data), and if they have not, passing it or pushing it is for the user to decide.
- Functions made by ``exec`` with globals of their own (methods of namedtuples) get private globals; so do functions of
  two modules that use one name for different things.
"""

from __future__ import annotations

import builtins
import copyreg
import functools
import importlib
import io
import sys
from collections.abc import Callable, Iterable
from dataclasses import MISSING
from importlib.util import MAGIC_NUMBER
from pickle import PickleBuffer
from types import CellType, FunctionType, MethodType, ModuleType
from typing import Any, Final

import cloudpickle.cloudpickle as cp

from enginery.wire import rebuild
from enginery.wire.aside import aside_into
from enginery.wire.classes import reduce_class
from enginery.wire.code import CodeFacts, facts_of
from enginery.wire.importable import goes_by_reference, is_importable
from enginery.wire.traces import ATOMIC, NAMED, measure

#: A global of more bytes than this is not carried along. (It would be pickled for each call that refers to it.)
MOST_CARRIED: Final = 4 * 1024 * 1024

_CACHED: Final = type(functools.lru_cache(maxsize=1)(lambda: None))


class ByValuePickler(cp.Pickler):  # type: ignore[misc]
    """One pickling.

    Afterwards ``functions`` are those that went by value, each with the global names that its bytes depend on,
    ``classes`` the classes that went by value, and ``left`` the globals that stayed at home. ``verdicts`` is for the
    second attempt, when the first one failed: there carried values are tried one by one.
    """

    def __init__(
        self,
        file: io.BytesIO,
        buffer_callback: Callable[[PickleBuffer], Any] | None = None,
        verdicts: dict[int, str] | None = None,
    ) -> None:
        # A flat table: cloudpickle's chain of two costs a Python call for each object that is in neither.
        self.dispatch_table = {**copyreg.dispatch_table, **cp.Pickler._dispatch_table}
        super().__init__(file, protocol=5, buffer_callback=buffer_callback)
        self.functions: list[tuple[FunctionType, tuple[str, ...]]] = []
        self.classes: list[type] = []
        self.left: list[tuple[dict[str, Any], str, object]] = []
        self._verdicts = verdicts
        self._cells: set[int] = set()
        self._owners: dict[str, tuple[dict[str, Any], object]] = {}
        self._private: dict[int, str] = {}

    def reducer_override(self, thing: Any) -> Any:
        """Called by pickle for everything but the plainest builtin types."""
        kind = type(thing)
        if kind is FunctionType:
            return NotImplemented if goes_by_reference(thing) else self._reduce_function(thing)
        if issubclass(kind, type):
            return self._reduce_class(thing)
        reducer = _REDUCERS.get(kind)
        if reducer is not None:
            return reducer(self, thing)
        return _reduce_module(self, thing) if isinstance(thing, ModuleType) else NotImplemented

    # --- classes, cells ----------------------------------------------------------------------------------------

    def _reduce_class(self, cls: type) -> Any:
        if goes_by_reference(cls):
            return NotImplemented
        reduced = reduce_class(cls)
        if len(reduced) > 2:  # noqa: PLR2004 - more than (callable, arguments): not one of NoneType and its like
            self.classes.append(cls)
        return reduced

    def _reduce_cell(self, cell: CellType) -> Any:
        if id(cell) in self._cells:
            return rebuild.make_cell, ()  # its function fills it, when everything it may refer to has begun to exist
        return cp._cell_reduce(cell)

    # --- functions ---------------------------------------------------------------------------------------------

    def _reduce_function(self, function: FunctionType) -> Any:
        facts = facts_of(function.__code__)
        closure = function.__closure__
        if closure is not None:
            self._cells.update(map(id, closure))
        home, carried = self._home_of(function, facts)
        state = _state_of(function, facts, carried)
        stayed: set[str] = set()
        if carried:
            stayed.update(self._add_carried(state, carried))
            self.left += [(function.__globals__, name, carried[name]) for name in stayed]
        is_elsewhere = home.startswith(rebuild.MODULE)
        self.functions.append((function, () if is_elsewhere else tuple(n for n in facts.loads if n not in stayed)))
        source = tuple(facts.source) if facts.source is not None else None
        arguments = (MAGIC_NUMBER, facts.body, source, home, function.__name__, closure)
        return rebuild.make_function, arguments, state, None, None, rebuild.set_function

    def _home_of(self, function: FunctionType, facts: CodeFacts) -> tuple[str, dict[str, Any]]:
        """Where the function's globals are on the other side, and what it carries there."""
        here = function.__globals__
        name = here.get("__name__")
        if name != "__main__":
            module = sys.modules.get(name) if isinstance(name, str) else None
            is_modules_own = module is not None and vars(module) is here
            if (not is_modules_own or is_importable(str(name))) and not _lacks_names(here, facts):
                if is_modules_own:
                    return f"{rebuild.MODULE}{name}", {}
                return self._private_home(here), carried_by(function, facts)
        carried = carried_by(function, facts)
        for global_name, value in carried.items():
            owner, theirs = self._owners.setdefault(global_name, (here, value))
            if owner is not here and theirs is not value:
                return self._private_home(here), carried
        return "", carried

    def _add_carried(self, state: dict[str, Any], carried: dict[str, Any]) -> Iterable[str]:
        """Sort out what the function carries; returns the names that stay at home."""
        values, modules, left, fingerprints = {}, {}, {}, {}
        for name, value in carried.items():
            if isinstance(value, ModuleType) and _goes_by_name(value):
                modules[name] = value.__name__
                continue
            fingerprint, reason = self._look_at(value)
            if reason:
                left[name] = f"'{name}' exists on the client, but {reason}. Push it, or pass it as an argument."
                continue
            values[name] = value
            if fingerprint is not None:
                fingerprints[name] = fingerprint
        found = {"carried": values, "modules": modules, "left": left, "fingerprints": fingerprints}
        state.update((key, entries) for key, entries in found.items() if entries)
        return left

    def _look_at(self, value: object) -> tuple[bytes | None, str]:
        """The fingerprint of what may be changed in place on either side; why it is not carried, if it is not."""
        fingerprint = None
        if type(value) in ATOMIC:
            size = len(value) if isinstance(value, str | bytes) else 0
        elif isinstance(value, NAMED):
            size = 0
        else:
            fingerprint, size = measure(value, MOST_CARRIED)
        if size > MOST_CARRIED:
            return None, f"it is too large to be carried along with a function ({size / 1e6:.1f} MB)"
        if self._verdicts is not None and fingerprint is None:
            return None, self._try_alone(value)
        return fingerprint, ""

    def _try_alone(self, value: object) -> str:
        assert self._verdicts is not None
        verdict = self._verdicts.get(id(value))
        if verdict is None:
            self._verdicts[id(value)] = ""  # what refers to itself is fine as far as that goes
            try:
                ByValuePickler(io.BytesIO(), None, self._verdicts).dump(value)
            except Exception as error:  # user-defined __reduce__ and __getstate__ may raise anything
                self._verdicts[id(value)] = f"it could not be sent: {error}".rstrip(".")
            verdict = self._verdicts[id(value)]
        return verdict

    def _private_home(self, here: dict[str, Any]) -> str:
        number = self._private.setdefault(id(here), str(len(self._private)))
        return f"{rebuild.PRIVATE}{number}:{here.get('__name__', '')}"


def carried_by(function: FunctionType, facts: CodeFacts) -> dict[str, Any]:
    """Return the globals that a function reads and that exist, by name."""
    here = function.__globals__
    return {name: here[name] for name in facts.loads if name in here}


def pickle_by_value(thing: object, buffers: list[memoryview] | None = None) -> tuple[bytes, ByValuePickler]:
    """Pickle a value whose functions and classes the receiver may not be able to import.

    Large buffers go into ``buffers`` if that is given. The pickler tells what went by value. Raises what pickling
    raises.
    """
    try:
        return _attempt(thing, buffers, None)
    except Exception:  # user-defined __reduce__ and __getstate__ may raise anything
        if buffers is not None:
            buffers.clear()
        return _attempt(thing, buffers, {})


def _attempt(
    thing: object, buffers: list[memoryview] | None, verdicts: dict[int, str] | None
) -> tuple[bytes, ByValuePickler]:
    file = io.BytesIO()
    pickler = ByValuePickler(file, aside_into(buffers), verdicts)
    pickler.dump(thing)
    return file.getvalue(), pickler


def _lacks_names(here: dict[str, Any], facts: CodeFacts) -> bool:
    known = vars(builtins)
    return any(name not in here and name not in known for name in facts.loads) or any(
        name not in here for name in facts.stores
    )


def _state_of(function: FunctionType, facts: CodeFacts, carried: dict[str, Any]) -> dict[str, Any]:
    """What is set after the function exists. Only what differs from a new function's own is sent."""
    code = function.__code__
    state: dict[str, Any] = {"module": function.__module__}
    if function.__qualname__ != code.co_qualname:
        state["qualname"] = function.__qualname__
    if function.__doc__ != next((first for first in code.co_consts[:1] if isinstance(first, str)), None):
        state["doc"] = function.__doc__
    if function.__defaults__ is not None:
        state["defaults"] = function.__defaults__
    if function.__kwdefaults__:
        state["kwdefaults"] = function.__kwdefaults__
    if annotations := _annotations_of(function):
        state["annotations"] = annotations
    if function.__dict__:
        state["dict"] = dict(function.__dict__)
    contents = [_content_of(cell) for cell in function.__closure__ or ()]
    if contents:
        state["cells"] = contents
    imports = _submodules_of([*carried.values(), *(content[0] for content in contents if content)], facts)
    if imports:
        state["imports"] = imports
    return state


def _annotations_of(function: FunctionType) -> dict[str, Any]:
    try:
        return function.__annotations__
    except Exception:  # since Python 3.14 they are evaluated now, and may refer to what does not exist
        return {}


def _content_of(cell: CellType) -> tuple[Any, ...]:
    try:
        return (cell.cell_contents,)
    except ValueError:  # not assigned yet
        return ()


def _submodules_of(values: Iterable[Any], facts: CodeFacts) -> list[str]:
    """Imported submodules that the code reaches through a package it refers to (``import scipy.linalg``)."""
    packages = [value.__name__ for value in values if isinstance(value, ModuleType) and hasattr(value, "__path__")]
    found: list[str] = []
    for package in packages:
        prefix = f"{package}."
        found += [
            name
            for name in list(sys.modules)
            if name.startswith(prefix) and facts.words.issuperset(name[len(prefix) :].split("."))
        ]
    return found


# --- other kinds of objects ----------------------------------------------------------------------------------------


def _reduce_module(_: ByValuePickler, module: ModuleType) -> Any:
    name = module.__name__
    if _goes_by_name(module):
        return importlib.import_module, (name,)
    state = {key: value for key, value in vars(module).items() if key not in {"__builtins__", "__spec__", "__loader__"}}
    return cp.dynamic_subimport, (name, state)


def _goes_by_name(module: ModuleType) -> bool:
    name = module.__name__
    return sys.modules.get(name) is module and (name == "__main__" or is_importable(name))


def _reduce_cached(_: ByValuePickler, cached: Any) -> Any:
    if goes_by_reference(cached):
        return NotImplemented
    return rebuild.make_cached, (cached.__wrapped__, cached.cache_parameters())


def _reduce_cached_property(_: ByValuePickler, descriptor: functools.cached_property[Any]) -> Any:
    # Until Python 3.12 it contains a lock, which cannot be pickled.
    return rebuild.make_cached_property, (descriptor.func, descriptor.attrname)


def _reduce_method(_: ByValuePickler, method: MethodType) -> Any:
    return MethodType, (method.__func__, method.__self__)


def _reduce_missing(_: ByValuePickler, __: object) -> Any:
    return "MISSING"  # dataclasses compare it by identity


_REDUCERS: Final[dict[type, Callable[[ByValuePickler, Any], Any]]] = {
    CellType: ByValuePickler._reduce_cell,
    ModuleType: _reduce_module,
    MethodType: _reduce_method,
    _CACHED: _reduce_cached,
    functools.cached_property: _reduce_cached_property,
    type(MISSING): _reduce_missing,
}
