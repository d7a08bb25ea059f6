"""Which modules another process can import by name, so that their contents may go by reference. No I/O of its own.

A module of this process is importable elsewhere if the import system would find it again under its name, at the same
file. ``__main__`` never is; neither are modules that were executed by hand, made by ``types.ModuleType``, or loaded
from a path that is not searched (tests in pytest's importlib mode), nor those registered with
``cloudpickle.register_pickle_by_value``.

Asking the import system costs about 0.1 ms a module, and reading a pickle to see what it refers to costs more than
making it. So: modules are judged once, mostly by comparing paths, and a pickle is *searched* for the few names that are
not importable. A false alarm only means that the slower pickler is used.
"""

from __future__ import annotations

import sys
from importlib.machinery import BuiltinImporter, FrozenImporter
from types import ModuleType
from typing import Any, Final

_MAIN: Final = "__main__"

_verdicts: dict[str, tuple[ModuleType | None, bool]] = {_MAIN: (None, False)}
_seen_modules = 0
_foreign: tuple[bytes, ...] = (b"__main__",)


def is_importable(name: str) -> bool:
    """Whether other processes find module ``name`` where this process found it. The answer is remembered."""
    module = sys.modules.get(name)
    known = _verdicts.get(name)
    if known is not None and (known[0] is module or name == _MAIN):
        verdict = known[1]
    else:
        verdict = isinstance(module, ModuleType) and _would_be_found(name, module)
        _verdicts[name] = (module, verdict)
    registry = _registered_by_value()
    return verdict and not (registry and any(name == each or name.startswith(each + ".") for each in registry))


def goes_by_reference(thing: object) -> bool:
    """Whether a function or class can be found elsewhere by its module and qualified name."""
    name = getattr(thing, "__module__", None)
    path = getattr(thing, "__qualname__", None)
    if not isinstance(name, str) or not isinstance(path, str) or name == _MAIN or "<" in path:
        return False
    found: object = sys.modules.get(name)
    for part in path.split("."):
        found = getattr(found, part, None)
    return found is thing and is_importable(name)


def mentions_foreign(data: bytes) -> bool:
    """Whether a pickle contains the name of a module that other processes cannot import, ``__main__`` included."""
    # The number of modules changes with nearly every import; a module that replaces another one is judged when it is
    # asked for by name.
    if len(sys.modules) != _seen_modules:
        _look_around()
    for name in _foreign:
        if name in data:
            return True
    registry = _registered_by_value()
    return bool(registry) and any(name.encode() in data for name in registry)


def _registered_by_value() -> set[str]:
    """What the user told cloudpickle. Nobody who has not imported it has told it anything."""
    cloudpickle = sys.modules.get("cloudpickle.cloudpickle")
    registry: set[str] = getattr(cloudpickle, "_PICKLE_BY_VALUE_MODULES", set())
    return registry


def _look_around() -> None:
    """Judge the modules that are new, and collect the names of those that are not importable."""
    global _seen_modules, _foreign  # noqa: PLW0603 - the process has one set of modules
    _seen_modules = len(sys.modules)
    strangers = {name for name, module in list(sys.modules.items()) if _is_stranger(name, module)}
    # A package's name is found in the names of its submodules, too.
    _foreign = tuple(name.encode() for name in sorted(strangers | {_MAIN}) if name.rpartition(".")[0] not in strangers)


def _is_stranger(name: str, module: object) -> bool:
    # Aliases (os.path) need no search: nothing mentions them as a module of origin.
    return isinstance(module, ModuleType) and _attribute(module, "__name__") == name and not is_importable(name)


def _attribute(module: ModuleType, name: str) -> Any:
    """An attribute as it stands, without waking modules that load themselves when looked at."""
    try:
        return ModuleType.__getattribute__(module, name)
    except AttributeError:
        return None


def _would_be_found(name: str, module: ModuleType) -> bool:
    if name.startswith("enginery."):
        return True  # whoever reads our pickles has it, wherever it was imported from here
    spec = _attribute(module, "__spec__")
    if spec is None:
        # Packages may register helpers without a spec; they will do so elsewhere.
        return _attribute(module, "__file__") is None and _made_by_parent(name)
    if spec.loader is FrozenImporter:
        return True  # whatever its name: the import system's own modules go by two
    if spec.name != name:
        return False
    if spec.loader is BuiltinImporter or spec.origin == "built-in":
        return True
    parent, _, _ = name.rpartition(".")
    if parent and not is_importable(parent):
        return False
    path = getattr(sys.modules.get(parent), "__path__", None) if parent else sys.path
    if path is None:
        return _made_by_parent(name)
    return _lies_in(spec.origin, name, path) or _is_found_by_finders(name, module, None if not parent else list(path))


def _made_by_parent(name: str) -> bool:
    """A module that its importable parent puts into ``sys.modules`` (``six.moves``, ``torch.classes``)."""
    parent, _, _ = name.rpartition(".")
    return bool(parent) and parent != _MAIN and is_importable(parent)


def _lies_in(origin: str | None, name: str, path: object) -> bool:
    """Whether the file lies directly in a searched folder under the module's own name: the usual case, no I/O."""
    if origin is None or not isinstance(path, list):
        return False
    folder, _, file = origin.replace("\\", "/").rpartition("/")
    stem = name.rpartition(".")[2]
    if file == "__init__.py":
        folder, _, last = folder.rpartition("/")
        return last == stem and any(entry.replace("\\", "/").rstrip("/") == folder for entry in path)
    return file.partition(".")[0] == stem and any(entry.replace("\\", "/").rstrip("/") == folder for entry in path)


def _is_found_by_finders(name: str, module: ModuleType, path: list[str] | None) -> bool:
    """Ask the import system itself, without importing anything."""
    for finder in list(sys.meta_path):
        find = getattr(finder, "find_spec", None)
        if find is None:
            continue
        try:
            spec = find(name, path, None)
        except Exception:  # noqa: S112 - a broken finder breaks imports, not this question
            continue
        if spec is not None:
            return bool(spec.origin == getattr(_attribute(module, "__spec__"), "origin", None))
    return False
