"""What a StringTask does on its engine."""

from __future__ import annotations

import sys
from typing import Any

#: The names of the shell, which clearing leaves.
_OWN = frozenset({"In", "Out", "engine_id", "exit", "get_ipython", "open", "quit"})


def run_text(text: str, push: dict[str, Any], pull: list[str], before: bool, after: bool) -> list[Any]:
    """Run ``text`` in the user's namespace, with ``push`` set first. Gives the values of ``pull``.

    ``before`` and ``after`` say whether the namespace is cleared. Raises what the text raises, NameError for a name
    that is not there.
    """
    namespace = vars(sys.modules["__main__"])
    if before:
        _clear(namespace)
    try:
        namespace.update(push)
        exec(compile(text, "<task>", "exec"), namespace)  # noqa: S102 - that is the task
        return [eval(name, namespace) for name in pull]  # noqa: S307 - names may be dotted, as everywhere
    finally:
        if after:
            _clear(namespace)


def _clear(namespace: dict[str, Any]) -> None:
    for name in [name for name in namespace if not name.startswith("_") and name not in _OWN]:
        del namespace[name]
