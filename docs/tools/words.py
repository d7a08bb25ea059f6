"""From docstrings as they stand in the source to Markdown. No I/O."""

from __future__ import annotations

import inspect
import re

_SECTION = re.compile(r"^\S.*:$")
_ITEM = re.compile(r"^ {4}(?P<names>[A-Za-z_][\w, ]*): (?P<text>.*)$")
_RETURNS = "Returns:"


def cell(text: str) -> str:
    """Text that may stand in a cell of a table: on one line, with nothing that looks like HTML outside of code."""
    parts = " ".join(text.split()).replace("|", "\\|").split("`")
    parts[::2] = [part.replace("<", "&lt;") for part in parts[::2]]
    return "`".join(parts)


def code(text: str) -> str:
    """A piece of code inside a line."""
    return f"`{text}`"


def fence(text: str, language: str) -> str:
    """A block of code."""
    return f"```{language}\n{text.rstrip()}\n```"


def table(head: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    """A table, or nothing if there are no rows."""
    if not rows:
        return ""
    lines = [head, tuple("---" for _ in head), *(tuple(map(cell, row)) for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def page(*parts: str) -> str:
    """Parts of a page, those that are not empty, with a line between them."""
    return "\n\n".join(part.strip("\n") for part in parts if part.strip()) + "\n"


def first_sentence(text: str | None) -> str:
    """The first paragraph of a docstring in one line."""
    return as_markdown(text).partition("\n\n")[0].replace("\n", " ")


def as_markdown(text: str | None) -> str:
    """A docstring as Markdown: names in backquotes, sections such as ``Args:`` as lists."""
    lines = inspect.cleandoc(text or "").replace("``", "`").splitlines()
    out: list[str] = []
    section = ""
    for at, line in enumerate(lines):
        below = lines[at + 1] if at + 1 < len(lines) else ""
        if _SECTION.match(line) and below.startswith("    ") and (line == _RETURNS or _ITEM.match(below)):
            section = line
            out += ["", f"**{line.removesuffix(':')}**", ""]
        elif section and (not line or line.startswith("    ")):
            out.append(_in_section(line, section))
        else:
            section = ""
            out.append(line)
    return re.sub(r"\n{3,}", "\n\n", "\n".join(out)).strip()


def _in_section(line: str, section: str) -> str:
    item = _ITEM.match(line)
    if section == _RETURNS or (line and not item):
        return ("  " if section != _RETURNS else "") + line.strip()
    if item is None:
        return line
    names = ", ".join(code(name) for name in item["names"].split(", "))
    return f"- {names}: {item['text']}"
