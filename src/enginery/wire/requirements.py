"""Conditions that a function sets on the engine which runs it: @require, @depend, dependent. No I/O of its own.

A condition that is not met raises UnmetDependency before the function begins, and the controller tries another engine;
when none is left the task ends with ImpossibleDependency.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from functools import partial, update_wrapper
from importlib import import_module
from types import FunctionType, MappingProxyType, ModuleType
from typing import Any, Final

from enginery.errors import UnmetDependency
from enginery.wire.traces import ATOMIC, NAMED

#: Characters of a condition's arguments that an error shows.
_SHOWN: Final = 60


class dependent:  # noqa: N801 - the interface has this name
    """A function with a condition: ``dependent(f, condition, *args)`` runs ``f`` only where ``condition(*args)`` holds.

    The condition fails by raising UnmetDependency, or by returning something false other than None. Calling the object
    on the client checks the condition there.
    """

    def __init__(self, f: Callable[..., Any], df: Callable[..., Any], /, *dargs: Any, **dkwargs: Any) -> None:
        """``df`` is the condition; ``dargs`` and ``dkwargs`` are its arguments."""
        update_wrapper(self, f)
        self.f = f
        self.df = df
        self.dargs = dargs
        self.dkwargs = MappingProxyType(dkwargs)  # not to be changed: it is packed once

    def __call__(self, /, *args: Any, **kwargs: Any) -> Any:
        """Check the condition, then call the function."""
        condition = self.df
        if isinstance(condition, Requirement):
            condition.fulfil(_globals_of(self.f))
        else:
            met = condition(*self.dargs, **self.dkwargs)
            if met is not None and not met:
                raise UnmetDependency(f"{self._condition()} returned {met!r}")
        return self.f(*args, **kwargs)

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return _remake, (self.f, self.df, self.dargs, dict(self.dkwargs))

    def __repr__(self) -> str:
        return f"<dependent {getattr(self.f, '__qualname__', self.f)} on {self._condition()}>"

    def is_constant(self) -> bool:
        """Whether it can be packed once and sent many times: nothing in it but functions can change."""
        functions = (self.f, *(() if isinstance(self.df, Requirement) else (self.df,)))
        values = [*self.dargs, *self.dkwargs.values()]
        if isinstance(self.df, Requirement):
            values += self.df.objects.values()
        return all(
            isinstance(each, NAMED) or (isinstance(each, dependent) and each.is_constant()) for each in functions
        ) and all(isinstance(each, NAMED) or type(each) in ATOMIC for each in values)

    def _condition(self) -> str:
        if isinstance(self.df, Requirement):
            return repr(self.df)
        arguments = [repr(each) for each in self.dargs] + [f"{name}={each!r}" for name, each in self.dkwargs.items()]
        shown = ", ".join(arguments)
        shown = shown if len(shown) <= _SHOWN else shown[:_SHOWN] + "…"
        return f"{getattr(self.df, '__name__', self.df)}({shown})"


class depend:  # noqa: N801 - the interface has this name
    """Decorator: the function runs only where a condition holds, ``@depend(condition, *args)``. See ``dependent``."""

    def __init__(self, df: Callable[..., Any], /, *dargs: Any, **dkwargs: Any) -> None:
        self.df = df
        self.dargs = dargs
        self.dkwargs = dkwargs

    def __call__(self, f: Callable[..., Any], /) -> dependent:
        """Set the condition on a function."""
        return dependent(f, self.df, *self.dargs, **self.dkwargs)


class Requirement:
    """Modules that can be imported, and objects that are put into the function's globals before it runs."""

    __slots__ = ("modules", "objects")

    def __init__(self, modules: tuple[str, ...], objects: Mapping[str, Any]) -> None:
        self.modules = modules
        self.objects = dict(objects)

    def __reduce__(self) -> tuple[type[Requirement], tuple[Any, ...]]:
        return Requirement, (self.modules, self.objects)

    def __repr__(self) -> str:
        return f"require({', '.join([repr(name) for name in self.modules] + list(self.objects))})"

    def __call__(self) -> None:
        """Fulfil it in ``__main__``: for those who use it as the condition of a function of their own making."""
        self.fulfil(vars(sys.modules["__main__"]))

    def fulfil(self, variables: dict[str, Any]) -> None:
        """Import and set everything. Raises UnmetDependency for a module that cannot be imported."""
        for name in self.modules:
            try:
                import_module(name)
            except ImportError as error:
                raise UnmetDependency(f"module {name!r} cannot be imported there: {error}") from error
            first = name.partition(".")[0]
            variables[first] = sys.modules[first]
        variables.update(self.objects)


def require(*objects: Any, **mapping: Any) -> depend:
    """Decorator: the function runs only where modules can be imported; other things are brought along.

    Args:
        objects: Modules or their names, which are imported before the function runs; functions and classes, which it
            finds under their own names.
        mapping: Further objects by the names under which it finds them.

    Raises TypeError for an object that has no name; give it one as a keyword.
    """
    modules: list[str] = []
    named: dict[str, Any] = {}
    for each in objects:
        if isinstance(each, str):
            modules.append(each)
        elif isinstance(each, ModuleType):
            modules.append(each.__name__)
        elif isinstance(name := getattr(each, "__name__", None), str) and callable(each):
            named[name] = each
        else:
            raise TypeError(
                f"require() takes modules, names of modules, functions and classes, not {each!r}. Pass other objects by "
                "keyword: require(name=value)."
            )
    return depend(Requirement(tuple(modules), {**named, **mapping}))


def _remake(
    f: Callable[..., Any], df: Callable[..., Any], dargs: tuple[Any, ...], dkwargs: dict[str, Any]
) -> dependent:
    return dependent(f, df, *dargs, **dkwargs)


def _globals_of(function: Any) -> dict[str, Any]:
    """Where a function looks for names that are not its own."""
    while not isinstance(function, FunctionType):
        if isinstance(function, dependent):
            function = function.f
        elif isinstance(function, partial):
            function = function.func
        elif hasattr(function, "__wrapped__"):
            function = function.__wrapped__
        elif hasattr(function, "__func__"):
            function = function.__func__
        else:
            return vars(sys.modules["__main__"])
    return function.__globals__
