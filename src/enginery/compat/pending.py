"""What calls of the first generation return: results that are pending, and lists of what was executed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from enginery.client.result import AsyncResult


class PendingResult:
    """A result on its way. ``r`` waits for it."""

    def __init__(self, result: AsyncResult, convert: Callable[[Any], Any] = lambda value: value) -> None:
        """Stands for ``result``; ``convert`` makes of its value what is handed out."""
        self.result = result
        self._convert = convert

    def get_result(self, default: Any = None, block: bool = True) -> Any:
        """The value; ``default`` if it is not there and ``block`` is False. Raises what went wrong on engines."""
        if not block and not self.result.ready():
            return default
        return self._convert(self.result.get())

    @property
    def r(self) -> Any:
        """The value, waited for."""
        return self.get_result()

    def add_callback(self, f: Callable[..., Any], *args: Any, **kwargs: Any) -> None:
        """Call ``f(value, *args, **kwargs)`` once the value is there; never if it is an error."""

        def call(result: Any) -> None:
            if result.exception() is None:
                f(self.get_result(), *args, **kwargs)

        self.result.add_done_callback(call)

    def __repr__(self) -> str:
        state = "ready" if self.result.ready() else "pending"
        return f"<PendingResult: {state}>"


class ResultList(list[dict[str, Any]]):
    """What ``execute`` did on each engine: dicts with ``id``, ``number``, ``input``, ``stdout``, ``stderr``, ``pyout``."""

    def __repr__(self) -> str:
        return "\n".join(["<Results List>", "\n\n".join(_shown(each) for each in self)])


def executed(code: str, result: AsyncResult) -> Callable[[Any], ResultList]:
    """The converter that makes a ResultList of the replies to ``execute(code)``."""

    def convert(replies: Any) -> ResultList:
        rows = ResultList()
        for reply, told in zip(replies, result.metadata, strict=True):
            shown = told["execute_result"] or {}
            rows.append(
                {
                    "id": told["engine_id"],
                    "number": reply.execution_count,
                    "input": code,
                    "stdout": told["stdout"],
                    "stderr": told["stderr"],
                    "pyout": shown.get("data", {}).get("text/plain"),
                }
            )
        return rows

    return convert


def _shown(row: dict[str, Any]) -> str:
    lines = [f"[{row['id']}] In [{row['number']}]: {row['input']}"]
    lines += [f"[{row['id']}] Out[{row['number']}]: {text.rstrip()}" for text in (row["stdout"], row["pyout"]) if text]
    lines += [f"[{row['id']}] Err[{row['number']}]: {row['stderr'].rstrip()}"] if row["stderr"] else []
    return "\n".join(lines)
