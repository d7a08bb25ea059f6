"""How much clients leave unread: beyond a limit no more of their tasks are begun, until they have read enough."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from enginery.wire import messages as m

if TYPE_CHECKING:
    from enginery.controller.ports import Peer
    from enginery.controller.sharing import Sharing
    from enginery.core.scheduler import Scheduler

#: Bytes of results that a client may leave unread, by sockets or in shared memory, before no more of its tasks are begun;
#: and those with which they go on.
MOST_UNREAD: Final = 512 << 20
ENOUGH: Final = 256 << 20


class Unread:
    """Holds clients back that do not read, and lets them on. Belongs to the loop's thread."""

    def __init__(self, scheduler: Scheduler, sharing: Sharing) -> None:
        self._scheduler = scheduler
        self._sharing = sharing

    def relieve(self, peer: Peer) -> bool:
        """A peer has read something: if it is a client that was held back, its tasks may go on. Whether they do."""
        if peer.role == "client" and peer.number in self._scheduler.dealer.held_back:
            if peer.backlog <= ENOUGH and self._sharing.in_flight(peer.number) <= ENOUGH:
                self._scheduler.dealer.let_on(peer.number)
                return True
        return False

    def hold_back_readers(self, results: list[m.Result]) -> None:
        """Results in shared memory have come: their clients are to take them before there are many more."""
        self._sharing.results_come(results, self._scheduler.clients)
        for client in {result.id >> m.CLIENT_SHIFT for result in results if result.shared}:
            if self._sharing.in_flight(client) > MOST_UNREAD and client in self._scheduler.clients:
                self._scheduler.dealer.hold_back(client)

    def has_read(self, peer: Peer, pong: m.Pong, _frames: list[object], _now: float) -> None:
        """The answer to a port's question, whose numbers are negative."""
        if 0 <= -pong.number <= peer.asked:
            peer.read = max(peer.read, -pong.number)
            self.relieve(peer)

    def output_read(self, peer: Peer, pong: m.Pong, frames: list[object], now: float) -> None:
        """A client has read output, and what was sent before."""
        self.has_read(peer, pong, frames, now)
        self._scheduler.clients[peer.number].flow.heard(pong.number)

    def released(self, peer: Peer, release: m.Release, _frames: list[object], _now: float) -> None:
        """A peer has taken what it was sent in shared memory."""
        self._sharing.released_by(peer.number if peer.role == "client" else 0, release.names)
        self.relieve(peer)
