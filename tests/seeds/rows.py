"""Which rows of the interface's list are covered: read from the marks of tests and from the page of replaced rows.

The list has 107 rows: every command, flag, configuration name and behaviour that four generations of documentation show
a user typing. A test says which of them it covers by ``@pytest.mark.row(17, 18)``; a row that something else replaces
has a line in ``docs/reference/former-interfaces.md``.
"""

from __future__ import annotations

import ast
import re
from pathlib import Path

HERE = Path(__file__).parent
PAGE = HERE.parents[1] / "docs" / "reference" / "former-interfaces.md"
ROWS = frozenset(range(1, 108))


def tested() -> frozenset[int]:
    """Rows that a test in this folder, or beside the real services, is marked with."""
    files = [*HERE.glob("test_*.py"), *(HERE.parent / "services").glob("test_*.py")]
    return frozenset(number for path in files for number in _marks(path))


def replaced() -> frozenset[int]:
    """Rows of which the page says what took their place: lines that begin with ``| <row> |``."""
    if not PAGE.exists():
        return frozenset()
    return frozenset(int(number) for number in re.findall(r"^\| (\d+) \|", PAGE.read_text(), re.MULTILINE))


def summary() -> str:
    """One line for the end of a run."""
    left = ROWS - tested() - replaced()
    text = f"seed rows: {len(tested())} tested, {len(replaced() - tested())} replaced, {len(left)} open"
    return f"{text}: {', '.join(map(str, sorted(left)))}" if left else text


def _marks(path: Path) -> list[int]:
    calls = [node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Call)]
    # By the last name first: to write out each function takes long.
    named = [call for call in calls if isinstance(call.func, ast.Attribute) and call.func.attr == "row"]
    marks = [call for call in named if ast.unparse(call.func) == "pytest.mark.row"]
    return [ast.literal_eval(argument) for mark in marks for argument in mark.args]
