"""Fenced blocks of Markdown pages, and what of them is to be run."""

from __future__ import annotations

import re
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[2]
_FENCE = re.compile(r"^```(?P<info>.*)$")


class Block(NamedTuple):
    """A fenced block: what stands behind its first fence, its text, and the line of the page on which that begins."""

    info: str
    text: str
    line: int


class Step(NamedTuple):
    """Something to run. ``wanted`` is what it shall write, None if the page does not say."""

    kind: str
    text: str
    line: int
    wanted: str | None


def example_pages() -> list[str]:
    """The pages that have something to run. Those that are generated have not."""
    paths = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
    return [path.relative_to(ROOT).as_posix() for path in paths if steps_of(path.read_text(encoding="utf-8"))]


def blocks_of(text: str) -> list[Block]:
    """The fenced blocks of a page. Raises ValueError for one that is not closed."""
    blocks: list[Block] = []
    lines = text.splitlines()
    begun: int | None = None
    for at, line in enumerate(lines):
        fence = _FENCE.match(line)
        if fence is None:
            continue
        if begun is None:
            begun = at
        else:
            info = lines[begun].removeprefix("```").strip()
            blocks.append(Block(info, "".join(f"{each}\n" for each in lines[begun + 1 : at]), begun + 2))
            begun = None
    if begun is not None:
        raise ValueError(f"The block that begins on line {begun + 1} has no end.")
    return blocks


def steps_of(text: str) -> list[Step]:
    """What is to be run of a page: Python blocks, IPython cells, and the commands of console blocks.

    A text block that stands next to a Python block, with nothing but empty lines between, is what it shall print.
    """
    blocks = blocks_of(text)
    steps: list[Step] = []
    for block, after in pairwise([*blocks, None]):
        if block.info in {"python", "ipython"}:
            follows = after is not None and after.info == "text" and _adjacent(text, block, after)
            wanted = after.text if after is not None and follows else None
            steps.append(Step(block.info, block.text, block.line, wanted))
        elif block.info.startswith("python "):
            steps.append(Step("config", block.text, block.line, None))
        elif block.info == "console":
            steps += _commands(block)
    return steps


def _adjacent(text: str, block: Block, after: Block) -> bool:
    between = text.splitlines()[block.line + block.text.count("\n") : after.line - 2]
    return not any(line.strip() for line in between)


def _commands(block: Block) -> list[Step]:
    steps: list[Step] = []
    for at, line in enumerate(block.text.splitlines()):
        if line.startswith("$ "):
            steps.append(Step("console", line.removeprefix("$ "), block.line + at, None))
        elif steps:
            steps[-1] = steps[-1]._replace(wanted=f"{steps[-1].wanted or ''}{line}\n")
    return steps
