"""References: expressions that stand for what they mean on the engine. No I/O."""

from __future__ import annotations

import ast
import builtins
from collections.abc import Iterable
from typing import Any, Final

#: Names that every engine has.
_BUILTIN: Final = frozenset({*dir(builtins), "engine_id", "__name__"})


class Reference:
    """An expression that is evaluated in the engine's namespace, as an argument or as the function to call.

    ``view.apply(f, Reference("data"))`` calls ``f(data)`` with each engine's own ``data``. Works as an argument and one
    level inside lists, tuples and dictionaries that are arguments.
    """

    __slots__ = ("name",)

    def __init__(self, name: str) -> None:
        if not isinstance(name, str):
            raise TypeError(f"A Reference is made from the text of an expression, not from {name!r}.")
        self.name = name

    def __repr__(self) -> str:
        return f"<Reference: {self.name!r}>"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Reference) and other.name == self.name

    def __hash__(self) -> int:
        return hash((Reference, self.name))

    def __reduce__(self) -> tuple[type[Reference], tuple[str]]:
        return Reference, (self.name,)

    def names(self) -> list[str]:
        """The names of the engine's namespace that the expression begins with. None for what is no expression."""
        if self.name.isidentifier():
            return [] if self.name in _BUILTIN else [self.name]
        try:
            nodes = list(ast.walk(ast.parse(self.name.strip(), mode="eval")))
        except (SyntaxError, ValueError, RecursionError):
            return []  # the engine will say what is wrong with it
        names = dict.fromkeys(node.id for node in nodes if isinstance(node, ast.Name))
        own = {node.id for node in nodes if isinstance(node, ast.Name) and not isinstance(node.ctx, ast.Load)}
        own |= {node.arg for node in nodes if isinstance(node, ast.arg)}
        return [name for name in names if name not in own and name not in _BUILTIN]

    def resolve(self, namespace: dict[str, Any]) -> Any:
        """Return the value of the expression in ``namespace``. Raises what evaluating it raises."""
        try:
            return namespace[self.name]
        except KeyError:
            return eval(self.name, namespace)  # noqa: S307 - the user's expression, in the user's namespace


def names_in(values: Iterable[Any]) -> list[str]:
    """The names that references among some values, or one level inside of them, begin with."""
    names: dict[str, None] = {}
    for value in values:
        kind = type(value)
        inside: Iterable[Any] = (value,)
        if kind is list or kind is tuple:
            inside = value
        elif kind is dict:
            inside = value.values()
        for entry in inside:
            if type(entry) is Reference:
                names.update(dict.fromkeys(entry.names()))
    return list(names)


def resolved(value: Any, namespace: dict[str, Any]) -> Any:
    """Return ``value`` with references in it, or one level inside of it, replaced by what they mean."""
    kind = type(value)
    if kind is Reference:
        return value.resolve(namespace)
    if kind is list or kind is tuple:
        if Reference in map(type, value):
            return kind(entry.resolve(namespace) if type(entry) is Reference else entry for entry in value)
    elif kind is dict and Reference in map(type, value.values()):
        return {key: entry.resolve(namespace) if type(entry) is Reference else entry for key, entry in value.items()}
    return value
