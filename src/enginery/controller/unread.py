"""How much clients leave unread, in their connections, in shared memory, and while they are away: told to the scheduler."""

from __future__ import annotations

from typing import TYPE_CHECKING

from enginery.wire import messages as m

if TYPE_CHECKING:
    from enginery.controller.ports import Peer
    from enginery.controller.sharing import Sharing
    from enginery.core.scheduler import Scheduler


class Unread:
    """Measures what clients have not read. Belongs to the loop's thread."""

    def __init__(self, scheduler: Scheduler, sharing: Sharing) -> None:
        self._scheduler = scheduler
        self._sharing = sharing
        self.most = scheduler.readers.most

    def sent(self, client: int, size: int) -> None:
        """A client has been sent something, and by now so many bytes wait for it."""
        if size > self.most:
            self._scheduler.results_unread(client, size)

    def relieve(self, peer: Peer) -> bool:
        """A peer has read something: if it is a client that was held back, its tasks may go on. Whether they do."""
        number = peer.number
        if peer.role != "client" or number not in self._scheduler.dealer.held_back:
            return False
        return self._scheduler.results_unread(number, max(peer.backlog, self._sharing.in_flight(number)))

    def results_come(self, results: list[m.Result]) -> None:
        """Results in shared memory have come: their clients are to take them before there are many more."""
        self._sharing.results_come(results, self._scheduler.clients)
        for client in {result.id >> m.CLIENT_SHIFT for result in results if result.shared}:
            self.sent(client, self._sharing.in_flight(client))

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
