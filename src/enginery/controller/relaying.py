"""What is relayed to hosts by their nannies: marries ``core.relays`` to the peers that are here.

Of the nannies of one place, which is the shared memory that they and the engines there have in common, the first that came
relays to all of its engines, as long as it is there and answers; then the next.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Final

from enginery.core.actions import To
from enginery.core.relays import Relays
from enginery.wire.messages import Ping

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
        self.nannies: dict[int, str] = {}  #: their places; while there are none, nothing here needs to be asked
        self._answer: dict[str, dict[int, None]] = {}  #: by place: those that are not silent, in the order they came

    def shares(self, peer: Peer, place: str) -> None:
        """An engine or a nanny on another host has found the shared memory of that host, or of its own there."""
        peer.relays, peer.place = True, place
        if peer.role == "nanny":
            self._pass_over(peer.number)
            self.nannies[peer.number] = place
            self._answer.setdefault(place, {})[peer.number] = None

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
        self._pass_over(number)
        self.nannies.pop(number, None)
        self._do(self.relays.given_up(number, gone=True))

    def tick(self, now: float) -> None:
        """Do not wait for nannies that are stuck."""
        for number in self.relays.waits_for():
            peer = self._peers.table.get((To.NANNY, number))
            if peer is None or now - peer.heard > SILENCE:
                log.warning("%r is silent; engines get what it should relay from here", peer)
                self._pass_over(number)
                self._do(self.relays.given_up(number, gone=peer is None))
            else:
                self._peers.send(peer.port, peer, Ping(0))  # its connection may have ended, and nothing else tells

    def _nanny_of(self, engine: int) -> int:
        mate = self._peers.table.get((To.ENGINE, engine))
        if mate is None or not mate.relays or engine not in self._scheduler.engines:
            return -1
        if mate.place:
            return next(iter(self._answer.get(mate.place, ())), -1)
        number = self._scheduler.engines[engine].nanny
        return number if number in self._answer.get(self.nannies.get(number, ""), ()) else -1

    def _pass_over(self, number: int) -> None:
        """Nothing more goes to a nanny."""
        place = self.nannies.get(number, "")
        answer = self._answer.get(place, {})
        answer.pop(number, None)
        if not answer:
            self._answer.pop(place, None)

    def _do(self, actions: list[Action]) -> None:
        for action in actions:
            self._perform(action)
