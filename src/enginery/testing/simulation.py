"""A whole cluster in memory: the real minds of controller, engines and clients under a clock that moves when told.

    simulation = Simulation(seed=4711, faults=Faults(4711, delay=0.1, kill=0.01))
    simulation.add_engines(3)
    client = simulation.add_client()
    simulation.run_until(lambda: client.number >= 0)
    task = client.submit(Work(seconds=0.5), options=Options(retries=1))
    client.pump()
    simulation.run_until(lambda: task in client.results)
    simulation.history.check()

What is real: the controller's server with its scheduler, the engines' memberships, the clients' requests, and every
message, encoded and decoded. What is not: sockets, threads, processes, time, and what tasks do (see ``Work``).
The same seed gives the same history.
"""

from __future__ import annotations

from random import Random
from typing import TYPE_CHECKING, Final

from enginery.controller.ports import Peer, Port
from enginery.controller.recording import Recorder
from enginery.controller.safe import Safe
from enginery.controller.server import Server, first_client
from enginery.core.journal import Journal
from enginery.core.logbook import Logbook
from enginery.core.recall import Recall
from enginery.core.scheduler import Scheduler
from enginery.store.backlog import Backlog
from enginery.store.memory import DictDB
from enginery.testing.clients import SimulatedClient
from enginery.testing.clock import Clock
from enginery.testing.connections import Connection, End
from enginery.testing.engines import SimulatedEngine, SimulatedNanny
from enginery.testing.faults import Faults
from enginery.testing.history import History
from enginery.testing.places import MemoryPlace
from enginery.wire import messages as m

if TYPE_CHECKING:
    from collections.abc import Callable

    from enginery.testing.clock import Appointment

#: Seconds of the simulation's time after which ``run_until`` gives up.
PATIENCE: Final = 600.0
FIRST_PID: Final = 1000


class MemoryPeer(Peer):
    """One connection in memory as the controller sees it."""

    __slots__ = ("connection",)

    def __init__(self, port: Port, connection: Connection) -> None:
        super().__init__(port)
        self.connection = connection


class MemoryPort(Port):
    """A port that sends into memory."""

    def __init__(self, name: str) -> None:
        super().__init__(name, [], None, None)

    def send(self, peer: Peer, header: bytes, frames: list[object]) -> bool:
        """Send a message. False if the peer has closed its connection."""
        assert isinstance(peer, MemoryPeer)
        connection = peer.connection
        if not (connection.up.is_open and connection.down.is_open):
            return False
        connection.down.send(header, frames)
        return True

    def forget(self, peer: Peer) -> int:
        """A peer is gone; its connection is closed."""
        assert isinstance(peer, MemoryPeer)
        peer.connection.down.close()
        return -1


class Simulation:
    """A controller, and engines and clients that are added as needed."""

    def __init__(
        self,
        seed: int = 0,
        *,
        faults: Faults | None = None,
        scheme: str = "leastload",
        hwm: int | None = None,
        period: float = 1.0,
        silence: float = 5.0,
        patience: float = 0.0,
        durable: bool = False,
    ) -> None:
        """``period`` is that of heartbeats, ``silence`` how long a peer may be quiet, both in seconds.

        ``patience`` is how long one whose connection is lost may take to come back. A ``durable`` controller that is
        started anew remembers what the one before it had saved.
        """
        self.seed = seed
        self.period = period
        self.clock = Clock()
        self.faults = faults or Faults(seed)
        self.history = History()
        self.patience = patience
        self.epoch = 0
        self.durable = durable
        self.slowest_save = 0.003  #: seconds until what a controller writes is safe, at most
        self._place: MemoryPlace | None = None
        self.is_up = False  #: the controller is
        self._scheme, self._hwm, self._silence = scheme, hwm, silence
        self.engines: list[SimulatedEngine] = []
        self.clients: list[SimulatedClient] = []
        self.messages = 0  #: received by the controller
        self._connections: list[MemoryPeer] = []
        self._due: Appointment | None = None
        self.restart()
        self.nanny = SimulatedNanny(self)

    # --- the controller's life ----------------------------------------------------------------------------------

    def restart(self) -> None:
        """Start a controller, in place of the one before if there was one, which is dead."""
        self.epoch += 1
        self.is_up = True
        self.scheduler = scheduler = Scheduler(
            random=Random(f"{self.seed} {self.epoch}"),  # noqa: S311 - placement
            scheme=self._scheme,
            hwm=self._hwm,
            journal=Journal(),
            first_client=first_client(self.epoch),
            logbook=Logbook() if self.durable else None,
        )
        before, safe = self._place, None
        if self.durable:
            chance = Random(f"{self.seed} {self.epoch} place")  # noqa: S311 - no secrets
            self._place = MemoryPlace(self.clock, chance, self.slowest_save, lambda: self._saved(scheduler), before)
            safe = Safe(self._place)
        self._ports = {"clients": MemoryPort("clients"), "engines": MemoryPort("engines")}
        self._server = Server(
            self.scheduler,
            clients=self._ports["clients"],
            engines=self._ports["engines"],
            welcome=m.Welcome(
                -1, "", self.epoch, self.period, 1 << 20, patience=self.patience, returns=True, durable=self.durable
            ),
            silence=self._silence,
            clock=self.clock,
            safe=safe,
            recorder=Recorder(self.scheduler, Backlog(DictDB())),
        )
        if safe is not None:
            if before is not None:
                recall = Recall()
                before.read_into(recall)
                self._server.recall(recall)
            safe.begin_anew(self._server.written())
            self._act()

    def _saved(self, scheduler: Scheduler) -> None:
        if self.is_up and scheduler is self.scheduler:
            self._server.release()
            self._act()

    def crash(self, *, silently: bool = False) -> None:
        """The controller's process is killed; with ``silently`` so is its host, and nobody sees connections end."""
        self.is_up = False
        self.history.add(self.clock.now, "crashed")
        if self._place is not None:
            self._place.crash()
        for peer in self._connections:
            if silently:
                peer.connection.cut()
            else:
                peer.connection.down.close()
            peer.is_gone = True
        self._connections.clear()
        if self._due is not None:
            self._due.cancel()

    # --- peers --------------------------------------------------------------------------------------------------

    def add_engine(self, wanted: int = -1) -> SimulatedEngine:
        """Start an engine, watched by the nanny. It is known to the controller once its hello has arrived."""
        number = len(self.engines)
        engine = SimulatedEngine(self, f"engine-{number}", FIRST_PID + number, wanted)
        self.engines.append(engine)
        self.nanny.watch(engine)
        return engine

    def add_engines(self, count: int) -> list[SimulatedEngine]:
        """Start several engines."""
        return [self.add_engine() for _ in range(count)]

    def add_client(self) -> SimulatedClient:
        """Connect a client. It is welcome once the controller's answer has arrived."""
        client = SimulatedClient(self, f"client-{len(self.clients)}")
        self.clients.append(client)
        return client

    def connect(
        self, port: str, hear: Callable[[bytes, list[object]], object], lost: Callable[[], object]
    ) -> Connection:
        """Make a connection to one of the controller's ports, ``clients`` or ``engines``.

        ``hear`` takes what the controller says, ``lost`` is called when the controller has closed it.
        """
        # Clients number what they ask, so repetitions can be told; engines rely on their connection not to repeat.
        repeats = port == "clients"
        top = End(
            lambda header, frames: self._hear(port, peer, header, frames),
            lambda: self._hung_up(port, peer),
            sees_repetitions=repeats,
        )
        bottom = End(hear, lost, sees_repetitions=repeats)
        peer = MemoryPeer(self._ports[port], Connection(self.clock, self.faults, top=top, bottom=bottom))
        if self.is_up:
            self._connections.append(peer)
        else:
            peer.is_gone = True
            peer.connection.down.close()  # nobody listens
        return peer.connection

    # --- time ---------------------------------------------------------------------------------------------------

    def run(self, seconds: float) -> None:
        """Let time pass."""
        self.clock.advance(seconds)

    def run_until(self, predicate: Callable[[], bool], patience: float = PATIENCE) -> None:
        """Let time pass until ``predicate()`` is true. Raises AssertionError when ``patience`` seconds are over."""
        limit = self.clock.now + patience
        while not predicate():
            due = self.clock.next_due()
            if due is None or due > limit:
                msg = f"seed {self.seed}: not within {patience:g} s of the simulation's time; {self!r}"
                raise AssertionError(msg)
            self.clock.step()

    def is_quiet(self) -> bool:
        """Whether no client that is there waits for anything."""
        return not any(client.is_alive and client.requests.outstanding for client in self.clients)

    # --- the controller -----------------------------------------------------------------------------------------

    def _hear(self, port: str, peer: MemoryPeer, header: bytes, frames: list[object]) -> None:
        if not peer.connection.down.is_open or peer.port is not self._ports[port]:
            return  # the controller has closed it, or is another one
        self.messages += 1
        if peer.role == "client":
            self._note_accepted(m.decode_from_client(header))
        self._server.hear(self._ports[port], peer, header, frames, self.clock.now)
        self._act()

    def _hung_up(self, port: str, peer: MemoryPeer) -> None:
        if not peer.is_gone and peer.port is self._ports[port]:
            self._server.hung_up(self._ports[port], peer)
            self._act()

    def _act(self) -> None:
        now = self.clock.now
        self._server.act(now)
        if self._due is not None:
            self._due.cancel()
        self._due = self.clock.call_at(self._server.next_deadline(), self._look_around)

    def _look_around(self) -> None:
        self._due = None
        self._server.look_around(self.clock.now)
        self._act()

    def _note_accepted(self, message: m.FromClient) -> None:
        now = self.clock.now
        if isinstance(message, m.Submit):
            for task in message.tasks:
                self.history.accept(now, task.id, task.options, None)
        elif isinstance(message, m.Direct):
            for request in message.requests:
                for index, target in enumerate(request.targets):
                    self.history.accept(now, request.task.id + index, None, target)

    def __repr__(self) -> str:
        return (
            f"<Simulation seed={self.seed} now={self.clock.now:g} engines={len(self.scheduler.engines)} "
            f"unfinished={len(self.scheduler.book.tasks)} {self.faults!r}>"
        )
