"""Runs source text on an engine: plain Python at once, everything else in an IPython shell made when first needed.

Importing IPython takes 0.15 s and 15 MB that engines which only call functions never pay. What needs the shell:

1. A cell that is not silent, for its result is shown; and one that is not plain Python (magics, ``!``, top-level await).
2. User code that imports IPython itself: ``display()`` and ``get_ipython()`` of its modules look for a shell.
3. User code that uses ``display`` or ``get_ipython`` by their bare names, which are builtins here.

Once there is a shell, it runs every cell.
"""

from __future__ import annotations

import ast
import builtins
import importlib.util
import itertools
import keyword
import os
import re
import sys
import threading
from importlib.abc import MetaPathFinder
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Container, Mapping, Sequence
    from importlib.machinery import ModuleSpec
    from pathlib import Path
    from types import CodeType, ModuleType

    from enginery.engine.namespace import Namespace
    from enginery.engine.output import Outputs
    from enginery.engine.shell import EngineShell

_WORD: Final = re.compile(r"\s*\b([^\W\d]\w*)")


class Cells:
    """Runs cells in a namespace. To be used in the main thread."""

    def __init__(
        self, namespace: Namespace, outputs: Outputs, *, config: Mapping[str, Any], profile_dir: Path | None
    ) -> None:
        """``config`` holds settings of the shell and its parts by class name; ``profile_dir`` is an IPython profile."""
        self._namespace = namespace
        self._outputs = outputs
        self._config = config
        self._profile_dir = profile_dir
        self._numbers = itertools.count(1)
        self._shell: EngineShell | None = None
        self._watch = _Watch("IPython", self._imported)

    def prepare(self) -> None:
        """Have the shell made when user code looks for it."""
        builtins.display = self._display  # type: ignore[attr-defined]  # as IPython itself does
        builtins.get_ipython = self.shell  # type: ignore[attr-defined]  # likewise, while a cell runs
        # Plots are displayed at the client, also those of functions that never heard of a magic.
        os.environ.setdefault("MPLBACKEND", "module://matplotlib_inline.backend_inline")
        if "IPython" not in sys.modules:
            sys.meta_path.insert(0, self._watch)

    def shell(self) -> EngineShell:
        """The shell, made now if need be."""
        if self._shell is None:
            self._watch.end()
            # 0.15 s: see the head of this file.
            from enginery.engine.shell import make_shell

            self._shell = make_shell(self._namespace.module, self._outputs, self._config, self._profile_dir)
        return self._shell

    def run(self, code: str, *, silent: bool = True, store_history: bool = False) -> dict[str, Any]:
        """Run a cell. Returns what an ``ExecuteReply`` tells of it; raises what the cell raises."""
        if self._shell is None and silent:
            name = f"<engine cell {next(self._numbers)}>"
            compiled = compile_plain(code, name, self._namespace.variables)
            if compiled is not None:
                self._namespace.execute(compiled, code)
                return {"status": "ok", "execution_count": 1, "data": None, "metadata": {}, "source": code}
        return self.shell().run(code, silent=silent, store_history=store_history)

    def clear(self) -> None:
        """Forget every name the user has set, and what cells have shown."""
        if self._shell is None:
            self._namespace.clear()
        else:
            own = self._namespace.own()
            self._shell.reset(new_session=False)  # type: ignore[no-untyped-call]  # IPython's
            self._namespace.variables.update(own)

    def _display(self, *objects: Any, **options: Any) -> Any:
        """Show objects at the client, as IPython's ``display`` does, which the shell puts into the place of this."""
        self.shell()
        return builtins.display(*objects, **options)  # type: ignore[attr-defined]  # see above

    def _imported(self) -> None:
        """User code has imported IPython."""
        if threading.current_thread() is threading.main_thread():
            self.shell()


def compile_plain(code: str, name: str, names: Container[str]) -> CodeType | None:
    """Compile plain Python; None for everything else. Mistakes are not plain, and neither is a line like ``ls -l``.

    IPython takes one line that begins with an unknown name for a magic, if there is one of that name.
    """
    try:
        tree = ast.parse(code, name)
        compiled = compile(tree, name, "exec")  # which finds top-level await
    except (SyntaxError, ValueError):
        return None
    word = _WORD.match(code)
    if word is None or len(tree.body) != 1 or not isinstance(tree.body[0], ast.Expr) or "\n" in code.strip():
        return compiled
    known = word[1] in names or hasattr(builtins, word[1]) or keyword.iskeyword(word[1])
    return compiled if known else None


class _Watch(MetaPathFinder):
    """Calls ``then`` after a module was imported for the first time."""

    def __init__(self, name: str, then: Callable[[], None]) -> None:
        self._name = name
        self._then = then

    def end(self) -> None:
        """Watch no longer."""
        if self in sys.meta_path:
            sys.meta_path.remove(self)

    def find_spec(
        self,
        fullname: str,
        path: Sequence[str] | None,  # noqa: ARG002 - of the protocol of finders
        target: ModuleType | None = None,  # noqa: ARG002 - likewise
    ) -> ModuleSpec | None:
        """The usual spec, with a loader that tells."""
        if fullname != self._name:
            return None
        self.end()
        spec = importlib.util.find_spec(fullname)
        loader: Any = spec.loader if spec is not None else None
        if loader is None:
            return spec
        execute = loader.exec_module

        def exec_module(module: ModuleType) -> None:
            execute(module)
            self._then()

        loader.exec_module = exec_module
        return spec
