"""Command line arguments that nobody knows, found before they are silently ignored. No I/O."""

from __future__ import annotations

import difflib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from traitlets.config import Configurable

#: What the base application understands by itself.
BUILT_IN = frozenset({"h", "help", "help-all", "version", "V"})
#: Below this similarity a class is taken for one that another program or a custom launcher knows.
SIMILAR = 0.75


def unknown_argument(
    argv: Sequence[str],
    names: Iterable[str],
    classes: Iterable[type[Configurable]],
) -> str:
    """A sentence about the first argument in ``argv`` that has no meaning; empty if there is none.

    ``names`` are the flags and aliases, ``classes`` those whose traits can be set by ``--Class.trait=value``.
    Classes nobody here has heard of are let pass: they may belong to a launcher that is loaded later.
    """
    known = set(names) | BUILT_IN
    traits = {each.__name__: frozenset(each.class_trait_names(config=True)) for each in classes}
    for argument in argv:
        if argument == "--":
            break
        if not argument.startswith("-") or argument == "-" or _is_number(argument):
            continue
        name = argument.lstrip("-").partition("=")[0]
        problem = _trait_problem(name, traits) if "." in name else _name_problem(argument, name, known)
        if problem:
            return problem
    return ""


def flat_names(table: Mapping[str | tuple[str, ...], object]) -> list[str]:
    """Keys of a table of flags or aliases, where one entry may have several names."""
    return [name for key in table for name in ((key,) if isinstance(key, str) else key)]


def _name_problem(argument: str, name: str, known: set[str]) -> str:
    if name in known:
        return ""
    # "-n4" is "-n 4" to argparse.
    if not argument.startswith("--") and name[:1] in known:
        return ""
    hint = _closest(name, [each for each in known if len(each) > 1])
    hint = f"Did you mean --{hint}?" if hint else "See --help."
    return f"Unknown argument {argument.partition('=')[0]!r}. {hint}"


def _trait_problem(name: str, traits: Mapping[str, frozenset[str]]) -> str:
    owner, _, trait = name.partition(".")
    trait = trait.partition(".")[0]
    if owner in traits:
        if trait in traits[owner]:
            return ""
        hint = _closest(trait, traits[owner])
        hint = f"Did you mean --{owner}.{hint}?" if hint else "See --help-all."
        return f"{owner} has no option {trait!r}. {hint}"
    hint = _closest(owner, traits, SIMILAR)
    return f"Unknown class {owner!r} in '--{name}'. Did you mean --{hint}.{trait}?" if hint else ""


def _closest(word: str, words: Iterable[str], cutoff: float = 0.6) -> str:
    return next(iter(difflib.get_close_matches(word, list(words), n=1, cutoff=cutoff)), "")


def _is_number(argument: str) -> bool:
    return argument[1:].replace(".", "", 1).isdigit()
