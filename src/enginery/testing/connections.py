"""Connections in memory: messages of one direction arrive in order, later, sometimes twice, or never again."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from enginery.testing.clock import Clock
    from enginery.testing.faults import Faults

    Deliver = Callable[[bytes, list[object]], object]


class End:
    """What one end of a connection does with what comes from the other."""

    def __init__(self, deliver: Deliver, hung_up: Callable[[], object], *, sees_repetitions: bool) -> None:
        """``hung_up`` is called when the other end has closed, after everything it had sent before."""
        self.deliver = deliver
        self.hung_up = hung_up
        self.sees_repetitions = sees_repetitions


class Way:
    """One direction of a connection."""

    def __init__(self, connection: Connection, end: End) -> None:
        self.is_open = True  #: nobody has closed either end of it
        self._connection = connection
        self._end = end
        self._clear_at = 0.0

    def send(self, header: bytes, frames: list[object]) -> None:
        """Send a message. It is gone without a word if the connection is cut before it arrives."""
        connection = self._connection
        if connection.is_cut or connection.faults.strikes("lose"):
            connection.is_cut = True
            return
        self._bring(lambda: self._end.deliver(header, frames))
        if self._end.sees_repetitions and connection.faults.strikes("repeat"):
            self._bring(lambda: self._end.deliver(header, frames))

    def hold(self, seconds: float) -> None:
        """Whatever is sent from now on arrives in so many seconds at the earliest."""
        self._clear_at = max(self._clear_at, self._connection.clock.now + seconds)

    def close(self) -> None:
        """Nothing more is sent; what is on its way still arrives, and then the end of it is seen."""
        if self.is_open:
            self.is_open = False
            self._bring(self._end.hung_up)

    def break_off(self) -> None:
        """The end of it is seen although nothing else arrives."""
        if self.is_open:
            self.is_open = False
            connection = self._connection
            connection.clock.call_after(connection.faults.travel_time(), self._end.hung_up)

    def _bring(self, arrive: Callable[[], object]) -> None:
        connection = self._connection
        self._clear_at = max(self._clear_at, connection.clock.now + connection.faults.travel_time())
        connection.clock.call_at(self._clear_at, lambda: None if connection.is_cut else arrive())


class Connection:
    """A peer's connection to the controller: a way up and a way down."""

    def __init__(self, clock: Clock, faults: Faults, *, top: End, bottom: End) -> None:
        """``top`` is the controller's end, ``bottom`` the peer's."""
        self.clock = clock
        self.faults = faults
        self.is_cut = False  #: nothing passes any more, and nobody is told
        self.up = Way(self, top)
        self.down = Way(self, bottom)

    def cut(self) -> None:
        """Nothing passes any more; what was on its way is gone, and nobody is told."""
        self.is_cut = True

    def break_both_ways(self) -> None:
        """As ``cut``, and both ends see it."""
        self.is_cut = True
        for way in (self.up, self.down):
            way.break_off()

    def __repr__(self) -> str:
        return f"<Connection{' cut' if self.is_cut else '' if self.up.is_open and self.down.is_open else ' closed'}>"
