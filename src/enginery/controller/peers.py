"""The peers that are here: who they are, sending to them, and closing the connections of those who may not stay."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Final

from enginery.core.actions import To
from enginery.core.mail import UNCOUNTED
from enginery.wire import messages as m

if TYPE_CHECKING:
    from collections.abc import Callable

    from enginery.controller.absences import Absences
    from enginery.controller.ports import Peer, Port

log = logging.getLogger("enginery.controller")

#: Undecodable messages of one peer that are logged; the rest is only counted.
COMPLAINTS: Final = 5
#: What peers of each role are to the scheduler.
TO: Final = {"client": To.CLIENT, "engine": To.ENGINE, "nanny": To.NANNY}


class Peers:
    """Connections by what is behind them. Belongs to the loop's thread."""

    def __init__(self, clients: Port, engines: Port, absences: Absences) -> None:
        self.ports = {To.CLIENT: clients, To.ENGINE: engines, To.NANNY: engines}
        self.table: dict[tuple[To, int], Peer] = {}
        self.rejected = 0  #: messages that made no sense
        self._absences = absences
        #: called with the descriptor of a peer whose connection is to be closed
        self.on_forget: Callable[[int, Peer], None] = lambda _fd, _peer: None
        #: called when the connection of a peer turns out to be lost
        self.on_lost: Callable[[To, int], None] = lambda _to, _number: None

    def send(self, port: Port, peer: Peer, message: m.ToClient | m.ToEngine) -> None:
        """Send a message to one connection; if it takes no more, it is lost."""
        header = m.encode(message)
        if peer.mail is not None and type(message) not in UNCOUNTED:
            peer.mail.keep(header, [])
        if not port.send(peer, header, []) and peer.role:
            self.on_lost(TO[peer.role], peer.number)

    def say_to_client(self, number: int, message: m.ToClient, frames: list[object]) -> None:
        """Send to a client, if it is still there, what stands in no outbox."""
        peer = self.table.get((To.CLIENT, number))
        header = m.encode(message)
        mail = peer.mail if peer is not None else self._absences.mail_of((To.CLIENT, number))
        if mail is not None:
            mail.keep(header, frames)
        if peer is not None and not peer.port.send(peer, header, frames):
            self.on_lost(To.CLIENT, number)

    def hung_up(self, port: Port, peer: Peer) -> None:
        """A peer's connection has been closed from its side."""
        if peer.role:
            self.on_lost(TO[peer.role], peer.number)
        self.drop(port, peer)

    def forget(self, to: To, number: int) -> None:
        """Let go of a peer, if it is here."""
        peer = self.table.pop((to, number), None)
        if peer is not None:
            self.drop(self.ports[to], peer)

    def drop(self, port: Port, peer: Peer) -> None:
        """Close a connection. What still comes of it is not listened to."""
        peer.role, peer.handlers, peer.is_gone = "", {}, True
        fd = port.forget(peer)
        if fd >= 0:
            self.on_forget(fd, peer)

    def refuse(self, port: Port, peer: Peer, kind: str, reason: str) -> None:
        """Tell a peer why it may not be here, and close its connection."""
        self.send(port, peer, m.Refused(kind, reason))
        self.drop(port, peer)

    def frames_fit(self, peer: Peer, wanted: int, frames: list[object]) -> bool:
        """Whether as many frames have come as a message says; it is rejected if not."""
        if wanted == len(frames):
            return True
        self.reject(self.ports[To.CLIENT], peer, f"{wanted} frames announced, {len(frames)} received")
        return False

    def reject(self, port: Port, peer: Peer, why: str) -> None:
        """A message makes no sense: it is counted, and who says many such is cut off."""
        self.rejected += 1
        if self.rejected <= COMPLAINTS:
            log.warning("%s: message of %r rejected: %s", port.name, peer, why)
        peer.rejected += 1
        if not peer.role:
            self.refuse(port, peer, "Refused", f"This is not a message of enginery's protocol: {why}")
        elif peer.rejected > port.limits.rejected:
            log.warning("%s: %r is cut off after %d messages that made no sense", port.name, peer, peer.rejected)
            peer.is_cut_off = True
            self.hung_up(port, peer)
