"""The page of the protocol, made from the message structs and the docstring of the stream."""

from __future__ import annotations

import ast
import importlib
import inspect
import re

from words import as_markdown, code, fence, page, table

INTRODUCTION = """# The protocol

What clients, engines and nannies say to the controller, and what it answers. This page is made from
`enginery/wire/messages.py` and `enginery/net/stream.py` by `make docs`.

## The messages
"""
STRUCTS = """This is version {version} of the protocol. A struct with a tag is a message: a MessagePack map whose key `type` holds
the tag. A struct without a tag is part of one: an array of its fields in their order, or a map.
"""
ZMQ = """To other hosts the same header and frames are the parts of a ZeroMQ message: peers are DEALER sockets, the controller's
ports ROUTER sockets, and CURVE encrypts what passes between them.
"""
_RULE = re.compile(r"^# --- (?P<title>.*?) -+$")
_NOTE = re.compile(r"#: (?P<text>.*)$")


def render() -> str:
    """The page."""
    messages = importlib.import_module("enginery.wire.messages")
    source = inspect.getsource(messages)
    lines = source.splitlines()
    _, _, rules = as_markdown(messages.__doc__).partition("\n\n")
    parts = [INTRODUCTION, rules, STRUCTS.format(version=messages.VERSION), "## How a message travels", _stream(), ZMQ]
    parts.append("## Words used in messages")
    titles = {at: match["title"] for at, line in enumerate(lines) if (match := _RULE.match(line))}
    for node in ast.parse(source).body:
        passed = [at for at in titles if at < node.lineno]
        parts += [f"## {titles.pop(at).capitalize()}" for at in passed]
        if isinstance(node, ast.ClassDef):
            parts += _struct(node, lines)
    parts += ["## Who says what", _unions(source)]
    return page(*parts)


def _stream() -> str:
    doc = inspect.cleandoc(importlib.import_module("enginery.net.stream").__doc__ or "")
    _, _, wire = doc.partition("On the wire, ")
    sentence, _, drawing = wire.partition("::")
    layout = fence(inspect.cleandoc(drawing), "text")
    return f"On one host, over a Unix stream socket; {sentence.strip()}:\n\n{layout}"


def _struct(node: ast.ClassDef, lines: list[str]) -> list[str]:
    tag = next((ast.literal_eval(each.value) for each in node.keywords if each.arg == "tag"), "")
    title = f"### {node.name}"
    body = [each for each in node.body if isinstance(each, ast.AnnAssign | ast.Assign)]
    doc = as_markdown(ast.get_docstring(node))
    if isinstance(body[0], ast.Assign) if body else False:
        rows = [
            (code(ast.unparse(each.value)), code(ast.unparse(each.targets[0])), _note(each, lines)) for each in body
        ]
        return [title, doc, table(("value", "name", "meaning"), rows)]
    fields = [
        (
            code(ast.unparse(each.target)),
            code(ast.unparse(each.annotation)),
            code(ast.unparse(each.value)) if each.value is not None else "",
            _note(each, lines),
        )
        for each in body
    ]
    is_array = any(each.arg == "array_like" for each in node.keywords)
    told = f"Tag `{tag}`. " if tag else "An array. " if is_array else "A map. "
    return [title, told + doc, table(("field", "type", "default", "meaning"), fields)]


def _note(node: ast.stmt, lines: list[str]) -> str:
    """The comment behind a field, or the one above it."""
    for line in (lines[(node.end_lineno or node.lineno) - 1], lines[node.lineno - 2]):
        found = _NOTE.search(line)
        if found and (line is not lines[node.lineno - 2] or line.lstrip().startswith("#:")):
            return found["text"].replace("``", "`")
    return ""


def _unions(source: str) -> str:
    wanted = {
        "FromClient": "a client says",
        "FromEngine": "an engine or a nanny says",
        "ToClient": "the controller says to a client",
        "ToEngine": "the controller says to an engine or a nanny",
    }
    rows = []
    for node in ast.parse(source).body:
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name) and node.targets[0].id in wanted:
            names = [each.id for each in ast.walk(node.value) if isinstance(each, ast.Name)]
            links = [f"[{name}](#{name.lower()})" for name in sorted(names)]
            rows.append((wanted[node.targets[0].id], ", ".join(links)))
    return table(("who", "what"), rows)
