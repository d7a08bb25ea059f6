"""Clients of a simulated cluster: the real mind, asking for ``Work``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from enginery.core.requests import Requests
from enginery.testing import work
from enginery.wire import messages as m

if TYPE_CHECKING:
    from collections.abc import Sequence

    from enginery.testing.connections import Connection
    from enginery.testing.simulation import Simulation

#: Heartbeats a controller may miss until a client gives up.
MISSES: Final = 10
#: Seconds after which one whose connection is lost tries again.
REDIAL: Final = 0.1


class SimulatedClient:
    """One client. It can be used at once; what it asks before it is welcome raises RuntimeError."""

    def __init__(self, simulation: Simulation, name: str) -> None:
        self.name = name
        self.is_alive = True
        self.requests = Requests(simulation.clock)
        self.results: dict[int, m.Result] = {}
        self.outputs: dict[int, list[str]] = {}
        self._simulation = simulation
        self._is_lost = False  #: the connection is, and there is no other yet
        self._away_since: float | None = None
        self.connection = self._dial()
        self._heard = simulation.clock.now
        self._next_id = 0
        self._sent: dict[int, list[bytes]] = {}  #: buffers of tasks, which come back with their results
        self._say(self._hello())
        simulation.clock.call_after(simulation.period, self._beat)

    @property
    def number(self) -> int:
        """The client's number, -1 until the controller has welcomed it."""
        return self.requests.welcome.number if self.requests.welcome is not None else -1

    # --- the connection -----------------------------------------------------------------------------------------

    def _hello(self) -> m.ClientHello:
        return m.ClientHello(m.VERSION, self.name, 1, "memory", "tester")

    def _dial(self) -> Connection:
        connection = self._simulation.connect(
            "clients",
            lambda header, frames: self._hear(header, frames) if connection is self.connection else None,
            lambda: self._lost() if connection is self.connection else None,
        )
        return connection

    def _lost(self) -> None:
        welcome, clock = self.requests.welcome, self._simulation.clock
        if not self.is_alive:
            return
        if self._away_since is None:
            self._away_since = clock.now
        if welcome is None or clock.now - self._away_since >= welcome.patience:
            self.vanish()
        else:
            self._is_lost = True
            self.connection.up.close()
            clock.call_after(REDIAL, self._redial)

    def _redial(self) -> None:
        if self.is_alive:
            self.connection = self._dial()
            self._is_lost = False
            self._heard = self._simulation.clock.now
            self.requests.come_back(self._hello())
            self.pump()

    # --- asking -------------------------------------------------------------------------------------------------

    def introduce(self, function: bytes) -> None:
        """Have a function's body sent ahead of the next task."""
        if function not in self.requests.bodies:
            self.requests.introduce(function, b"body of " + function)

    def submit(
        self,
        doing: work.Work | None = None,
        *,
        function: bytes = b"",
        buffers: Sequence[bytes] = (),
        options: m.Options | None = None,
    ) -> int:
        """Submit a balanced task and return its id. Tasks submitted in a row leave together at the next ``pump``."""
        number = self._take_ids(1)
        task = m.Task(number, m.Action.APPLY, function, work.pack(doing or work.Work()), len(buffers), options)
        self._sent[number] = list(buffers)
        self.requests.submit(task, [memoryview(buffer) for buffer in buffers], self)
        return number

    def request(
        self,
        targets: list[int],
        doing: work.Work | None = None,
        *,
        function: bytes = b"",
        buffers: Sequence[bytes] = (),
    ) -> list[int]:
        """Address a task to engines and return the ids of the copies, in the order of ``targets``."""
        first = self._take_ids(len(targets))
        task = m.Task(first, m.Action.APPLY, function, work.pack(doing or work.Work()), len(buffers))
        self._sent.update((first + index, list(buffers)) for index in range(len(targets)))
        self.requests.submit_request(m.Request(targets, task), [memoryview(buffer) for buffer in buffers], self)
        return list(range(first, first + len(targets)))

    def abort(self, ids: list[int], *, interrupt: bool = False) -> None:
        """Take tasks back."""
        self._say(m.Abort(ids, interrupt))

    def pump(self) -> None:
        """Send everything that was asked for."""
        while self.is_alive and not self._is_lost and (message := self.requests.next_message()) is not None:
            self.requests.sent()
            self.connection.up.send(*message)

    def leave(self) -> None:
        """Say good-bye; tasks already submitted run on."""
        self._say(m.Bye("done"))
        self.vanish()

    def vanish(self) -> None:
        """End without a word."""
        self.is_alive = False
        self._simulation.history.gone.add(self.number)
        self.connection.up.close()

    def _take_ids(self, count: int) -> int:
        if self.requests.welcome is None:
            msg = f"Client {self.name!r} is not welcome yet. Run the simulation until it is."
            raise RuntimeError(msg)
        if not self._next_id:
            self._next_id = self.number << m.CLIENT_SHIFT
        first = self._next_id
        self._next_id += count
        return first

    def _say(self, message: m.FromClient) -> None:
        self.requests.say(message)
        self.pump()

    def _beat(self) -> None:
        if not self.is_alive:
            return
        if self._simulation.clock.now - self._heard > MISSES * self._simulation.period:
            self._heard = self._simulation.clock.now
            self._lost()
        self._say(m.Ping(0))
        self._simulation.clock.call_after(self._simulation.period, self._beat)

    def _hear(self, header: bytes, frames: list[object]) -> None:
        if not self.is_alive:
            return
        self._heard = self._simulation.clock.now
        self._away_since = None
        self.requests.heard(m.decode_to_client(header), [memoryview(frame) for frame in frames])  # type: ignore[arg-type]  # frames are buffers
        if self.requests.refused is not None:
            self.vanish()
        self._simulation.clock.call_after(0, self.pump)  # the end of the connection may come first

    # --- the sink of all its tasks ------------------------------------------------------------------------------

    def arrived(self, result: m.Result, engine: int, buffers: list[memoryview], when: float) -> bool:
        """See ``Sink``."""
        detail = m.Status(result.status).name.lower()
        sent = self._sent.pop(result.id, [])
        if result.status == m.Status.OK and (result.payload != work.value_of(result.id) or buffers != sent):
            detail = "wrong value"
        self._simulation.history.add(when, "replied", task=result.id, who=engine, detail=detail)
        self.results[result.id] = result
        return False

    def said(self, output: m.Output, engine: int) -> None:
        """See ``Sink``."""
        del engine
        self.outputs.setdefault(output.task, []).append(output.text)

    def settled(self) -> None:
        """See ``Sink``."""

    def __repr__(self) -> str:
        return f"<SimulatedClient {self.number} {self.name!r} outstanding={len(self.requests.outstanding)}>"
