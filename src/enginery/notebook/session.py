"""The interactive session: its first client's view becomes that of the magics."""

from __future__ import annotations

from typing import TYPE_CHECKING

from IPython.core.getipython import get_ipython

from enginery.client import active
from enginery.notebook import render
from enginery.notebook.magics import ParallelMagics

if TYPE_CHECKING:
    from IPython.core.interactiveshell import InteractiveShell

    from enginery.client.client import Client
    from enginery.client.direct import DirectView


class Session:
    """One IPython shell with its magics, by suffix."""

    def __init__(self, shell: InteractiveShell) -> None:
        self.shell = shell
        self.magics: dict[str, ParallelMagics] = {}
        render.install(shell)

    def greet(self, client: Client) -> None:
        """A client was made: its view is activated unless there is one whose client is still connected."""
        view = active.views.get("")
        if view is None or view.client.link.closed:
            client.activate()

    def activate(self, view: DirectView, suffix: str) -> None:
        """Make ``%px<suffix>`` and its family use ``view``."""
        self.provide(suffix).view = view

    def provide(self, suffix: str) -> ParallelMagics:
        """The magics with this suffix; made when first asked for."""
        if suffix not in self.magics:
            self.magics[suffix] = ParallelMagics(self.shell, suffix)
        return self.magics[suffix]


_sessions: list[Session] = []


def find() -> Session | None:
    """The session of the IPython shell that runs here; None if none does."""
    shell = get_ipython()
    return None if shell is None else of(shell)


def of(shell: InteractiveShell) -> Session:
    """The session of a shell."""
    for each in _sessions:
        if each.shell is shell:
            return each
    _sessions.append(Session(shell))
    return _sessions[-1]


def load(shell: InteractiveShell) -> None:
    """``%load_ext enginery``: the magics are there, and use the view of the first client, made before or after."""
    session = of(shell)
    session.provide("")
    for suffix, view in active.views.items():
        session.activate(view, suffix)
