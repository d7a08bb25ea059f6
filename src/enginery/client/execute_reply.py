"""What comes back from running source text on an engine: ExecuteReply."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from enginery.client.metadata import KEYS
from enginery.client.pieces import bundle_piece, label, labelled, plain_text
from enginery.client.screen import screen


class ExecuteReply:
    """The reply to ``execute``: what the last expression showed, and which number the cell got.

    ``execution_count``, ``source``, ``data`` (representations by mime type, empty if nothing was shown) and
    ``metadata`` are items and attributes; so is everything that the request's own metadata holds (``stdout`` …),
    which ``request`` gives when asked.
    """

    def __init__(self, engine_id: int, content: dict[str, Any], request: Callable[[], dict[str, Any]]) -> None:
        self.engine_id = engine_id
        self.execution_count: int = content.get("execution_count") or 0
        self.source: str = content.get("source") or ""
        self.data: dict[str, Any] = content.get("data") or {}
        self.metadata: dict[str, Any] = content.get("metadata") or {}
        self._request = request

    def __getitem__(self, key: str) -> Any:
        if key in {"execution_count", "source", "data", "metadata", "engine_id"}:
            return getattr(self, key)
        return self._request()[key]

    def __getattr__(self, name: str) -> Any:
        if name in KEYS:
            return self._request()[name]
        raise AttributeError(f"ExecuteReply has no {name!r}.")

    def keys(self) -> list[str]:
        """Names of all items."""
        return sorted({"execution_count", "source", "data", "metadata", "engine_id", *KEYS})

    def __repr__(self) -> str:
        text = plain_text({"data": self.data}) if self.data else self._first_line()
        short = text if len(text) <= 60 else text[:57] + "..."  # noqa: PLR2004 - one line of a terminal, with its label
        return f"<ExecuteReply[{self.execution_count}]: {short}>"

    def _first_line(self) -> str:
        """Of what was printed: tells replies apart that have no value."""
        return str(self._request()["stdout"]).strip().partition("\n")[0] or "no output"

    def _repr_pretty_(self, pretty: Any, cycle: bool) -> None:  # noqa: ARG002 - IPython passes it
        pretty.text(self._as_text())

    def _as_text(self) -> str:
        if not self.data:
            return repr(self)
        piece = bundle_piece("result", {"data": self.data}, self.execution_count)
        return labelled(label(piece, [self.engine_id]), piece.text).rstrip("\n")

    def display(self) -> None:
        """Show it as the engine would have: the richest representation that there is a place for, under its label."""
        if self.data:
            piece = bundle_piece("result", {"data": self.data, "metadata": self.metadata}, self.execution_count)
            screen().show(piece, [self.engine_id])

    def _repr_mime_(self, mime: str) -> Any:
        """The representation of one mime type, with its metadata where there is some; None if there is none."""
        if mime not in self.data:
            return None
        return (self.data[mime], self.metadata[mime]) if mime in self.metadata else self.data[mime]

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> tuple[dict[str, Any], dict[str, Any]]:  # noqa: ARG002 - IPython passes them
        return {**self.data, "text/plain": self._as_text()}, self.metadata

    def _repr_html_(self) -> Any:
        return self._repr_mime_("text/html")

    def _repr_markdown_(self) -> Any:
        return self._repr_mime_("text/markdown")

    def _repr_latex_(self) -> Any:
        return self._repr_mime_("text/latex")

    def _repr_json_(self) -> Any:
        return self._repr_mime_("application/json")

    def _repr_javascript_(self) -> Any:
        return self._repr_mime_("application/javascript")

    def _repr_png_(self) -> Any:
        return self._repr_mime_("image/png")

    def _repr_jpeg_(self) -> Any:
        return self._repr_mime_("image/jpeg")

    def _repr_svg_(self) -> Any:
        return self._repr_mime_("image/svg+xml")
