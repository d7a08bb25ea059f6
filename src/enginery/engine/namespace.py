"""The user's variables on an engine: set, evaluate, execute, clear."""

from __future__ import annotations

import ast
import sys
import types
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


class Namespace:
    """A module named ``__main__`` whose variables are the user's."""

    def __init__(self, engine_id: int) -> None:
        self.module = types.ModuleType("__main__", "What the user has put onto this engine.")
        self.variables: dict[str, Any] = self.module.__dict__
        self.count = 0  #: of executed cells
        self._own = set(self.variables) | {"__builtins__", "engine_id"}
        self.variables["engine_id"] = engine_id

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

    def execute(self, code: str, *, store: bool) -> Any:
        """Run source text; the value of a last expression is returned. ``store`` counts it as a cell."""
        if store:
            self.count += 1
        filename = f"<engine cell {self.count}>"
        tree = ast.parse(code, filename)
        last: ast.Expression | None = None
        if tree.body and isinstance(tree.body[-1], ast.Expr):
            last = ast.Expression(tree.body.pop().value)  # type: ignore[attr-defined]  # checked to be an Expr
        exec(compile(tree, filename, "exec"), self.variables)
        if last is None:
            return None
        return eval(compile(last, filename, "eval"), self.variables)

    def clear(self) -> None:
        """Forget every name the user has set."""
        for name in [name for name in self.variables if name not in self._own]:
            del self.variables[name]
