"""The engine that this process is, for functions of the user's that reach it from inside.

Set once, before the first task. None in every other process.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from enginery.engine.runner import Runner

_runner: Runner | None = None


def become(runner: Runner) -> None:
    """This process is an engine from now on."""
    global _runner  # noqa: PLW0603 - a process is one engine or none
    _runner = runner


def find(what: str) -> Runner:
    """The engine here. Raises RuntimeError that says that ``what`` works on engines only."""
    if _runner is None:
        msg = f"{what} works on an engine only: call it in a function that a view applies, or in a cell it executes."
        raise RuntimeError(msg)
    return _runner
