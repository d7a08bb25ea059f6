"""The page of the commands, made from what their applications say of themselves."""

from __future__ import annotations

import signal
from collections.abc import Iterable
from typing import Any

from traitlets import Bool, Dict, Enum, Float, Integer, List
from traitlets.traitlets import DefaultHandler
from traitlets.utils.importstring import import_item

from enginery.cli.ipcluster import IPCluster
from enginery.cli.ipcontroller import IPController
from enginery.cli.ipengine import IPEngine
from enginery.cli.iplogger import IPLogger
from words import code, fence, page, table

INTRODUCTION = """# Commands

Every command explains itself with `--help`; `--help-all` adds every setting. Each setting can be given as
`--Class.setting=value`, or in a configuration file of the profile. This page is made from the same words by `make docs`.

`ipcluster`, `ipcontroller`, `ipengine` and `iplogger` are installed with the package; `python -m enginery.cluster`,
`python -m enginery.controller`, `python -m enginery.engine` and `python -m enginery.logger` are the same.
"""
Row = tuple[str, ...]
HEAD = ("option", "sets", "meaning")
#: What people call the types of settings.
KINDS: dict[type, str] = {Bool: "yes or no", Integer: "integer", Float: "number", List: "list", Dict: "mapping"}


def render() -> str:
    """The page."""
    subcommands = [import_item(name) for name, _ in IPCluster.subcommands.values()]
    applications = [*subcommands, IPController, IPEngine, IPLogger]
    parts = [INTRODUCTION]
    shared = set.intersection(*(set(_rows(application)) for application in applications))
    for application in applications:
        parts += _application(application, shared)
    parts += ["## Options of every command", table(HEAD, sorted(shared))]
    parts.append("## Settings")
    parts += [part for owner in _owners(applications) for part in _settings(owner)]
    return page(*parts)


def _application(application: Any, shared: set[Row]) -> list[str]:
    def text(name: str) -> str:
        return str(application.class_traits()[name].default_value)

    own = [row for row in _rows(application) if row not in shared]
    return [
        f"## {text('name')}",
        text("description"),
        fence(text("examples"), "text") if text("examples") else "",
        table(HEAD, own),
    ]


def _rows(application: Any) -> list[Row]:
    """The options of an application. A name that is an alias and a flag as well is told as the flag."""
    rows = [
        (_option(name, value=True), code(target), _trait(application, target).help)
        for name, target in application.aliases.items()
        if name not in application.flags
    ]
    rows += [(_option(name, value=False), "", meaning) for name, (_, meaning) in application.flags.items()]
    return sorted(rows)


def _option(name: str, *, value: bool) -> str:
    if len(name) == 1:
        return code(f"-{name} …" if value else f"-{name}")
    return code(f"--{name}=…" if value else f"--{name}")


def _trait(application: Any, target: str) -> Any:
    owner, _, name = target.partition(".")
    classes = [*application.__mro__, *application.classes]
    return next(each for each in classes if each.__name__ == owner).class_traits()[name]


def _owners(applications: Iterable[Any]) -> list[Any]:
    """The classes with settings of their own, each once, the common ones first."""
    classes = [each for application in applications for each in (*reversed(application.__mro__), *application.classes)]
    with_bases = [base for each in classes for base in reversed(each.__mro__)]
    mine = [each for each in with_bases if each.__module__.startswith("enginery.")]
    return [each for each in dict.fromkeys(mine) if _own_traits(each)]


def _own_traits(owner: Any) -> dict[str, Any]:
    if not hasattr(owner, "class_own_traits"):
        return {}
    return dict(sorted(owner.class_own_traits(config=True).items()))


def _settings(owner: Any) -> list[str]:
    rows = [
        (code(name), _kind(trait), _default(owner, name, trait), trait.help)
        for name, trait in _own_traits(owner).items()
    ]
    return [f"### {owner.__name__}", table(("setting", "type", "default", "meaning"), rows)]


def _kind(trait: Any) -> str:
    if isinstance(trait, Enum):
        return " or ".join(code(repr(value)) for value in trait.values)
    return next((word for kind, word in KINDS.items() if isinstance(trait, kind)), "text")


def _default(owner: Any, name: str, trait: Any) -> str:
    """The default, unless it is found out when the program runs."""
    handlers = [value for base in owner.__mro__ for value in vars(base).values() if isinstance(value, DefaultHandler)]
    if any(handler.trait_name == name for handler in handlers):
        return "found when it runs"
    default = trait.default_value
    if isinstance(trait, List | Dict) or default in {"", None}:
        return ""
    return code(repr(int(default) if isinstance(default, signal.Signals) else default))
