"""Where the scheduler meets the network: frames → scheduler → actions → frames, in one loop.

Rules of the room:

1. One turn: take what waits, tell the scheduler, perform what it asks. Nothing here decides.
2. A message that cannot be decoded is counted and dropped, or refused if its sender is unknown. It harms nobody else.
3. Payloads, function bodies and frames are forwarded as they came; nothing is unpickled.
"""

from __future__ import annotations

import logging
import secrets
from time import monotonic
from typing import TYPE_CHECKING, Any, Final

import msgspec

from enginery.controller.absences import Absences, results_in, unheard_in
from enginery.controller.departures import Departures
from enginery.controller.door import Door, handlers_by_scope, refusal
from enginery.controller.history import NO_STORE, QUESTIONS, History
from enginery.controller.queries import answer, ask_where
from enginery.controller.recording import LARGE
from enginery.controller.safe import Receipt
from enginery.controller.sharing import Sharing
from enginery.core.actions import Action, To
from enginery.core.logbook import Taken
from enginery.core.mail import UNCOUNTED
from enginery.core.recall import written
from enginery.wire import messages as m

if TYPE_CHECKING:
    from collections.abc import Callable

    from enginery.controller.ports import Handler, Peer, Port
    from enginery.controller.recording import Recorder
    from enginery.controller.safe import Safe
    from enginery.core.engines import ClientRecord, EngineRecord
    from enginery.core.logbook import Page
    from enginery.core.mail import Mail
    from enginery.core.recall import Recall
    from enginery.core.scheduler import Scheduler

log = logging.getLogger("enginery.controller")

#: Bytes of results that a client may leave unread, by sockets or in shared memory, before no more of its tasks are begun;
#: and those with which they go on.
MOST_UNREAD: Final = 512 << 20
ENOUGH: Final = 256 << 20
#: Undecodable messages of one peer that are logged; the rest is only counted.
COMPLAINTS: Final = 5
#: New clients of one epoch whose numbers are certain to be free, and epochs until numbers come again: as many as fit.
CLIENTS: Final = 4000
EPOCHS: Final = (1 << (62 - m.CLIENT_SHIFT)) // CLIENTS
_STALE: Final = (
    "You know a later controller (epoch {}) than this one (epoch {}), which should not be there any more. Stop it."
)
#: What peers of each role are to the scheduler.
TO: Final = {"client": To.CLIENT, "engine": To.ENGINE, "nanny": To.NANNY}


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
        self._history = History(scheduler, recorder, self._say_to_client) if recorder is not None else None
        self.stopping = False
        self.rejected = 0
        self._ports = {To.CLIENT: clients, To.ENGINE: engines, To.NANNY: engines}
        self._decoders: dict[Port, Callable[[Any], Any]] = {
            clients: m.decode_from_client,
            engines: m.decode_from_engine,
        }
        self._peers: dict[tuple[To, int], Peer] = {}
        self._welcome = welcome
        self._clock = clock
        self._silence = silence
        self._local_patience = local_patience
        self._absences = Absences()
        self._safe = safe
        self._owing: dict[Peer, None] = {}  #: who is to be told that its messages have come, once that is saved
        self._recalled: set[tuple[To, int]] = set()  #: who was here in the time of another controller
        self._next_look = clock() + welcome.period
        self._watched: dict[str, int] = {}  #: nanny by uuid of an engine
        self._next_nanny = 0
        self._departing = Departures(scheduler, self._engine_gone, clock)
        self._sharing = Sharing(welcome.runtime, clock=clock, release=self._give_back)
        #: called with the descriptor of a peer whose connection is to be closed
        self.on_forget: Callable[[int, Peer], None] = lambda _fd, _peer: None
        #: who may say what, and who sees to it
        self._handlers: dict[str, dict[type, Handler]] = {
            "": {
                m.ClientHello: self._client_hello,
                m.EngineHello: self._engine_hello,
                m.NannyHello: self._nanny_hello,
            },
            "client": {
                m.Functions: self._functions,
                m.Submit: self._submit,
                m.Direct: self._direct,
                m.Abort: self._abort,
                m.Forget: self._forgotten,
                m.Query: self._query,
                m.Signal: self._signal,
                m.Shutdown: self._shutdown,
            },
            "engine": {
                m.Done: self._done,
                m.Said: self._said_output,
                m.Returned: self._returned,
                m.Missing: self._missing,
                m.Holds: self._holds,
                m.Want: self._want,
            },
            "nanny": {
                m.NannyHello: self._nanny_hello,
                m.EngineExited: self._engine_exited,
            },
        }
        for role in ("client", "engine", "nanny"):
            self._handlers[role] |= {m.Ping: self._ping, m.Pong: self._ignore, m.Bye: self._bye}
            self._handlers[role][m.Release] = self._ignore if role == "nanny" else self._released
            self._handlers[role][m.Shares] = self._ignore if role == "nanny" else self._shares
            self._handlers[role][m.Pong] = self._has_read
        self._handlers["client"][m.Pong] = self._output_read
        for role in ("client", "engine"):
            self._handlers[role][m.Received] = self._has_received
        self._door = door or Door()
        self._of_clients = handlers_by_scope(self._handlers["client"], self._forbidden)

    # --- the turn -----------------------------------------------------------------------------------------------

    def hear(self, port: Port, peer: Peer, header: object, frames: list[object], now: float) -> None:
        """Take in one message."""
        try:
            message = self._decoders[port](header)
        except m.UNDECODABLE as error:
            if peer.mail is None or self._is_news(peer, peer.mail, []):  # its sender has counted it
                self._reject(port, peer, str(error))
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
            self._reject(port, peer, f"{type(message).__name__} is not for a {peer.role} to say here")
        elif peer.is_gone:
            pass  # it was refused, or let go, while the rest of what it sent was still here
        elif (greet := self._handlers[""].get(type(message))) is not None:
            greet(peer, message, frames, now)
        else:
            self._refuse(port, peer, "ConnectionLost", "This controller does not know you: say hello first.")

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
        if peer.role:
            self._lost(TO[peer.role], peer.number)
        self._drop(port, peer)

    def look_around(self, now: float) -> None:
        """Tick the scheduler, and let go of peers that have been silent for too long."""
        self.scheduler.tick(now)
        self._departing.tick(now)
        for to, number in self._absences.overdue(now):
            if to == To.CLIENT:
                self._client_gone(number)
        late = now - self._next_look
        if late < 0:
            return
        self._next_look = now + self._welcome.period
        self._sharing.tick(self.scheduler.book.tasks)
        self._see_off(now)
        # What came while this process itself was stopped is still to be read: that time is nobody's silence.
        limit = now - self._silence - late
        for (to, number), peer in list(self._peers.items()):
            silence = now - peer.heard
            if peer.heard >= limit or (to == To.ENGINE and self._nanny_heard(number) >= limit):
                continue
            log.info("%r has been silent for %.0f s", peer, silence)
            if to == To.ENGINE and not self._waits_for(peer):
                self._engine_silent(number, silence)
            else:
                self._lost(to, number)

    def next_deadline(self) -> float:
        """When ``look_around`` is due, in monotonic seconds. ``act`` has to come before."""
        due = self.scheduler.next_deadline()
        first = min(self._next_look, self._departing.next_deadline(), self._absences.next_deadline())
        return first if due is None else min(first, due)

    def act(self, now: float) -> None:
        """Perform what the scheduler asks."""
        if self._safe is not None:
            self._act_safely(self._safe, now)
            if self.recorder is not None:
                self.recorder.collect()
            return
        scheduler, peers = self.scheduler, self._peers
        while actions := scheduler.take_actions(now):
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
            self._lost(to, number)
        elif to == To.CLIENT and peer.backlog > MOST_UNREAD:
            self.scheduler.dealer.hold_back(number)

    def _act_safely(self, safe: Safe, now: float) -> None:
        """The same with a logbook: what depends on what is written waits until that is saved."""
        scheduler, peers, logbook = self.scheduler, self._peers, self.scheduler.logbook
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
            self._safe.release(self._let_go)

    def _let_go(self, what: Action | Receipt) -> None:
        if isinstance(what, Action):
            self._perform(self._peers, what)
            return
        if what.peer.mail is not None:
            what.peer.mail.saved = what.said.count
        if not what.peer.is_gone:
            self._send(what.peer.port, what.peer, what.said)

    # --- another controller's time ------------------------------------------------------------------------------

    def recall(self, recall: Recall) -> None:
        """Go on where another controller was ended: its peers are waited for as if their connections were lost."""
        now = self._clock()
        if self.recorder is not None:
            self.recorder.recall(recall)
        recall.put_into(self.scheduler, now)
        until = now + max(self._welcome.patience, self._local_patience)
        for number in self.scheduler.clients:
            self._recalled.add((To.CLIENT, number))
            self._absences.open((To.CLIENT, number))
            self._absences.away((To.CLIENT, number), until)
        for unheard in recall.unheard.values():
            mail = self._absences.mail_of((To.CLIENT, unheard.result.id >> m.CLIENT_SHIFT))
            if mail is not None:
                mail.keep(m.encode(m.Results(unheard.engine, [unheard.result])), unheard.frames)
        for number in list(self.scheduler.engines):
            self._recalled.add((To.ENGINE, number))
            self._absences.open((To.ENGINE, number))
            self._absences.away((To.ENGINE, number), until)
            self._departing.hung_up(number, until - now)

    def written(self) -> Page:
        """Everything this controller knows, for a logbook that is begun anew."""
        unheard = [
            one for number in self.scheduler.clients for one in unheard_in(self._absences.mail_of((To.CLIENT, number)))
        ]
        page = written(self.scheduler, unheard, self._welcome.epoch)
        return page if self.recorder is None else page + self.recorder.written()

    def relieve(self, peer: Peer) -> bool:
        """A peer has read something: if it is a client that was held back, its tasks may go on. Whether they do."""
        if peer.role == "client" and peer.number in self.scheduler.dealer.held_back:
            if peer.backlog <= ENOUGH and self._sharing.in_flight(peer.number) <= ENOUGH:
                self.scheduler.dealer.let_on(peer.number)
                return True
        return False

    def _hold_back_readers(self, results: list[m.Result]) -> None:
        """Results in shared memory have come: their clients are to take them before there are many more."""
        self._sharing.results_come(results, self.scheduler.clients)
        for client in {result.id >> m.CLIENT_SHIFT for result in results if result.shared}:
            if self._sharing.in_flight(client) > MOST_UNREAD and client in self.scheduler.clients:
                self.scheduler.dealer.hold_back(client)

    # --- peers come and go --------------------------------------------------------------------------------------

    def _client_hello(self, peer: Peer, hello: m.ClientHello, _frames: list[object], now: float) -> None:
        port = self._ports[To.CLIENT]
        if not self._may_come_in(port, peer, hello, "client"):
            return
        client = self._client_of(hello, now)
        if isinstance(client, str):
            self._refuse(port, peer, "ConnectionLost", client)
            return
        is_same = hello.epoch == self._welcome.epoch
        is_new = self._absences.mail_of((To.CLIENT, client.number)) is None
        if self.recorder is not None and not is_same:
            self.recorder.client_joined(client)
        self._become(peer, "client", To.CLIENT, client.number, now)
        log.info("client=%s %s (%s)", client.number, "is back" if hello.client >= 0 else "joined", client.name)
        infos = [engine.info for engine in self.scheduler.engines.values()]
        welcome = msgspec.structs.replace(self._welcome, number=client.number, token=client.token, engines=infos)
        welcome.resumed = hello.client >= 0 and (is_same or (To.CLIENT, client.number) in self._recalled)
        self._greet(peer, welcome, received=hello.received if is_same else 0, is_new=is_new)
        if question := client.flow.last_question():
            self._send(port, peer, m.Ping(question))

    def _client_of(self, hello: m.ClientHello, now: float) -> ClientRecord | str:
        """The record of a client that says hello; of one that comes back the one it had. Or why it is refused."""
        name = f"{hello.user}@{hello.host}:{hello.pid}"
        if hello.client < 0:
            return self.scheduler.client_joined(name, secrets.token_hex(8), now, hello.session)
        if hello.epoch > self._welcome.epoch:
            return _STALE.format(hello.epoch, self._welcome.epoch)
        known = self.scheduler.clients.get(hello.client)
        if known is not None and secrets.compare_digest(known.token, hello.token):
            return known
        if hello.epoch == self._welcome.epoch:
            return "The controller has waited for this client long enough and has let go of it."
        client = self.scheduler.client_adopted(hello.client, name, hello.token, now, hello.session)
        return (
            client or f"Client {hello.client} was given up, or its number is another one's in the restarted controller."
        )

    def _engine_hello(self, peer: Peer, hello: m.EngineHello, _frames: list[object], now: float) -> None:
        port = self._ports[To.ENGINE]
        if not self._may_come_in(port, peer, hello, "engine"):
            return
        if self._departing.has_ended(hello.uuid):
            # Its nanny's word of its end has overtaken its own hello.
            self._refuse(port, peer, "Refused", "This engine has ended, its nanny says.")
            return
        if hello.epoch > self._welcome.epoch:
            self._refuse(port, peer, "ConnectionLost", _STALE.format(hello.epoch, self._welcome.epoch))
            return
        engine, is_same = None, hello.epoch == self._welcome.epoch
        if hello.epoch:  # it comes back
            engine = next((each for each in self.scheduler.engines.values() if each.info.uuid == hello.uuid), None)
        if engine is None:
            if is_same:
                self._refuse(port, peer, "Refused", "The controller has given this engine up; its tasks run elsewhere.")
                return
            self._departing.joined(hello.uuid)
            engine = self.scheduler.engine_joined(
                hello.uuid, hello.pid, hello.host, hello.id, now, hello.engine_set, hello.rank
            )
            self._engine_joined(peer, hello, engine, now)
            return
        who = (To.ENGINE, engine.info.id)
        if hello.connection <= self._absences.connection(who):
            self._refuse(port, peer, "Refused", "This engine has another, later connection.")
            return
        if is_same or who not in self._recalled:  # of the latter: it has joined here, and has not heard of it
            received = hello.received if is_same else 0
            self._engine_joined(peer, hello, engine, now, received=received, resumed=is_same, is_new=False)
            self.scheduler.engine_returned(engine.info.id, now)
            return
        # It has heard nothing of this controller yet: what was on its way to it here has not arrived.
        self._absences.open(who)
        if self._safe is not None:
            self._safe.drop_for(engine.info.id)
        self._engine_joined(peer, hello, engine, now, resumed=True, is_new=False)
        self.scheduler.engine_recalled(engine.info.id, hello.holding, now)

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
        engine.nanny = self._watched.get(hello.uuid, -1)
        self._become(peer, "engine", To.ENGINE, number, now)
        self._departing.returned(number)
        log.info("engine=%s %s (pid %s on %s)", number, "is back" if hello.epoch else "joined", hello.pid, hello.host)
        welcome = msgspec.structs.replace(self._welcome, number=number, token=hello.uuid)
        welcome.resumed = resumed
        self._greet(peer, welcome, received=received, is_new=is_new, connection=hello.connection)

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
        self._send(peer.port, peer, welcome)
        for header, frames in peer.mail.again(received) if peer.mail is not None and not is_new else ():
            peer.port.send(peer, header, frames)

    def _nanny_hello(self, peer: Peer, hello: m.NannyHello, _frames: list[object], now: float) -> None:
        port = self._ports[To.NANNY]
        if not self._may_come_in(port, peer, hello, "engine"):
            return
        if peer.role != "nanny":
            self._become(peer, "nanny", To.NANNY, self._next_nanny, now)
            self._next_nanny += 1
            self._send(port, peer, msgspec.structs.replace(self._welcome, number=peer.number, runtime=""))
        for uuid in hello.engines:
            self._watched[uuid] = peer.number
        for engine in self.scheduler.engines.values():
            if engine.info.uuid in hello.engines:
                engine.nanny = peer.number

    def _engine_exited(self, peer: Peer, exited: m.EngineExited, _frames: list[object], _now: float) -> None:
        if self._watched.get(exited.uuid, peer.number) != peer.number:
            self._reject(self._ports[To.NANNY], peer, "it tells of the end of an engine that another nanny watches")
            return
        self._watched.pop(exited.uuid, None)
        self._departing.exited(exited)

    def _bye(self, peer: Peer, bye: m.Bye, _frames: list[object], _now: float) -> None:
        if peer.role == "engine":
            # Its last results came before this, so what it still holds by our books it has not begun.
            self._engine_gone(peer.number, bye.reason or "it left", balanced=-1)
        elif peer.role == "client":
            self._client_gone(peer.number)
        elif peer.role == "nanny":
            self._nanny_gone(peer.number)

    def _lost(self, to: To, number: int) -> None:
        """The connection of a peer is lost. Whoever may come back is waited for."""
        peer = self._peers.get((to, number))
        patience = self._welcome.patience if peer is not None and self._waits_for(peer) else 0.0
        if (to, number) in self._absences:
            return
        if patience and self._absences.away((to, number), self._clock() + patience):
            log.info("%r has lost its connection; it may come back within %g s", peer, patience)
            self._forget(to, number)
        if to == To.ENGINE:
            self._departing.hung_up(number, patience)
        elif to == To.NANNY:
            self._nanny_gone(number)
        elif not patience:
            self._client_gone(number)

    def _waits_for(self, peer: Peer) -> bool:
        """Whether a peer whose connection is lost may still be there."""
        return bool(self._welcome.patience) and not peer.is_local and not peer.is_cut_off and peer.role != "nanny"

    def _engine_silent(self, number: int, silence: float) -> None:
        if (engine := self.scheduler.engines.get(number)) is not None:
            reason = f"no sign of life for {silence:.0f} s (frozen, or cut off)"
            self._engine_gone(number, reason, end=m.Departure(number, engine.info.uuid, reason, crashed=True))

    def _engine_gone(
        self, number: int, reason: str, *, balanced: int | None = None, end: m.Departure | None = None
    ) -> None:
        if number not in self.scheduler.engines:
            return  # actions for it were still in the outbox when it left
        log.info("engine=%s left: %s", number, reason)
        self._forget(To.ENGINE, number)
        self._absences.forget((To.ENGINE, number))
        self._sharing.engine_gone(number)
        self.scheduler.engine_left(number, reason, balanced=balanced, end=end)

    def _client_gone(self, number: int) -> None:
        if number not in self.scheduler.clients:
            return
        log.info("client=%s left", number)
        self._forget(To.CLIENT, number)
        self._absences.forget((To.CLIENT, number))
        self._sharing.client_gone(number, self.scheduler.book.tasks)
        if self.recorder is not None:
            self.recorder.client_left(number)
        self.scheduler.client_left(number)

    def _nanny_gone(self, number: int) -> None:
        self._watched = {uuid: nanny for uuid, nanny in self._watched.items() if nanny != number}
        self._forget(To.NANNY, number)

    def _forget(self, to: To, number: int) -> None:
        peer = self._peers.pop((to, number), None)
        if peer is not None:
            self._drop(self._ports[to], peer)

    def _drop(self, port: Port, peer: Peer) -> None:
        peer.role, peer.handlers, peer.is_gone = "", {}, True
        fd = port.forget(peer)
        if fd >= 0:
            self.on_forget(fd, peer)

    def _refuse(self, port: Port, peer: Peer, kind: str, reason: str) -> None:
        self._send(port, peer, m.Refused(kind, reason))
        self._drop(port, peer)

    # --- work ---------------------------------------------------------------------------------------------------

    def _ignore(self, _peer: Peer, _message: object, _frames: list[object], _now: float) -> None:
        """Nothing to be done but to note that the peer is alive."""

    def _functions(self, peer: Peer, functions: m.Functions, _frames: list[object], _now: float) -> None:
        self.scheduler.functions_arrived(self.scheduler.clients[peer.number], functions.bodies)
        if self.recorder is not None:
            self.recorder.functions_come(functions.bodies)

    def _submit(self, peer: Peer, submit: m.Submit, frames: list[object], now: float) -> None:
        # Also where none have come: what one task lacks would be taken from another one's on the way to its engine.
        if not self._frames_fit(peer, sum([task.frames for task in submit.tasks]), frames):
            return
        self.scheduler.tasks_submitted(self.scheduler.clients[peer.number], submit.tasks, frames, now)
        if self.recorder is not None:
            self.recorder.submitted(peer.number, submit.tasks, frames, now)

    def _direct(self, peer: Peer, direct: m.Direct, frames: list[object], now: float) -> None:
        if not self._frames_fit(peer, sum([request.task.frames for request in direct.requests]), frames):
            return
        self.scheduler.requests_submitted(self.scheduler.clients[peer.number], direct.requests, frames, now)
        if self.recorder is not None:
            self.recorder.addressed(peer.number, direct.requests, frames, now)

    def _abort(self, peer: Peer, abort: m.Abort, _frames: list[object], _now: float) -> None:
        client = self.scheduler.clients[peer.number]
        self.scheduler.abort_requested(client, abort.ids, interrupt=abort.interrupt)

    def _done(self, peer: Peer, done: m.Done, frames: list[object], now: float) -> None:
        if frames and not self._frames_fit(peer, sum(result.frames for result in done.results), frames):
            return
        if self.recorder is not None and self._sharing.folder:
            self.recorder.results_come(done.results)
        if self._sharing.folder and any([result.shared for result in done.results]):  # noqa: C419 - twice as fast
            self._hold_back_readers(done.results)
        self.scheduler.results_arrived(self.scheduler.engines[peer.number], done.results, frames, now)

    def _said_output(self, peer: Peer, said: m.Said, _frames: list[object], _now: float) -> None:
        self.scheduler.output_arrived(self.scheduler.engines[peer.number], said.outputs)

    def _has_read(self, peer: Peer, pong: m.Pong, _frames: list[object], _now: float) -> None:
        """The answer to a port's question, whose numbers are negative."""
        if 0 <= -pong.number <= peer.asked:
            peer.read = max(peer.read, -pong.number)
            self.relieve(peer)

    def _output_read(self, peer: Peer, pong: m.Pong, frames: list[object], now: float) -> None:
        self._has_read(peer, pong, frames, now)
        self.scheduler.clients[peer.number].flow.heard(pong.number)

    def _returned(self, peer: Peer, returned: m.Returned, _frames: list[object], now: float) -> None:
        self.scheduler.tasks_returned(self.scheduler.engines[peer.number], returned.ids, now)

    def _missing(self, peer: Peer, missing: m.Missing, _frames: list[object], _now: float) -> None:
        self.scheduler.functions_missing(self.scheduler.engines[peer.number], missing.digests)

    def _holds(self, peer: Peer, holds: m.Holds, _frames: list[object], _now: float) -> None:
        self.scheduler.places.told(self.scheduler.engines[peer.number], holds)

    def _want(self, peer: Peer, want: m.Want, _frames: list[object], _now: float) -> None:
        self.scheduler.places.wanted(self.scheduler.engines[peer.number], want.values)

    def _forgotten(self, peer: Peer, forget: m.Forget, _frames: list[object], _now: float) -> None:
        self.scheduler.places.forgotten(peer.number, forget.values)

    def _shares(self, peer: Peer, _shares: m.Shares, _frames: list[object], _now: float) -> None:
        peer.shares = peer.is_local and bool(self._sharing.folder)

    def _released(self, peer: Peer, release: m.Release, _frames: list[object], _now: float) -> None:
        self._sharing.released_by(peer.number if peer.role == "client" else 0, release.names)
        self.relieve(peer)

    def _give_back(self, engine: int, names: list[str]) -> None:
        mate = self._peers.get((To.ENGINE, engine))
        if mate is not None:
            self._send(self._ports[To.ENGINE], mate, m.Release(names))

    def _query(self, peer: Peer, query: m.Query, _frames: list[object], now: float) -> None:
        reply = self._door.answer(peer, query)
        if reply is not None:
            self._send(self._ports[To.CLIENT], peer, reply)
            return
        if query.name == "unknown":
            self.act(now)  # results that are about to leave come before the answer that their tasks are over
        if query.name in QUESTIONS:
            if self._history is not None:
                self._history.ask(peer.number, query, now)
            else:
                self._send(self._ports[To.CLIENT], peer, m.Answer(query.number, error=NO_STORE, kind="NoRecord"))
            return
        if query.name == "where":
            found = ask_where(self.scheduler, peer.number, query, now)
            if found is not None:
                self._send(self._ports[To.CLIENT], peer, found)
            return
        reply = answer(self.scheduler, query, now)
        if query.name == "sessions" and self.recorder is not None:
            reply.value = self.recorder.sessions()  # also of those that left
        if query.name == "statistics" and isinstance(reply.value, dict):
            reply.value["rejected"] = self.rejected
            if self.recorder is not None:
                reply.value |= self.recorder.keeper.statistics()
        self._send(self._ports[To.CLIENT], peer, reply)

    def _signal(self, peer: Peer, signal: m.Signal, _frames: list[object], _now: float) -> None:
        error = ""
        for number in signal.targets:
            engine = self.scheduler.engines.get(number)
            nanny = self._peers.get((To.NANNY, engine.nanny)) if engine is not None else None
            if engine is None:
                error = f"Engine {number} is not registered."
            elif nanny is None:
                error = f"Engine {number} has no nanny to deliver signals; send it to pid {engine.info.pid} yourself."
            else:
                self._send(self._ports[To.NANNY], nanny, m.Deliver(engine.info.uuid, signal.signal))
        self._send(self._ports[To.CLIENT], peer, m.Answer(signal.number, error=error))

    def _shutdown(self, peer: Peer, shutdown: m.Shutdown, _frames: list[object], _now: float) -> None:
        for number in shutdown.targets:
            engine = self.scheduler.engines.get(number)
            if engine is None:
                continue
            nanny = self._peers.get((To.NANNY, engine.nanny))
            if shutdown.restart and nanny is not None:
                self._send(self._ports[To.NANNY], nanny, m.Restart(engine.info.uuid))
            elif shutdown.finish:
                self.scheduler.engine_retires(number)
            elif (mate := self._peers.get((To.ENGINE, number))) is not None:
                self._send(self._ports[To.ENGINE], mate, m.Shutdown(0, [number]))
        self._send(self._ports[To.CLIENT], peer, m.Answer(shutdown.number))
        self.stopping = self.stopping or shutdown.controller

    def _forbidden(self, peer: Peer, message: Any, _frames: list[object], _now: float) -> None:
        """Its key does not allow it to say this: it is told so where it waits for something."""
        reply = refusal(peer.key.scope, message)
        if reply is not None:
            self._send(self._ports[To.CLIENT], peer, reply)

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
            self._send(peer.port, peer, peer.mail.receipt())

    def _ping(self, peer: Peer, ping: m.Ping, _frames: list[object], _now: float) -> None:
        if peer.mail is not None and peer.mail.owes() and self._safe is None:
            self._acknowledge(peer)
        port = self._ports[To.CLIENT] if peer.role == "client" else self._ports[To.ENGINE]
        self._send(port, peer, m.Pong(ping.number))

    # --- the end ------------------------------------------------------------------------------------------------

    def say_goodbye(self, reason: str) -> None:
        """Tell every peer that the controller leaves for good."""
        for (to, _), peer in list(self._peers.items()):
            self._ports[to].send(peer, m.encode(m.Bye(reason)), [])

    # --- helpers ------------------------------------------------------------------------------------------------

    def _see_off(self, now: float) -> None:
        """Part with those who do not say hello, and with those whose keys are no good any more."""
        for port in (self._ports[To.CLIENT], self._ports[To.ENGINE]):
            late = port.overdue(now)
            if late:
                log.warning("%s: %d connections cut off that had not said hello", port.name, len(late))
            for peer in late:
                self._drop(port, peer)
        for key, why in self._door.take_over():
            for (to, number), peer in [each for each in self._peers.items() if each[1].key is key]:
                log.info("%r has to leave: %s", peer, why)
                self._send(self._ports[to], peer, m.Bye(why))
                if to == To.ENGINE:
                    self._engine_gone(number, why)
                elif to == To.CLIENT:
                    self._client_gone(number)
                else:
                    self._lost(to, number)

    def _may_come_in(
        self, port: Port, peer: Peer, hello: m.ClientHello | m.EngineHello | m.NannyHello, kind: str
    ) -> bool:
        """Whether a peer speaks our language and has a key for this port; it is told if not."""
        if self._refuse_version(port, peer, hello.version):
            return False
        key = self._door.judge(peer, kind, hello.key)
        if isinstance(key, str):
            log.warning("%s: a peer on %r (pid %s) was refused: %s", port.name, hello.host, hello.pid, key)
            self._refuse(port, peer, "Refused", key)
            return False
        peer.key = key
        return True

    def _say_to_client(self, number: int, message: m.ToClient, frames: list[object]) -> None:
        """Send to a client, if it is still there, what stands in no outbox."""
        peer = self._peers.get((To.CLIENT, number))
        header = m.encode(message)
        mail = peer.mail if peer is not None else self._absences.mail_of((To.CLIENT, number))
        if mail is not None:
            mail.keep(header, frames)
        if peer is not None and not peer.port.send(peer, header, frames):
            self._lost(To.CLIENT, number)

    def _send(self, port: Port, peer: Peer, message: m.ToClient | m.ToEngine) -> None:
        header = m.encode(message)
        if peer.mail is not None and type(message) not in UNCOUNTED:
            peer.mail.keep(header, [])
        if not port.send(peer, header, []) and peer.role:
            self._lost(TO[peer.role], peer.number)

    def _become(self, peer: Peer, role: str, to: To, number: int, now: float) -> None:
        """A peer has said who it is. A connection it had before counts no more."""
        self._forget(to, number)
        peer.role, peer.number, peer.heard = role, number, now
        peer.handlers = self._of_clients[peer.key.scope] if role == "client" else self._handlers[role]
        peer.port.introduced(peer)
        self._peers[to, number] = peer

    def _nanny_heard(self, engine: int) -> float:
        """When the nanny of an engine was last heard; a nanny answers while user code keeps its engine from it."""
        record = self.scheduler.engines.get(engine)
        nanny = self._peers.get((To.NANNY, record.nanny)) if record is not None else None
        return nanny.heard if nanny is not None else 0.0

    def _refuse_version(self, port: Port, peer: Peer, version: int) -> bool:
        if version == m.VERSION:
            return False
        reason = (
            f"You speak version {version} of the protocol, this controller version {m.VERSION}. "
            "Install the same release of enginery on both sides."
        )
        self._refuse(port, peer, "VersionMismatch", reason)
        return True

    def _frames_fit(self, peer: Peer, wanted: int, frames: list[object]) -> bool:
        if wanted == len(frames):
            return True
        self._reject(self._ports[To.CLIENT], peer, f"{wanted} frames announced, {len(frames)} received")
        return False

    def _reject(self, port: Port, peer: Peer, why: str) -> None:
        self.rejected += 1
        if self.rejected <= COMPLAINTS:
            log.warning("%s: message of %r rejected: %s", port.name, peer, why)
        peer.rejected += 1
        if not peer.role:
            self._refuse(port, peer, "Refused", f"This is not a message of enginery's protocol: {why}")
        elif peer.rejected > port.limits.rejected:
            log.warning("%s: %r is cut off after %d messages that made no sense", port.name, peer, peer.rejected)
            peer.is_cut_off = True
            self.hung_up(port, peer)
