"""The page of scopes, made from the tables by which the controller decides."""

from __future__ import annotations

import ast
import importlib
import inspect

from enginery.core.scopes import MESSAGES, Scope, may_ask
from words import code, page, table

INTRODUCTION = """# Scopes

What the holder of a key may say. Keys are made by `ipcluster key create --scope=…`; the controller's own two connection
files hold a key of scope `admin` and one of scope `engine`. [Security](../security.md) tells what that means. This page is
made from `enginery/core/scopes.py` by `make docs`.
"""


def render() -> str:
    """The page."""
    scopes = importlib.import_module("enginery.core.scopes")
    source = inspect.getsource(scopes)
    names = sorted({kind.__name__ for kinds in MESSAGES.values() for kind in kinds})
    head = ("", *[code(scope) for scope in Scope])
    kinds = {scope: {kind.__name__ for kind in MESSAGES[scope]} for scope in Scope}
    messages = [
        (f"[{name}](protocol.md#{name.lower()})", *[_mark(yes=name in kinds[scope]) for scope in Scope])
        for name in names
    ]
    questions = [
        (code(name), *[_mark(yes=scope is not Scope.ENGINE and may_ask(scope, name)) for scope in Scope])
        for name in scopes.QUESTIONS
    ]
    return page(
        INTRODUCTION,
        table(("scope", "what for"), _meanings(source)),
        "## Messages",
        table(head, messages),
        "## Questions",
        "What a client asks the controller by [Query](protocol.md#query). A question that is not listed needs `admin`.",
        table(head, questions),
    )


def _mark(*, yes: bool) -> str:
    return "yes" if yes else ""


def _meanings(source: str) -> list[tuple[str, ...]]:
    """Each scope with the comment behind it."""
    lines = source.splitlines()
    body = next(node for node in ast.parse(source).body if isinstance(node, ast.ClassDef)).body
    members = [node for node in body if isinstance(node, ast.Assign)]
    return [(code(ast.literal_eval(node.value)), lines[node.lineno - 1].partition("#: ")[2]) for node in members]
