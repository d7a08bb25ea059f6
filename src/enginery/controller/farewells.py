"""How peers leave: by a word, with their connection, by long silence, or because they have to; and who is waited for."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from enginery.controller.departures import Departures
from enginery.core.actions import To
from enginery.wire import messages as m

if TYPE_CHECKING:
    from collections.abc import Callable

    from enginery.controller.absences import Absences
    from enginery.controller.door import Door
    from enginery.controller.peers import Peers
    from enginery.controller.ports import Peer
    from enginery.controller.recording import Recorder
    from enginery.controller.relaying import Relaying
    from enginery.controller.sharing import Sharing
    from enginery.core.scheduler import Scheduler

log = logging.getLogger("enginery.controller")


class Farewells:
    """Parts with peers, each once. Belongs to the loop's thread."""

    def __init__(
        self,
        scheduler: Scheduler,
        peers: Peers,
        *,
        absences: Absences,
        sharing: Sharing,
        relaying: Relaying,
        door: Door,
        recorder: Recorder | None,
        patience: float,
        clock: Callable[[], float],
    ) -> None:
        """``patience`` is how long one whose connection is lost may take to come back, in seconds."""
        self._scheduler = scheduler
        self._peers = peers
        self._absences = absences
        self._sharing = sharing
        self._relaying = relaying
        self._door = door
        self._recorder = recorder
        self._patience = patience
        self._clock = clock
        self.departures = Departures(scheduler, self.engine_gone, clock)
        self.watched: dict[str, int] = {}  #: nanny by uuid of an engine

    def watch(self, nanny: int, engines: list[str]) -> None:
        """A nanny watches these engines. One that has done so before is gone, or will be."""
        for number in {self.watched.get(uuid, nanny) for uuid in engines} - {nanny}:
            self._relaying.nanny_gone(number)
        self.watched.update(dict.fromkeys(engines, nanny))

    def bye(self, peer: Peer, bye: m.Bye, _frames: list[object], _now: float) -> None:
        """A peer says that it leaves."""
        if peer.role == "engine":
            # Its last results came before this, so what it still holds by our books it has not begun.
            self.engine_gone(peer.number, bye.reason or "it left", balanced=-1)
        elif peer.role == "client":
            self.client_gone(peer.number)
        elif peer.role == "nanny":
            self._nanny_gone(peer.number)

    def engine_exited(self, peer: Peer, exited: m.EngineExited, _frames: list[object], _now: float) -> None:
        """A nanny says how an engine ended."""
        if self.watched.get(exited.uuid, peer.number) != peer.number:
            self._peers.reject(
                self._peers.ports[To.NANNY], peer, "it tells of the end of an engine that another nanny watches"
            )
            return
        self.watched.pop(exited.uuid, None)
        self.departures.exited(exited)

    def lost(self, to: To, number: int) -> None:
        """The connection of a peer is lost. Whoever may come back is waited for."""
        peer = self._peers.table.get((to, number))
        patience = self._patience if peer is not None and self._waits_for(peer) else 0.0
        if (to, number) in self._absences:
            return
        if patience and self._absences.away((to, number), self._clock() + patience):
            log.info("%r has lost its connection; it may come back within %g s", peer, patience)
            self._peers.forget(to, number)
        if to == To.ENGINE:
            self.departures.hung_up(number, patience)
        elif to == To.NANNY:
            self._nanny_gone(number)
        elif not patience:
            self.client_gone(number)

    def _waits_for(self, peer: Peer) -> bool:
        """Whether a peer whose connection is lost may still be there."""
        return bool(self._patience) and not peer.is_local and not peer.is_cut_off and peer.role != "nanny"

    def see_off(self, now: float) -> None:
        """Part with those who do not say hello, and with those whose keys are no good any more."""
        for port in (self._peers.ports[To.CLIENT], self._peers.ports[To.ENGINE]):
            late = port.overdue(now)
            if late:
                log.warning("%s: %d connections cut off that had not said hello", port.name, len(late))
            for peer in late:
                self._peers.drop(port, peer)
        for key, why in self._door.take_over():
            for (to, number), peer in [each for each in self._peers.table.items() if each[1].key is key]:
                log.info("%r has to leave: %s", peer, why)
                self._peers.send(self._peers.ports[to], peer, m.Bye(why))
                if to == To.ENGINE:
                    self.engine_gone(number, why)
                elif to == To.CLIENT:
                    self.client_gone(number)
                else:
                    self.lost(to, number)

    def part_with_silent(self, now: float, limit: float) -> None:
        """Let go of peers that have not been heard since ``limit``, in monotonic seconds."""
        for (to, number), peer in list(self._peers.table.items()):
            silence = now - peer.heard
            if peer.heard >= limit or (to == To.ENGINE and self._nanny_heard(number) >= limit):
                continue
            log.info("%r has been silent for %.0f s", peer, silence)
            if to == To.ENGINE and not self._waits_for(peer):
                self._engine_silent(number, silence)
            else:
                self.lost(to, number)

    def _engine_silent(self, number: int, silence: float) -> None:
        if (engine := self._scheduler.engines.get(number)) is not None:
            reason = f"no sign of life for {silence:.0f} s (frozen, or cut off)"
            self.engine_gone(number, reason, end=m.Departure(number, engine.info.uuid, reason, crashed=True))

    def _nanny_heard(self, engine: int) -> float:
        """When the nanny of an engine was last heard; a nanny answers while user code keeps its engine from it."""
        record = self._scheduler.engines.get(engine)
        nanny = self._peers.table.get((To.NANNY, record.nanny)) if record is not None else None
        return nanny.heard if nanny is not None else 0.0

    def engine_gone(
        self, number: int, reason: str, *, balanced: int | None = None, end: m.Departure | None = None
    ) -> None:
        """An engine leaves for good."""
        if number not in self._scheduler.engines:
            return  # actions for it were still in the outbox when it left
        log.info("engine=%s left: %s", number, reason)
        self._peers.forget(To.ENGINE, number)
        self._absences.forget((To.ENGINE, number))
        self._sharing.engine_gone(number)
        self._relaying.engine_gone(number)
        self._scheduler.engine_left(number, reason, balanced=balanced, end=end)

    def client_gone(self, number: int) -> None:
        """A client leaves for good."""
        if number not in self._scheduler.clients:
            return
        log.info("client=%s left", number)
        self._peers.forget(To.CLIENT, number)
        self._absences.forget((To.CLIENT, number))
        self._sharing.client_gone(number, self._scheduler.book.tasks)
        if self._recorder is not None:
            self._recorder.client_left(number)
        self._scheduler.client_left(number)

    def _nanny_gone(self, number: int) -> None:
        self.watched = {uuid: nanny for uuid, nanny in self.watched.items() if nanny != number}
        self._peers.forget(To.NANNY, number)
        self._relaying.nanny_gone(number)
