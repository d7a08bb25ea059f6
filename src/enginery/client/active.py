"""Which views the magics of a notebook use: activated views by suffix."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from enginery.client.direct import DirectView

#: Activated views by the suffix of their magics. One entry per suffix: a later view replaces an earlier one.
views: dict[str, DirectView] = {}


def register(view: DirectView, suffix: str = "") -> None:
    """Make ``view`` the one that ``%px<suffix>`` uses. Raises TypeError unless the suffix is text."""
    if not isinstance(suffix, str):
        raise TypeError(f"The suffix of magics is text, not {suffix!r}.")
    views[suffix] = view
