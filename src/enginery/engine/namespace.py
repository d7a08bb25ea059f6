"""The user's variables on an engine: set, evaluate, execute, clear."""

from __future__ import annotations

import builtins
import sys
import types
from typing import TYPE_CHECKING, Any

from enginery.wire.code import remember_source

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from types import CodeType


class Namespace:
    """A module named ``__main__`` whose variables are the user's."""

    def __init__(self, engine_id: int) -> None:
        self.module = types.ModuleType("__main__", "What the user has put onto this engine.")
        self.variables: dict[str, Any] = self.module.__dict__
        # What C code imports while a function runs, as numpy does, it imports by way of the globals' builtins.
        self.variables["__builtins__"] = builtins
        self.variables["engine_id"] = engine_id
        self._own = set(self.variables)

    def adopt(self) -> None:
        """Count what is there now as there before the user came."""
        self._own = set(self.variables)

    @staticmethod
    def executable() -> str:
        """The Python this is."""
        return sys.executable

    def become_main(self) -> None:
        """Let pickles that name ``__main__`` find the user's variables."""
        sys.modules["__main__"] = self.module

    def push(self, values: Mapping[str, Any]) -> None:
        """Set names; a dotted name sets an attribute of what its first part means."""
        for name, value in values.items():
            head, _, attribute = name.rpartition(".")
            if head:
                setattr(self.evaluate(head), attribute, value)
            else:
                self.variables[name] = value

    def pull(self, names: str | Sequence[str]) -> Any:
        """Evaluate a name or expression, or each of several."""
        if isinstance(names, str):
            return self.evaluate(names)
        return [self.evaluate(name) for name in names]

    def evaluate(self, expression: str) -> Any:
        """The value of an expression here. Raises what evaluating it raises."""
        if expression.isidentifier() and expression in self.variables:
            return self.variables[expression]
        return eval(expression, self.variables)

    def execute(self, compiled: CodeType, source: str) -> None:
        """Run plain Python; tracebacks will find its source text."""
        remember_source(compiled.co_filename, 1, source)
        exec(compiled, self.variables)

    def own(self) -> dict[str, Any]:
        """What was there before the user came."""
        return {name: self.variables[name] for name in self._own if name in self.variables}

    def clear(self) -> None:
        """Forget every name the user has set."""
        for name in [name for name in self.variables if name not in self._own]:
            del self.variables[name]
