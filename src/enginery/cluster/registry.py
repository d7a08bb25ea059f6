"""Launcher classes by name: short name, prefix, class name, dotted path or entry point."""

from __future__ import annotations

import difflib
import importlib
from typing import TYPE_CHECKING, Any, Final, Literal

from enginery.cluster.launchers.base import BaseLauncher

if TYPE_CHECKING:
    from collections.abc import Iterator

Kind = Literal["controller", "engine"]

#: Short name -> module and the prefix of its classes.
BUILT_IN: Final[dict[str, tuple[str, str]]] = {
    "local": ("enginery.cluster.launchers.local", "Local"),
    "batch": ("enginery.cluster.launchers.batch", "Batch"),
    "htcondor": ("enginery.cluster.launchers.batch_named", "HTCondor"),
    "lsf": ("enginery.cluster.launchers.batch_named", "LSF"),
    "pbs": ("enginery.cluster.launchers.batch_named", "PBS"),
    "sge": ("enginery.cluster.launchers.batch_named", "SGE"),
    "slurm": ("enginery.cluster.launchers.batch_named", "Slurm"),
    "winhpc": ("enginery.cluster.launchers.winhpc", "WindowsHPC"),
    "windowshpc": ("enginery.cluster.launchers.winhpc", "WindowsHPC"),
}
SUFFIX: Final[dict[Kind, str]] = {"controller": "ControllerLauncher", "engine": "EngineSetLauncher"}
#: Modules of earlier generations whose classes go by the same names here.
FORMER: Final = ("ipyparallel.", "IPython.parallel.")
GROUPS: Final = ("enginery", "ipyparallel")


def find_launcher_class(name: str | type[BaseLauncher], kind: Kind) -> type[BaseLauncher]:
    """The class that ``name`` stands for: ``'local'``, ``'Local'``, a class name, a dotted path, an entry point.

    Raises ValueError that lists what there is if nothing has this name, ImportError if its module cannot be imported,
    and TypeError if it is no launcher.
    """
    if not isinstance(name, str):
        return _checked(name, repr(name))
    plain = name.rpartition(".")[2] if name.startswith(FORMER) else name
    short = plain.removesuffix(SUFFIX[kind]).lower()
    if "." not in plain and short in BUILT_IN:
        module, prefix = BUILT_IN[short]
        return _checked(getattr(importlib.import_module(module), prefix + SUFFIX[kind]), name)
    if "." in plain:
        module, _, attribute = plain.rpartition(".")
        return _checked(getattr(importlib.import_module(module), attribute), name)
    for found, entry in _entry_points(kind):
        if found.lower() == short:
            return _checked(entry.load(), name)
    known = sorted({*BUILT_IN, *(found for found, _ in _entry_points(kind))})
    hint = difflib.get_close_matches(short, known, n=1)
    msg = f"There is no {kind} launcher {name!r}."
    msg += f" Did you mean {hint[0]!r}?" if hint else ""
    msg += f" Known are {', '.join(known)}, and any class by its dotted path."
    raise ValueError(msg)


def abbreviate_launcher_class(cls: type[BaseLauncher]) -> str:
    """The shortest name by which ``find_launcher_class`` finds ``cls``."""
    for short, (module, prefix) in BUILT_IN.items():
        if cls.__module__ == module and cls.__name__ in {prefix + suffix for suffix in SUFFIX.values()}:
            return short
    return f"{cls.__module__}.{cls.__qualname__}"


def _entry_points(kind: Kind) -> Iterator[tuple[str, Any]]:
    # 30 ms that only names from elsewhere cost.
    from importlib.metadata import entry_points

    for group in GROUPS:
        for entry in entry_points(group=f"{group}.{kind}_launchers"):
            # The original's own launchers start its own programs, which speak another protocol.
            if not entry.value.startswith("ipyparallel."):
                yield entry.name, entry


def _checked(found: object, name: str) -> type[BaseLauncher]:
    if not (isinstance(found, type) and issubclass(found, BaseLauncher)):
        msg = f"{name} is {found!r}, not a launcher: derive it from enginery.cluster.launchers.base."
        raise TypeError(msg)
    return found
