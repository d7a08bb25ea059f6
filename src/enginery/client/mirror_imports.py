"""Imports that happen here and on engines: the block of ``sync_imports``."""

from __future__ import annotations

import builtins
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from enginery.client.direct import DirectView


@contextmanager
def mirrored_imports(view: DirectView, quiet: bool = False) -> Iterator[None]:
    """While the block runs, imports of this thread are repeated on the engines of ``view``.

    Only what the block itself imports is, not what those modules import in turn. Prints a line for each, unless ``quiet``.
    """
    original = builtins.__import__
    mirror = _Mirror(view, original, quiet)
    builtins.__import__ = mirror
    try:
        yield
    finally:
        # Another patch may have been laid over ours meanwhile; then ours stays below it and steps aside.
        mirror.active = False
        if builtins.__import__ is mirror:
            builtins.__import__ = original


class _Mirror:
    """Stands in for ``builtins.__import__``."""

    def __init__(self, view: DirectView, original: Callable[..., Any], quiet: bool) -> None:
        self.view = view
        self.original = original
        self.quiet = quiet
        self.active = True
        self.thread = threading.get_ident()
        self.depth = 0
        self.sent: set[str] = set()

    def __call__(
        self,
        name: str,
        globals: Mapping[str, object] | None = None,
        locals: Mapping[str, object] | None = None,
        fromlist: Sequence[str] | None = (),
        level: int = 0,
    ) -> Any:
        if not self.active or self.depth or threading.get_ident() != self.thread:
            return self.original(name, globals, locals, fromlist, level)
        self.depth += 1
        try:
            module = self.original(name, globals, locals, fromlist, level)
            # Relative imports mean something on this side only.
            if level == 0:
                self._repeat(name, fromlist)
        finally:
            self.depth -= 1
        return module

    def _repeat(self, name: str, fromlist: Sequence[str] | None) -> None:
        code = f"from {name} import {', '.join(fromlist)}" if fromlist else f"import {name}"
        if code in self.sent:
            return
        self.sent.add(code)
        if not self.quiet:
            what = f"importing {', '.join(fromlist)} from {name}" if fromlist else f"importing {name}"
            print(f"{what} on engine(s)")
        self.view.execute(code, block=True)
