"""Whether a function is still what it was when it was packed. No I/O.

A packed function stays valid as long as its code, defaults and closure, and the globals it reads, are the same objects
and cannot have been changed in place; and so for all functions that went by value with it. Nothing here keeps a watched
function or class alive.
"""

from __future__ import annotations

import sys
import weakref
from collections.abc import Iterable
from types import CellType, CodeType, FunctionType
from typing import Any, Final

from enginery.wire.traces import ATOMIC, NAMED

_ABSENT: Final = object()
_Function = tuple["weakref.ref[FunctionType]", CodeType, tuple[Any, ...] | None, dict[str, Any] | None, int]


class Watch:
    """What has to be the same for a packed function to be valid."""

    __slots__ = ("_cells", "_classes", "_functions", "_lone", "_named", "_named_cells", "_names")

    def __init__(self) -> None:
        self._functions: list[_Function] = []
        #: The one function there is, where nothing else is watched; found out by the first ``holds``.
        self._lone: _Function | None = None
        self._names: list[tuple[dict[str, Any], str, object]] = []
        self._named: list[tuple[dict[str, Any], str, weakref.ref[Any]]] = []
        self._cells: list[tuple[CellType, object]] = []
        self._named_cells: list[tuple[CellType, weakref.ref[Any]]] = []
        self._classes: list[tuple[weakref.ref[type], int]] = []

    def holds(self) -> bool:
        """Whether everything is as it was."""
        # Paid once per task by the client, hence plain loops over flat lists, and a short cut past them.
        if self._lone is not None:
            function, code, defaults, kwdefaults, attributes = self._lone
            it = function()
            return (
                it is not None
                and it.__code__ is code
                and it.__defaults__ is defaults
                and it.__kwdefaults__ is kwdefaults
                and len(it.__dict__) == attributes
            )
        others = self._names or self._named or self._cells or self._named_cells or self._classes
        if len(self._functions) == 1 and not others:
            self._lone = self._functions[0]
        for function, code, defaults, kwdefaults, attributes in self._functions:
            it = function()
            if (
                it is None
                or it.__code__ is not code
                or it.__defaults__ is not defaults
                or it.__kwdefaults__ is not kwdefaults
                or len(it.__dict__) != attributes
            ):
                return False
        for names, name, value in self._names:
            if names.get(name, _ABSENT) is not value:
                return False
        for names, name, reference in self._named:
            if names.get(name, _ABSENT) is not reference():
                return False
        for cell, value in self._cells:
            if _content(cell) is not value:
                return False
        for cell, reference in self._named_cells:
            if _content(cell) is not reference():
                return False
        return not self._classes or self._classes_hold()

    def _classes_hold(self) -> bool:
        from enginery.wire.classes import version_of  # it needs cloudpickle, which is here if there are classes

        for reference, version in self._classes:
            cls = reference()
            if cls is None or version_of(cls) != version:
                return False
        return True

    def add_reference(self, thing: object) -> bool:
        """Watch something that goes by name; False if that cannot be done."""
        module = sys.modules.get(getattr(thing, "__module__", None) or "")
        name = getattr(thing, "__qualname__", "")
        if module is None or "." in name:
            return False
        if isinstance(thing, NAMED):
            return self._add_name(vars(module), name, thing)
        self._names.append((vars(module), name, thing))
        return True

    def add_function(self, function: FunctionType, names: Iterable[str]) -> bool:
        """Watch a function that goes by value, and these globals; False if something about it may change unseen."""
        kwdefaults = function.__kwdefaults__
        if not all(map(_is_constant, function.__defaults__ or ())):
            return False
        self._functions.append(
            (weakref.ref(function), function.__code__, function.__defaults__, kwdefaults, len(function.__dict__))
        )
        here = function.__globals__
        return (
            all(self._add_name(here, name, here.get(name, _ABSENT)) for name in names)
            and self._add_names(kwdefaults or {})
            and self._add_names(function.__dict__)
            and all(map(self._add_cell, function.__closure__ or ()))
        )

    def add_left(self, names: dict[str, Any], name: str, value: object) -> None:
        """Watch a global that a function reads and that does not go along: its contents do not matter."""
        try:
            self._named.append((names, name, weakref.ref(value)))
        except TypeError:  # no weak references to it
            self._names.append((names, name, value))

    def add_class(self, cls: type, version: int) -> None:
        """Watch the attributes of a class that goes by value."""
        self._classes.append((weakref.ref(cls), version))

    def _add_names(self, names: dict[str, Any]) -> bool:
        return all(self._add_name(names, name, value) for name, value in names.items())

    def _add_name(self, names: dict[str, Any], name: str, value: object) -> bool:
        if isinstance(value, NAMED):
            self._named.append((names, name, weakref.ref(value)))
        elif value is _ABSENT or _is_constant(value):
            self._names.append((names, name, value))
        else:
            return False
        return True

    def _add_cell(self, cell: CellType) -> bool:
        value = _content(cell)
        if isinstance(value, NAMED):
            self._named_cells.append((cell, weakref.ref(value)))
        elif value is _ABSENT or _is_constant(value):
            self._cells.append((cell, value))
        else:
            return False
        return True


def _content(cell: CellType) -> object:
    try:
        return cell.cell_contents
    except ValueError:  # not assigned yet
        return _ABSENT


def _is_constant(value: object) -> bool:
    if type(value) is tuple or type(value) is frozenset:
        inside: Iterable[object] = value
        return all(map(_is_constant, inside))
    return type(value) in ATOMIC or isinstance(value, NAMED)
