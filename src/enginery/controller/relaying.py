"""What is relayed to hosts by their nannies: marries ``core.relays`` to the peers that are here."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Final

from enginery.core.actions import To
from enginery.core.relays import Relays

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from enginery.controller.peers import Peers
    from enginery.controller.ports import Peer
    from enginery.core.actions import Action
    from enginery.core.scheduler import Scheduler
    from enginery.wire import messages as m

log = logging.getLogger("enginery.controller")

#: Seconds after which a nanny that has said nothing at all is not waited for; it says something every few seconds.
SILENCE: Final = 15.0


class Relaying:
    """The relays of one controller. Belongs to the loop's thread."""

    def __init__(
        self,
        scheduler: Scheduler,
        peers: Peers,
        *,
        read: Callable[[str, int], memoryview],
        perform: Callable[[Action], None],
    ) -> None:
        """``read`` gives the contents of a segment by name and size; ``perform`` sends what was held back."""
        self._scheduler = scheduler
        self._peers = peers
        self._perform = perform
        self.relays = Relays(self._nanny_of, read)
        self.nannies: set[int] = set()  #: those that can; while there are none, nothing here needs to be asked

    def shares(self, peer: Peer) -> None:
        """An engine or a nanny on another host has found the shared memory of that host."""
        peer.relays = True
        if peer.role == "nanny":
            self.nannies.add(peer.number)

    def sift(self, actions: list[Action]) -> list[Action]:
        """The actions of one turn but for those that have to wait; to be asked while there are ``nannies``."""
        return self.relays.sift(actions)

    def relayed(self, peer: Peer, relayed: m.Relayed, _frames: list[object], _now: float) -> None:
        """A nanny says what has come."""
        self._do(self.relays.relayed(peer.number, relayed.number, relayed.arrived, relayed.name))

    def ended(self, engine: int, results: Iterable[m.Result]) -> None:
        """Results of an engine have come."""
        if engine in self.relays.uses:
            self._do(self.relays.ended(engine, [result.id for result in results]))

    def engine_gone(self, number: int) -> None:
        """An engine has left for good."""
        self._do(self.relays.engine_gone(number))

    def nanny_gone(self, number: int) -> None:
        """A nanny has left, or its connection is lost."""
        if number in self.nannies:
            self.nannies.discard(number)
            self._do(self.relays.given_up(number, gone=True))

    def tick(self, now: float) -> None:
        """Do not wait for nannies that are stuck."""
        for number in self.relays.waits_for():
            peer = self._peers.table.get((To.NANNY, number))
            if peer is None or now - peer.heard > SILENCE:
                log.warning("%r is silent; engines get what it should relay from here", peer)
                if peer is not None:
                    peer.relays = False
                self._do(self.relays.given_up(number, gone=peer is None))

    def _nanny_of(self, engine: int) -> int:
        mate = self._peers.table.get((To.ENGINE, engine))
        if mate is None or not mate.relays or engine not in self._scheduler.engines:
            return -1
        number = self._scheduler.engines[engine].nanny
        nanny = self._peers.table.get((To.NANNY, number))
        return number if nanny is not None and nanny.relays else -1

    def _do(self, actions: list[Action]) -> None:
        for action in actions:
            self._perform(action)
