"""Functions that behave as if they had been typed in interactively: @interactive. No I/O."""

from __future__ import annotations

import sys
from collections.abc import Callable
from types import FunctionType
from typing import Any, TypeVar

_Called = TypeVar("_Called", bound=Callable[..., Any])


def interactive(f: _Called) -> _Called:
    """Decorator: the globals of a function are those of ``__main__``, on engines the user's namespace.

    Functions that are defined in a script or notebook have them anyway; this is for functions of modules that are to
    see, and to set, what the user has put onto the engines. A class or other callable is only marked to go by value.
    """
    if isinstance(f, FunctionType):
        made = FunctionType(f.__code__, vars(sys.modules["__main__"]), f.__name__, f.__defaults__, f.__closure__)
        made.__kwdefaults__ = f.__kwdefaults__
        made.__qualname__ = f.__qualname__
        made.__doc__ = f.__doc__
        made.__annotations__ = f.__annotations__
        made.__dict__.update(f.__dict__)
        made.__module__ = "__main__"
        return made  # type: ignore[return-value]  # it is the same function but for its globals
    f.__module__ = "__main__"
    return f
