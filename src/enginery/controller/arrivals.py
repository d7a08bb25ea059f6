"""How peers come in: hellos of clients, engines and nannies, new ones and those that are back, and their welcomes."""

from __future__ import annotations

import logging
import secrets
from typing import TYPE_CHECKING, Final

import msgspec

from enginery.controller.peers import TO
from enginery.core.actions import To
from enginery.wire import messages as m

if TYPE_CHECKING:
    from collections.abc import Callable

    from enginery.controller.absences import Absences
    from enginery.controller.door import Door
    from enginery.controller.farewells import Farewells
    from enginery.controller.peers import Peers
    from enginery.controller.ports import Handler, Peer, Port
    from enginery.controller.recording import Recorder
    from enginery.controller.relaying import Relaying
    from enginery.controller.safe import Safe
    from enginery.controller.sharing import Sharing
    from enginery.controller.unread import Unread
    from enginery.core.engines import ClientRecord, EngineRecord
    from enginery.core.scheduler import Scheduler

log = logging.getLogger("enginery.controller")

_STALE: Final = (
    "You know a later controller (epoch {}) than this one (epoch {}), which should not be there any more. Stop it."
)


class Arrivals:
    """Lets peers in. Belongs to the loop's thread."""

    def __init__(
        self,
        scheduler: Scheduler,
        peers: Peers,
        *,
        absences: Absences,
        farewells: Farewells,
        sharing: Sharing,
        relaying: Relaying,
        unread: Unread,
        door: Door,
        safe: Safe | None,
        recorder: Recorder | None,
        welcome: m.Welcome,
        local_patience: float,
        handlers_of: Callable[[Peer, str], dict[type, Handler]],
    ) -> None:
        """``welcome`` is the pattern of every welcome, ``local_patience`` what it says of patience on this host.

        ``handlers_of(peer, role)`` gives who sees to what a peer says once it is in.
        """
        self._scheduler = scheduler
        self._peers = peers
        self._absences = absences
        self._farewells = farewells
        self._sharing = sharing
        self._relaying = relaying
        self._unread = unread
        self._door = door
        self._safe = safe
        self._recorder = recorder
        self._welcome = welcome
        self._local_patience = local_patience
        self._handlers_of = handlers_of
        self.recalled: set[tuple[To, int]] = set()  #: who was here in the time of another controller
        self._next_nanny = 0

    def client_hello(self, peer: Peer, hello: m.ClientHello, _frames: list[object], now: float) -> None:
        """A client says hello, for the first time or once more."""
        port = self._peers.ports[To.CLIENT]
        if not self._may_come_in(port, peer, hello, "client"):
            return
        client = self._client_of(hello, now)
        if isinstance(client, str):
            self._peers.refuse(port, peer, "ConnectionLost", client)
            return
        is_same = hello.epoch == self._welcome.epoch
        is_new = self._absences.mail_of((To.CLIENT, client.number)) is None
        if self._recorder is not None and not is_same:
            self._recorder.client_joined(client)
        self._become(peer, "client", To.CLIENT, client.number, now)
        log.info("client=%s %s (%s)", client.number, "is back" if hello.client >= 0 else "joined", client.name)
        infos = [engine.info for engine in self._scheduler.engines.values()]
        welcome = msgspec.structs.replace(self._welcome, number=client.number, token=client.token, engines=infos)
        welcome.resumed = hello.client >= 0 and (is_same or (To.CLIENT, client.number) in self.recalled)
        self._greet(peer, welcome, received=hello.received if is_same else 0, is_new=is_new)
        if question := client.flow.last_question():
            self._peers.send(port, peer, m.Ping(question))
        self._unread.relieve(peer)  # it may have got most of what was unread when it went away

    def _client_of(self, hello: m.ClientHello, now: float) -> ClientRecord | str:
        """The record of a client that says hello; of one that comes back the one it had. Or why it is refused."""
        name = f"{hello.user}@{hello.host}:{hello.pid}"
        if hello.client < 0:
            return self._scheduler.client_joined(name, secrets.token_hex(8), now, hello.session)
        if hello.epoch > self._welcome.epoch:
            return _STALE.format(hello.epoch, self._welcome.epoch)
        known = self._scheduler.clients.get(hello.client)
        if known is not None and secrets.compare_digest(known.token, hello.token):
            return known
        if hello.epoch == self._welcome.epoch:
            return "The controller has waited for this client long enough and has let go of it."
        client = self._scheduler.client_adopted(hello.client, name, hello.token, now, hello.session)
        return (
            client or f"Client {hello.client} was given up, or its number is another one's in the restarted controller."
        )

    def engine_hello(self, peer: Peer, hello: m.EngineHello, _frames: list[object], now: float) -> None:
        """An engine says hello, for the first time or once more."""
        port = self._peers.ports[To.ENGINE]
        if not self._may_come_in(port, peer, hello, "engine"):
            return
        if self._farewells.departures.has_ended(hello.uuid):
            # Its nanny's word of its end has overtaken its own hello.
            self._peers.refuse(port, peer, "Refused", "This engine has ended, its nanny says.")
            return
        if hello.epoch > self._welcome.epoch:
            self._peers.refuse(port, peer, "ConnectionLost", _STALE.format(hello.epoch, self._welcome.epoch))
            return
        engine, is_same = None, hello.epoch == self._welcome.epoch
        if hello.epoch:  # it comes back
            engine = next((each for each in self._scheduler.engines.values() if each.info.uuid == hello.uuid), None)
        if engine is None:
            if is_same:
                self._peers.refuse(
                    port, peer, "Refused", "The controller has given this engine up; its tasks run elsewhere."
                )
                return
            self._farewells.departures.joined(hello.uuid)
            engine = self._scheduler.engine_joined(
                hello.uuid, hello.pid, hello.host, hello.id, now, hello.engine_set, hello.rank
            )
            self._engine_joined(peer, hello, engine, now)
            return
        who = (To.ENGINE, engine.info.id)
        if hello.connection <= self._absences.connection(who):
            self._peers.refuse(port, peer, "Refused", "This engine has another, later connection.")
            return
        if is_same or who not in self.recalled:  # of the latter: it has joined here, and has not heard of it
            received = hello.received if is_same else 0
            self._engine_joined(peer, hello, engine, now, received=received, resumed=is_same, is_new=False)
            self._scheduler.engine_returned(engine.info.id, now)
            return
        # It has heard nothing of this controller yet: what was on its way to it here has not arrived.
        self._absences.open(who)
        self._relaying.engine_gone(engine.info.id)
        if self._safe is not None:
            self._safe.drop_for(engine.info.id)
        self._engine_joined(peer, hello, engine, now, resumed=True, is_new=False)
        self._scheduler.engine_recalled(engine.info.id, hello.holding, now)

    def _engine_joined(
        self,
        peer: Peer,
        hello: m.EngineHello,
        engine: EngineRecord,
        now: float,
        *,
        received: int = 0,
        resumed: bool = False,
        is_new: bool = True,
    ) -> None:
        number = engine.info.id
        engine.nanny = self._farewells.watched.get(hello.uuid, -1)
        self._become(peer, "engine", To.ENGINE, number, now)
        self._farewells.departures.returned(number)
        log.info("engine=%s %s (pid %s on %s)", number, "is back" if hello.epoch else "joined", hello.pid, hello.host)
        welcome = msgspec.structs.replace(self._welcome, number=number, token=hello.uuid)
        welcome.resumed = resumed
        self._greet(peer, welcome, received=received, is_new=is_new, connection=hello.connection)

    def nanny_hello(self, peer: Peer, hello: m.NannyHello, _frames: list[object], now: float) -> None:
        """A nanny says hello, or which engines it watches by now."""
        port = self._peers.ports[To.NANNY]
        if not self._may_come_in(port, peer, hello, "engine"):
            return
        if peer.role != "nanny":
            self._become(peer, "nanny", To.NANNY, self._next_nanny, now)
            self._next_nanny += 1
            self._peers.send(port, peer, msgspec.structs.replace(self._welcome, number=peer.number, runtime=""))
        self._farewells.watch(peer.number, hello.engines)
        for engine in self._scheduler.engines.values():
            if engine.info.uuid in hello.engines:
                engine.nanny = peer.number

    def _greet(self, peer: Peer, welcome: m.Welcome, *, received: int, is_new: bool, connection: int = 0) -> None:
        """Welcome a peer, and send again what one that comes back has not got."""
        who = (TO[peer.role], peer.number)
        welcome.runtime = self._sharing.folder_for(peer)
        welcome.patience = self._local_patience if peer.is_local else self._welcome.patience
        if welcome.patience:
            if is_new:
                self._absences.open(who)
            peer.mail = self._absences.back(who, connection)
            welcome.received = peer.mail.received if self._safe is None else peer.mail.ask_again()
        self._peers.send(peer.port, peer, welcome)
        for header, frames in peer.mail.again(received) if peer.mail is not None and not is_new else ():
            peer.port.send(peer, header, frames)

    def _become(self, peer: Peer, role: str, to: To, number: int, now: float) -> None:
        """A peer has said who it is. A connection it had before counts no more."""
        self._peers.forget(to, number)
        peer.role, peer.number, peer.heard = role, number, now
        peer.handlers = self._handlers_of(peer, role)
        peer.port.introduced(peer)
        self._peers.table[to, number] = peer

    def _may_come_in(
        self, port: Port, peer: Peer, hello: m.ClientHello | m.EngineHello | m.NannyHello, kind: str
    ) -> bool:
        """Whether a peer speaks our language and has a key for this port; it is told if not."""
        if self._refuse_version(port, peer, hello.version):
            return False
        key = self._door.judge(peer, kind, hello.key)
        if isinstance(key, str):
            log.warning("%s: a peer on %r (pid %s) was refused: %s", port.name, hello.host, hello.pid, key)
            self._peers.refuse(port, peer, "Refused", key)
            return False
        peer.key = key
        return True

    def _refuse_version(self, port: Port, peer: Peer, version: int) -> bool:
        if version == m.VERSION:
            return False
        reason = (
            f"You speak version {version} of the protocol, this controller version {m.VERSION}. "
            "Install the same release of enginery on both sides."
        )
        self._peers.refuse(port, peer, "VersionMismatch", reason)
        return True
