"""What must outlive the controller: pages of the logbook on their way to a safe place, and what waits for them.

Order rule: what depends on a page stands behind it. Tasks leave for engines, and peers are told that their messages have
come, once every page written until then is saved; everything else leaves at once.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, NamedTuple, Protocol, TypeAlias

from enginery.core.actions import Action, To

if TYPE_CHECKING:
    from collections.abc import Callable

    from enginery.controller.ports import Peer
    from enginery.core.logbook import Page
    from enginery.wire.messages import Received

    #: What may wait: something to be sent, something to be told once it is true, or anything to be done.
    Held: TypeAlias = "Action | Receipt | Callable[[], object]"


class Place(Protocol):
    """Where pages are saved."""

    saved: int  #: so many pages are safe

    def put(self, page: Page) -> int:
        """Begin to save a page. Returns how many have been put until now, this one included."""

    def begin_anew(self, page: Page) -> int:
        """Have this page take the place of all before it, whatever happens meanwhile. Returns as ``put``."""

    @property
    def grown(self) -> bool:
        """Whether it is worth while to begin anew."""


class Receipt(NamedTuple):
    """What a peer is told once it is true."""

    peer: Peer
    said: Received


class Safe:
    """The pages of one controller, and the actions held back until they are saved. Belongs to the loop's thread."""

    def __init__(self, place: Place) -> None:
        self.place = place
        self._mark = 0
        self._held: deque[tuple[int, Held]] = deque()

    def write(self, page: Page) -> None:
        """Have a page saved, if there is anything on it."""
        if page:
            self._mark = self.place.put(page)

    def begin_anew(self, page: Page) -> None:
        """Replace everything that was written by a page."""
        self._mark = self.place.begin_anew(page)

    def hold(self, what: Held) -> None:
        """Hold something back until all that was written is saved."""
        self._held.append((self._mark, what))

    def drop_for(self, engine: int) -> None:
        """What was held back for an engine is not to be sent any more."""
        self._held = deque(
            (mark, what)
            for mark, what in self._held
            if not isinstance(what, Action) or (what.to, what.number) != (To.ENGINE, engine)
        )

    def release(self, perform: Callable[[Held], object]) -> None:
        """Perform what waits for nothing any more."""
        held, saved = self._held, self.place.saved
        while held and held[0][0] <= saved:
            perform(held.popleft()[1])
