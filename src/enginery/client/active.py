"""Which views the magics of an interactive session use, and the session that is told of clients and views."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Final, Protocol

if TYPE_CHECKING:
    from enginery.client.client import Client
    from enginery.client.direct import DirectView

#: An environment variable. Set (to anything), it turns off what only people at a screen want: live output of magics and
#: progress bars.
NONINTERACTIVE: Final = "IPP_NONINTERACTIVE"
#: Activated views by the suffix of their magics. One entry per suffix: a later view replaces an earlier one.
views: dict[str, DirectView] = {}


class Session(Protocol):
    """An interactive session, as of IPython."""

    def greet(self, client: Client) -> None:
        """A client was made in this session."""

    def activate(self, view: DirectView, suffix: str) -> None:
        """Make the magics with this suffix use a view."""


#: Finds the session there is. Set by the face, for this room does not know notebooks.
find_session: Callable[[], Session | None] | None = None


def in_ipython() -> bool:
    """Whether IPython runs here. It is not imported to find out."""
    ipython = sys.modules.get("IPython")
    return ipython is not None and ipython.get_ipython() is not None


def greet(client: Client) -> None:
    """Tell the session, if there is one, of a new client."""
    if session := _session():
        session.greet(client)


def register(view: DirectView, suffix: str = "") -> None:
    """Make ``view`` the one that ``%px<suffix>`` uses. Raises TypeError unless the suffix is text."""
    if not isinstance(suffix, str):
        raise TypeError(f"The suffix of magics is text, not {suffix!r}.")
    views[suffix] = view
    if session := _session():
        session.activate(view, suffix)


def _session() -> Session | None:
    return find_session() if find_session is not None and in_ipython() else None
