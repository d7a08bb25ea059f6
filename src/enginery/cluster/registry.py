"""Launcher classes by name: short name, prefix, class name, dotted path or entry point.

Nothing is imported but what is asked for: `enginery.cluster` is loaded by every script that starts a cluster.
"""

from __future__ import annotations

import difflib
import importlib
import logging
import re
from typing import TYPE_CHECKING, Any, Final, Literal, NamedTuple

from enginery.cluster.launchers.base import BaseLauncher

if TYPE_CHECKING:
    from collections.abc import Iterator

log = logging.getLogger("enginery.cluster")

Kind = Literal["controller", "engine"]
KINDS: Final[tuple[Kind, ...]] = ("controller", "engine")
SUFFIX: Final[dict[Kind, str]] = {"controller": "ControllerLauncher", "engine": "EngineSetLauncher"}


class Family(NamedTuple):
    """Launchers of one way to start programs: their module, the prefix of their classes, and which there are."""

    module: str
    prefix: str
    kinds: tuple[Kind, ...] = KINDS


_ROOM: Final = "enginery.cluster.launchers"
#: Short name -> where its launchers are.
BUILT_IN: Final[dict[str, Family]] = {
    "local": Family(f"{_ROOM}.local", "Local"),
    "mpi": Family(f"{_ROOM}.mpi", "MPI"),
    "ssh": Family(f"{_ROOM}.ssh", "SSH"),
    "sshproxy": Family(f"{_ROOM}.ssh_proxy", "SSHProxy", ("engine",)),
    "batch": Family(f"{_ROOM}.batch", "Batch"),
    "htcondor": Family(f"{_ROOM}.batch_named", "HTCondor"),
    "lsf": Family(f"{_ROOM}.batch_named", "LSF"),
    "pbs": Family(f"{_ROOM}.batch_named", "PBS"),
    "sge": Family(f"{_ROOM}.batch_named", "SGE"),
    "slurm": Family(f"{_ROOM}.batch_named", "Slurm"),
    "winhpc": Family(f"{_ROOM}.winhpc", "WindowsHPC"),
}
#: Other short names, of earlier generations and of class names.
ALIASES: Final = {"mpiexec": "mpi", "windowshpc": "winhpc", "condor": "htcondor"}
#: Modules of earlier generations; their classes go by the same names here, and mpiexec's by a shorter one.
FORMER: Final = ("ipyparallel.", "IPython.parallel.", "IPython.kernel.")
#: What may follow the prefix in the name of a class, and for which kind it then is.
CLASS_NAME: Final = re.compile(r"(?P<prefix>\w+?)(?P<kind>Controller|EngineSet|Engine)?Launcher")
GROUPS: Final = ("enginery", "ipyparallel")

_told: set[str] = set()


def find_launcher_class(name: str | type[BaseLauncher], kind: Kind) -> type[BaseLauncher]:
    """The class that ``name`` stands for: ``'local'``, ``'Local'``, a class name, a dotted path, an entry point.

    Names of earlier generations are understood, and a line in the log says once what they are called now.

    Raises ValueError that lists what there is if nothing has this name, ImportError or AttributeError if a dotted path
    leads nowhere, and TypeError if it leads to no launcher.
    """
    if not isinstance(name, str):
        return _checked(name, repr(name))
    former = name.startswith(FORMER)
    plain = name.rpartition(".")[2] if former else name.strip()
    if "." in plain:
        module, _, attribute = plain.rpartition(".")
        return _checked(getattr(importlib.import_module(module), attribute), name)
    short = _short_name(plain, kind)
    if short in BUILT_IN:
        family = BUILT_IN[short]
        if kind not in family.kinds:
            raise _unknown(name, kind)
        if former or _short_name(plain, kind, ALIASES.keys()) not in {short, family.prefix.lower()}:
            _tell(name, short)
        return _checked(getattr(importlib.import_module(family.module), family.prefix + SUFFIX[kind]), name)
    for found, entry in _entry_points(kind):
        if found.lower() == short or entry.value.rpartition(":")[2] == plain:
            return _checked(entry.load(), name)
    raise _unknown(name, kind)


def abbreviate_launcher_class(cls: type[BaseLauncher]) -> str:
    """The shortest name by which ``find_launcher_class`` finds ``cls``."""
    for short, family in BUILT_IN.items():
        if cls.__module__ == family.module and cls.__name__ in {family.prefix + SUFFIX[kind] for kind in family.kinds}:
            return short
    return f"{cls.__module__}.{cls.__qualname__}"


def _short_name(plain: str, kind: Kind, aliases: Any = ()) -> str:
    """``ssh`` for ``'SSH'`` and ``'SSHEngineSetLauncher'``; with ``aliases`` those names stay as they are."""
    matched = CLASS_NAME.fullmatch(plain)
    if matched is None:
        short = plain.lower()
    elif matched["kind"] is not None and ("controller" if matched["kind"] == "Controller" else "engine") != kind:
        return plain
    else:
        short = matched["prefix"].lower()
    return short if short in aliases else ALIASES.get(short, short)


def _tell(name: str, short: str) -> None:
    """Say once that a name is of an earlier generation."""
    if name not in _told:
        _told.add(name)
        log.warning("launcher %r is of an earlier version: it is %r now.", name, short)


def _unknown(name: str, kind: Kind) -> ValueError:
    short = _short_name(name.rpartition(".")[2], kind)
    known = sorted(
        {
            *(each for each, family in BUILT_IN.items() if kind in family.kinds),
            *(found for found, _ in _entry_points(kind)),
        }
    )
    msg = f"There is no {kind} launcher {name!r}."
    matched = CLASS_NAME.fullmatch(name.rpartition(".")[2])
    if matched is not None and matched["prefix"].lower() in known:
        msg += f" It is none for {kind}s: say {matched['prefix'].lower()!r}."
    elif hint := difflib.get_close_matches(short.lower(), known, n=1):
        msg += f" Did you mean {hint[0]!r}?"
    msg += f" Known are {', '.join(known)}, and any class by its dotted path."
    return ValueError(msg)


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
