"""Where the scheduler meets the network: frames → scheduler → actions → frames, in one loop.

Rules of the room:

1. One turn: take what waits, tell the scheduler, perform what it asks. Nothing here decides.
2. A message that cannot be decoded is counted and dropped, or refused if its sender is unknown. It harms nobody else.
3. Payloads, function bodies and frames are forwarded as they came; nothing is unpickled.
"""

from __future__ import annotations

from time import monotonic
from typing import TYPE_CHECKING, Any, Final

from enginery.controller.absences import Absences, results_in, unheard_in
from enginery.controller.arrivals import Arrivals
from enginery.controller.door import Door, handlers_by_scope
from enginery.controller.farewells import Farewells
from enginery.controller.orders import Orders
from enginery.controller.peers import Peers
from enginery.controller.recording import LARGE
from enginery.controller.relaying import Relaying
from enginery.controller.safe import Receipt
from enginery.controller.sharing import Sharing
from enginery.controller.unread import Unread
from enginery.controller.work import Work
from enginery.core.actions import Action, To
from enginery.core.logbook import Taken
from enginery.core.mail import UNCOUNTED
from enginery.core.recall import written
from enginery.wire import messages as m

if TYPE_CHECKING:
    from collections.abc import Callable

    from enginery.controller.ports import Handler, Peer, Port
    from enginery.controller.recording import Recorder
    from enginery.controller.safe import Held, Safe
    from enginery.core.logbook import Page
    from enginery.core.mail import Mail
    from enginery.core.recall import Recall
    from enginery.core.scheduler import Scheduler

#: New clients of one epoch whose numbers are certain to be free, and epochs until numbers come again: as many as fit.
CLIENTS: Final = 4000
EPOCHS: Final = (1 << (62 - m.CLIENT_SHIFT)) // CLIENTS


def first_client(epoch: int) -> int:
    """The number a controller gives to its first client: those of clients of earlier epochs are left to them."""
    return 1 + (epoch - 1) % EPOCHS * CLIENTS


class Server:
    """The controller's peers and what they say. Belongs to the loop's thread."""

    def __init__(
        self,
        scheduler: Scheduler,
        *,
        clients: Port,
        engines: Port,
        welcome: m.Welcome,
        silence: float,
        local_patience: float = 0.0,
        clock: Callable[[], float] = monotonic,
        safe: Safe | None = None,
        recorder: Recorder | None = None,
        door: Door | None = None,
    ) -> None:
        """``welcome`` is the pattern of every welcome; ``silence`` how long a peer may be quiet, in seconds.

        ``local_patience`` is told to peers on this host in place of ``welcome.patience``: their connection does not
        break while both sides live, so it is about another controller that may take the place of this one. ``safe`` keeps
        what the scheduler writes into its logbook. ``clock`` tells the time that ``hear`` and its like are given.
        ``recorder`` writes down what happens. ``door`` judges who comes in; without one, all may.
        """
        self.scheduler = scheduler
        self.recorder = recorder
        self.stopping = False
        self._welcome = welcome
        self._clock = clock
        self._silence = silence
        self._local_patience = local_patience
        self._safe = safe
        self._owing: dict[Peer, None] = {}  #: who is to be told that its messages have come, once that is saved
        self._next_look = clock() + welcome.period
        self._decoders: dict[Port, Callable[[Any], Any]] = {
            clients: m.decode_from_client,
            engines: m.decode_from_engine,
        }
        door = door or Door()
        self._absences = Absences()
        self._peers = peers = Peers(clients, engines, self._absences)
        self._sharing = sharing = Sharing(welcome.runtime, clock=clock, release=self._give_back)
        self._unread = Unread(scheduler, sharing)
        self._relaying = relaying = Relaying(
            scheduler, peers, read=sharing.read, perform=lambda action: self._perform(peers.table, action)
        )
        self._work = Work(scheduler, peers, sharing=sharing, relaying=relaying, unread=self._unread, recorder=recorder)
        self._orders = Orders(scheduler, peers, door=door, recorder=recorder, act=self.act, stop=self._stop)
        self._farewells, self._arrivals = self._make_doors(door)
        peers.on_lost = self._farewells.lost
        if recorder is not None and recorder.keeper.lasts and safe is not None:
            recorder.when_saved = self._do_when_saved
        self._handlers = self._all_handlers()
        self._of_clients = handlers_by_scope(self._handlers["client"], self._orders.forbidden)

    def _make_doors(self, door: Door) -> tuple[Farewells, Arrivals]:
        """By which peers leave and come in."""
        farewells = Farewells(
            self.scheduler,
            self._peers,
            absences=self._absences,
            sharing=self._sharing,
            relaying=self._relaying,
            door=door,
            recorder=self.recorder,
            patience=self._welcome.patience,
            clock=self._clock,
        )
        arrivals = Arrivals(
            self.scheduler,
            self._peers,
            absences=self._absences,
            farewells=farewells,
            sharing=self._sharing,
            relaying=self._relaying,
            unread=self._unread,
            door=door,
            safe=self._safe,
            recorder=self.recorder,
            welcome=self._welcome,
            local_patience=self._local_patience,
            handlers_of=self._handlers_of,
        )
        return farewells, arrivals

    def _all_handlers(self) -> dict[str, dict[type, Handler]]:
        """Who may say what, by role, and who sees to it."""
        arrivals, farewells, unread = self._arrivals, self._farewells, self._unread
        handlers: dict[str, dict[type, Handler]] = {
            "": {
                m.ClientHello: arrivals.client_hello,
                m.EngineHello: arrivals.engine_hello,
                m.NannyHello: arrivals.nanny_hello,
            },
            "client": {**self._work.of_clients, **self._orders.of_clients, m.Pong: unread.output_read},
            "engine": {**self._work.of_engines, m.Pong: unread.has_read},
            "nanny": {
                m.NannyHello: arrivals.nanny_hello,
                m.EngineExited: farewells.engine_exited,
                m.Pong: unread.has_read,
                m.Relayed: self._relaying.relayed,
                m.Release: self._ignore,
                m.Shares: self._shares,
            },
        }
        for role in ("client", "engine", "nanny"):
            handlers[role] |= {m.Ping: self._ping, m.Bye: farewells.bye}
        for role in ("client", "engine"):
            handlers[role] |= {m.Release: unread.released, m.Shares: self._shares, m.Received: self._has_received}
        return handlers

    def _handlers_of(self, peer: Peer, role: str) -> dict[type, Handler]:
        return self._of_clients[peer.key.scope] if role == "client" else self._handlers[role]

    # --- the turn -----------------------------------------------------------------------------------------------

    def hear(self, port: Port, peer: Peer, header: object, frames: list[object], now: float) -> None:
        """Take in one message."""
        try:
            message = self._decoders[port](header)
        except m.UNDECODABLE as error:
            if peer.mail is None or self._is_news(peer, peer.mail, []):  # its sender has counted it
                self._peers.reject(port, peer, str(error))
            return
        if self.recorder is not None and len(header) > LARGE:  # type: ignore[arg-type]  # a buffer
            self.recorder.large_message_came(message, len(header))  # type: ignore[arg-type]  # likewise
        handle = peer.handlers.get(type(message))
        if handle is not None:
            peer.heard = now
            mail = peer.mail
            if mail is not None and type(message) not in UNCOUNTED and not self._is_news(peer, mail, frames):
                return
            handle(peer, message, frames, now)
        elif peer.role:
            self._peers.reject(port, peer, f"{type(message).__name__} is not for a {peer.role} to say here")
        elif peer.is_gone:
            pass  # it was refused, or let go, while the rest of what it sent was still here
        elif (greet := self._handlers[""].get(type(message))) is not None:
            greet(peer, message, frames, now)
        else:
            self._peers.refuse(port, peer, "ConnectionLost", "This controller does not know you: say hello first.")

    def _is_news(self, peer: Peer, mail: Mail, frames: list[object]) -> bool:
        """A counted message has come: for the first time? It is acknowledged now and then, or once it is saved."""
        is_news = not mail.again_to_come
        if is_news:
            due = mail.came(frames)
        else:
            mail.again_to_come -= 1
        if self._safe is not None:
            self._owing[peer] = None
        elif due:
            self._acknowledge(peer)
        return is_news

    def hung_up(self, port: Port, peer: Peer) -> None:
        """A peer's connection has been closed from its side."""
        self._peers.hung_up(port, peer)

    def relieve(self, peer: Peer) -> bool:
        """A peer has read something: if it is a client that was held back, its tasks may go on. Whether they do."""
        return self._unread.relieve(peer)

    def look_around(self, now: float) -> None:
        """Tick the scheduler, and let go of peers that have been silent for too long."""
        self.scheduler.tick(now)
        self._farewells.departures.tick(now)
        for to, number in self._absences.overdue(now):
            if to == To.CLIENT:
                self._farewells.client_gone(number)
        late = now - self._next_look
        if late < 0:
            return
        self._next_look = now + self._welcome.period
        self._sharing.tick(self.scheduler.book.tasks)
        self._relaying.tick(now)
        self._farewells.see_off(now)
        # What came while this process itself was stopped is still to be read: that time is nobody's silence.
        limit = now - self._silence - late
        self._farewells.part_with_silent(now, limit)

    def next_deadline(self) -> float:
        """When ``look_around`` is due, in monotonic seconds. ``act`` has to come before."""
        due = self.scheduler.next_deadline()
        first = min(self._next_look, self._farewells.departures.next_deadline(), self._absences.next_deadline())
        return first if due is None else min(first, due)

    def act(self, now: float) -> None:
        """Perform what the scheduler asks."""
        if self._safe is not None:
            self._act_safely(self._safe, now)
            return
        scheduler, peers = self.scheduler, self._peers.table
        while actions := scheduler.take_actions(now):
            if self._relaying.nannies:
                actions = self._relaying.sift(actions)
            for action in actions:
                self._perform(peers, action)
            scheduler.settle()
            if not scheduler.has_actions():
                break
        if self.recorder is not None:
            self.recorder.collect()

    def _perform(self, peers: dict[tuple[To, int], Peer], action: Action) -> None:
        to, number, message, frames = action
        peer = peers.get((to, number))
        if peer is None or not peer.shares:
            message, frames = self._sharing.as_frames(message, frames)
        header = m.encode(message)
        mail = peer.mail if peer is not None else self._absences.mail_of((to, number))
        if mail is not None and type(message) not in UNCOUNTED:
            mail.keep(header, frames)
        if peer is None or not peer.port.send(peer, header, frames):
            self._farewells.lost(to, number)
            if to == To.CLIENT and mail is not None:
                self._unread.sent(number, mail.size)  # what it will be sent when it comes back
        elif to == To.CLIENT and peer.backlog > self._unread.most:
            self._unread.sent(number, peer.backlog)

    def _act_safely(self, safe: Safe, now: float) -> None:
        """The same with a logbook: what depends on what is written waits until that is saved."""
        scheduler, peers, logbook = self.scheduler, self._peers.table, self.scheduler.logbook
        assert logbook is not None
        while True:
            actions = scheduler.take_actions(now)
            safe.write(logbook.take())
            for action in actions:
                if action.to == To.ENGINE:
                    safe.hold(action)
                else:
                    self._perform(peers, action)
            scheduler.settle()
            if not actions or not scheduler.has_actions():
                break
        if self.recorder is not None:
            self.recorder.collect()
        safe.write(logbook.take())
        owing, self._owing = self._owing, {}
        for peer in owing:
            if peer.mail is not None:
                safe.hold(Receipt(peer, peer.mail.receipt()))
        if safe.place.grown:
            safe.begin_anew(self.written())
        self.release()

    def release(self) -> None:
        """More has been saved: do what waited for it."""
        if self._safe is not None:
            actions: list[Action] = []

            def perform(what: Held) -> None:
                if isinstance(what, Action):
                    actions.append(what)
                elif isinstance(what, Receipt):
                    self._acknowledge_saved(what)
                else:
                    what()

            self._safe.release(perform)
            for action in self._relaying.sift(actions) if self._relaying.nannies else actions:
                self._perform(self._peers.table, action)

    def _do_when_saved(self, do: Callable[[], object]) -> None:
        """Do something once all that the scheduler has written until now is saved."""
        assert self._safe is not None
        assert self.scheduler.logbook is not None
        self._safe.write(self.scheduler.logbook.take())
        self._safe.hold(do)

    def _acknowledge_saved(self, receipt: Receipt) -> None:
        if receipt.peer.mail is not None:
            receipt.peer.mail.saved = receipt.said.count
        if not receipt.peer.is_gone:
            self._peers.send(receipt.peer.port, receipt.peer, receipt.said)

    # --- another controller's time ------------------------------------------------------------------------------

    def recall(self, recall: Recall) -> None:
        """Go on where another controller was ended: its peers are waited for as if their connections were lost."""
        now = self._clock()
        if self.recorder is not None:
            self.recorder.recall(recall)
        recall.put_into(self.scheduler, now)
        until = now + max(self._welcome.patience, self._local_patience)
        for number in self.scheduler.clients:
            self._arrivals.recalled.add((To.CLIENT, number))
            self._absences.open((To.CLIENT, number))
            self._absences.away((To.CLIENT, number), until)
        for unheard in recall.unheard.values():
            mail = self._absences.mail_of((To.CLIENT, unheard.result.id >> m.CLIENT_SHIFT))
            if mail is not None:
                mail.keep(m.encode(m.Results(unheard.engine, [unheard.result])), unheard.frames)
        for number in list(self.scheduler.engines):
            self._arrivals.recalled.add((To.ENGINE, number))
            self._absences.open((To.ENGINE, number))
            self._absences.away((To.ENGINE, number), until)
            self._farewells.departures.hung_up(number, until - now)

    def written(self) -> Page:
        """Everything this controller knows, for a logbook that is begun anew."""
        unheard = [
            one for number in self.scheduler.clients for one in unheard_in(self._absences.mail_of((To.CLIENT, number)))
        ]
        page = written(self.scheduler, unheard, self._welcome.epoch)
        return page if self.recorder is None else page + self.recorder.written()

    # --- what is said of the connection itself ------------------------------------------------------------------

    def _ignore(self, _peer: Peer, _message: object, _frames: list[object], _now: float) -> None:
        """Nothing to be done but to note that the peer is alive."""

    def _shares(self, peer: Peer, shares: m.Shares, _frames: list[object], _now: float) -> None:
        peer.shares = peer.is_local and bool(self._sharing.folder)
        if not peer.is_local and peer.role != "client":
            self._relaying.shares(peer, shares.place)

    def _give_back(self, engine: int, names: list[str]) -> None:
        mate = self._peers.table.get((To.ENGINE, engine))
        if mate is not None:
            self._peers.send(self._peers.ports[To.ENGINE], mate, m.Release(names))

    def _has_received(self, peer: Peer, received: m.Received, _frames: list[object], _now: float) -> None:
        if peer.mail is None:
            return
        taken = peer.mail.heard_received(received.count)
        logbook = self.scheduler.logbook
        if logbook is not None and peer.role == "client":
            ids = [result.id for header, _ in taken for result in results_in(header)]
            if ids:
                logbook.note(Taken(ids))

    def _acknowledge(self, peer: Peer) -> None:
        if peer.mail is not None:
            self._peers.send(peer.port, peer, peer.mail.receipt())

    def _ping(self, peer: Peer, ping: m.Ping, _frames: list[object], _now: float) -> None:
        if peer.mail is not None and peer.mail.owes() and self._safe is None:
            self._acknowledge(peer)
        port = self._peers.ports[To.CLIENT] if peer.role == "client" else self._peers.ports[To.ENGINE]
        self._peers.send(port, peer, m.Pong(ping.number))

    # --- the end ------------------------------------------------------------------------------------------------

    def say_goodbye(self, reason: str) -> None:
        """Tell every peer that the controller leaves for good."""
        for (to, _), peer in list(self._peers.table.items()):
            self._peers.ports[to].send(peer, m.encode(m.Bye(reason)), [])

    # --- what is kept elsewhere ---------------------------------------------------------------------------------

    @property
    def rejected(self) -> int:
        """Messages that made no sense, or could not be handled."""
        return self._peers.rejected

    @rejected.setter
    def rejected(self, count: int) -> None:
        self._peers.rejected = count

    @property
    def on_forget(self) -> Callable[[int, Peer], None]:
        """Called with the descriptor of a peer whose connection is to be closed."""
        return self._peers.on_forget

    @on_forget.setter
    def on_forget(self, forget: Callable[[int, Peer], None]) -> None:
        self._peers.on_forget = forget

    def _stop(self) -> None:
        self.stopping = True
