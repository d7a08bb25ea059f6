"""Modules made from the table: found when they are imported, filled when a name is asked for."""

from __future__ import annotations

import sys
from importlib import import_module
from importlib.abc import InspectLoader, MetaPathFinder
from importlib.machinery import ModuleSpec
from typing import TYPE_CHECKING, Any

from ipyparallel._table import GONE, MODULES, PROGRAMS

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import ModuleType

_RUN = "from runpy import run_module\nrun_module({!r}, run_name='__main__', alter_sys=True)\n"


class Finder(MetaPathFinder):
    """Finds what the table has, and says of what it has not what replaces it."""

    def find_spec(
        self,
        fullname: str,
        path: Sequence[str] | None = None,  # noqa: ARG002 - Python passes them
        target: ModuleType | None = None,  # noqa: ARG002 - Python passes them
    ) -> ModuleSpec | None:
        """Find ``fullname``. Raises ImportError, with a hint, for what has no equivalent."""
        parent, _, name = fullname.rpartition(".")
        if fullname in MODULES:
            # All are packages: `from module import name` then comes here for a name that is missing.
            return ModuleSpec(fullname, Loader(), is_package=True)
        if name == "__main__" and parent in PROGRAMS:
            return ModuleSpec(fullname, Loader())
        if parent in MODULES and (hint := replacement(parent, name)):
            raise ImportError(hint, name=fullname)
        return None


class Loader(InspectLoader):
    """Makes the modules of the table."""

    def get_source(self, fullname: str) -> str:
        """What runs under ``python -m``."""
        program = PROGRAMS.get(fullname.removesuffix(".__main__"))
        return _RUN.format(program) if program and fullname.endswith(".__main__") else ""

    def exec_module(self, module: ModuleType) -> None:
        """Make ``module``."""
        if module.__name__ in MODULES:
            fill(module)
        else:
            super().exec_module(module)


def install() -> None:
    """Let Python find the modules of the table. Once is enough."""
    if not any(isinstance(each, Finder) for each in sys.meta_path):
        sys.meta_path.append(Finder())


def fill(module: ModuleType) -> None:
    """Give ``module`` the names of its row; each is imported when it is first asked for."""
    prefix = module.__name__
    homes = homes_of(MODULES[prefix])
    names = sorted(name for name in homes if not name.startswith("_"))

    def find(name: str) -> Any:
        if name in homes:
            home, current = homes[name]
            value = getattr(import_module(home), current)
        elif f"{prefix}.{name}" in MODULES:
            return import_module(f"{prefix}.{name}")
        elif hint := replacement(prefix, name):
            raise AttributeError(hint)
        else:
            raise AttributeError(f"module {prefix!r} has no attribute {name!r}")
        setattr(module, name, value)
        return value

    module.__doc__ = module.__doc__ or f"The names of {prefix}, as enginery has them."
    vars(module).update(__getattr__=find, __all__=names, __dir__=lambda: sorted({*vars(module), *names}))


def homes_of(row: dict[str, str]) -> dict[str, tuple[str, str]]:
    """Every name of a row -> the module that has it, and its name there."""
    homes: dict[str, tuple[str, str]] = {}
    for home, names in row.items():
        for word in names.split():
            if word == "*":
                found = import_module(home)
                every = getattr(found, "__all__", None) or [each for each in vars(found) if _is_error(found, each)]
                homes |= {each: (home, each) for each in every}
            else:
                old, _, new = word.partition("=")
                homes[old] = (home, new or old)
    return homes


def replacement(module: str, name: str) -> str:
    """What to say of a name that has no equivalent; empty if the table does not know it."""
    hint = GONE.get(f"{module}.{name}") or GONE.get(name)
    return f"enginery has no {module}.{name}: {hint}." if hint else ""


def _is_error(module: ModuleType, name: str) -> bool:
    value = getattr(module, name)
    public = not name.startswith("_") and getattr(value, "__module__", "") == module.__name__
    return public or name == "TimeoutError"
