"""Engines of a simulated cluster, and the nanny that watches them: the real mind, with work made of time alone.

An engine holds its results back for a moment while it has more to do, as the real one does, so that results are
lost when it dies.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from enginery.core.membership import Membership
from enginery.testing import work
from enginery.wire import messages as m

if TYPE_CHECKING:
    from enginery.core.membership import Held
    from enginery.testing.clock import Appointment
    from enginery.testing.connections import Connection
    from enginery.testing.simulation import Simulation

#: Results wait this many seconds for company while an engine has more work.
RESULT_DELAY: Final = 0.003
#: Heartbeats a peer may miss until an engine gives up.
MISSES: Final = 10
#: Seconds after which one whose connection is lost tries again.
REDIAL: Final = 0.1
KILLED: Final = -9


class SimulatedEngine:
    """One engine: a ``Membership``, a connection, and at most one task that runs."""

    def __init__(self, simulation: Simulation, uuid: str, pid: int, wanted: int) -> None:
        self.uuid = uuid
        self.pid = pid
        self.is_alive = True
        self.begun = [-1, -1]  #: ids of the last balanced and the last direct task it began
        self.member = Membership(m.EngineHello(m.VERSION, uuid, pid, "memory", wanted))
        self._simulation = simulation
        self._is_lost = False  #: the connection is, and there is no other yet
        self._away_since: float | None = None
        self.connection = self._dial()
        self._running: tuple[Held, Appointment | None] | None = None
        self._flush_at: Appointment | None = None
        self._heard = simulation.clock.now
        self.pump()
        simulation.clock.call_after(simulation.period, self._beat)

    @property
    def number(self) -> int:
        """The engine's id, -1 until the controller has welcomed it."""
        return self.member.id

    def pump(self) -> None:
        """Send everything there is to say."""
        while self.is_alive and not self._is_lost and (message := self.member.next_message()) is not None:
            self.member.sent()
            self.connection.up.send(*message)

    def die(self, code: int = KILLED) -> None:
        """End the process without a word. What it has sent still arrives; its nanny sees it end."""
        if not self.is_alive:
            return
        self.is_alive = False
        now, history = self._simulation.clock.now, self._simulation.history
        running = self._running[0].task.id if self._running is not None else -1
        history.add(now, "died", task=running, who=self.number, detail=f"pid {self.pid} code {code}")
        self._stop_task()
        self.connection.up.close()
        self._simulation.nanny.saw_end(self, code)

    def interrupt(self) -> None:
        """SIGINT: the running task ends, if it heeds it."""
        if self._running is not None and not work.unpack(self._running[0].task.payload).heedless:
            self._end("interrupted" if self._running[0].task.id in self.member.aborted else "raise")

    def __repr__(self) -> str:
        state = "dead" if not self.is_alive else "busy" if self._running is not None else "idle"
        return f"<SimulatedEngine {self.number} {state}>"

    # --- the connection -----------------------------------------------------------------------------------------

    def _dial(self) -> Connection:
        connection = self._simulation.connect(
            "engines",
            lambda header, frames: self._hear(header, frames) if connection is self.connection else None,
            lambda: self._lost() if connection is self.connection else None,
        )
        return connection

    def _lost(self) -> None:
        welcome = self.member.welcome
        if not self.is_alive or self.member.leaving is not None:
            return
        if welcome is None or not welcome.patience:
            self.leave("the controller has closed the connection")
            return
        clock = self._simulation.clock
        if self._away_since is None:
            self._away_since = clock.now
        if clock.now - self._away_since > welcome.patience:
            self.leave("the controller did not come back")
        else:
            self._is_lost = True
            self.connection.up.close()
            clock.call_after(REDIAL, self._redial)

    def _redial(self) -> None:
        if self.is_alive:
            self.connection = self._dial()
            self._is_lost = False
            self._heard = self._simulation.clock.now
            self.member.come_back()
            self.pump()

    # --- hearing ------------------------------------------------------------------------------------------------

    def _hear(self, header: bytes, frames: list[object]) -> None:
        if not self.is_alive:
            return
        self._heard = self._simulation.clock.now
        self._away_since = None
        member = self.member
        member.heard(m.decode_to_engine(header), frames)
        if member.interrupt:
            wanted, member.interrupt = member.interrupt, 0
            if wanted == member.running:
                self.interrupt()
        if member.leaving is not None:
            self.leave(member.leaving)
            return
        self._begin()
        self._simulation.clock.call_after(0, self.pump)  # the end of the connection may come first

    def leave(self, reason: str) -> None:
        """Say good-bye and end."""
        if self._running is not None:
            self._end("raise")
        self.member.say(m.Bye(reason))
        self.pump()
        self.die(0)

    def _beat(self) -> None:
        if not self.is_alive:
            return
        if self._simulation.clock.now - self._heard > MISSES * self._simulation.period:
            self._heard = self._simulation.clock.now
            self._lost()
        self.member.say(m.Ping(0))
        self.pump()
        self._simulation.clock.call_after(self._simulation.period, self._beat)

    # --- working ------------------------------------------------------------------------------------------------

    def _begin(self) -> None:
        while self.is_alive and self._running is None and (held := self.member.take()) is not None:
            task = held.task
            if task.function and task.function not in self.member.bodies:
                self.member.park(held)
                continue
            self.begun[held.direct] = task.id
            self.member.running = task.id
            self._run(held)

    def _run(self, held: Held) -> None:
        simulation, task = self._simulation, held.task
        doing = work.unpack(task.payload)
        ending = doing.ending(len(simulation.history.of(task.id, "begun")))
        simulation.history.add(simulation.clock.now, "begun", task=task.id, who=self.number, detail=ending)
        self._running = (held, None)
        if simulation.faults.strikes("kill"):
            self.die()
        elif ending != "hang":
            finish = simulation.clock.call_after(doing.seconds, lambda: self._end(ending))
            self._running = (held, finish)

    def _stop_task(self) -> None:
        if self._running is not None and self._running[1] is not None:
            self._running[1].cancel()
        self._running = None

    def _end(self, ending: str) -> None:
        if self._running is None or not self.is_alive:
            return
        if ending == "die":
            self.die()
            return
        held, simulation, now = self._running[0], self._simulation, self._simulation.clock.now
        self._stop_task()
        status, fault = work.outcome(ending)
        task = held.task
        payload = work.value_of(task.id) if ending == "ok" else b""
        buffers = [memoryview(bytes(frame)) for frame in held.frames] if ending == "ok" else []  # type: ignore[call-overload]  # frames are buffers
        simulation.history.add(now, "ended", task=task.id, who=self.number, detail=ending)
        result = m.Result(task.id, status, payload, len(buffers), now - work.unpack(task.payload).seconds, now, fault)
        self.member.say(m.Output(task.id, "stdout", f"{task.id} ended\n"))
        self.member.running = -1
        self.member.finished(result, buffers)
        if simulation.faults.strikes("kill"):
            self.die()
            return
        self._begin()
        self._send_results()

    def _send_results(self) -> None:
        """At once if there is nothing else to do, else in a moment."""
        if self._running is None:
            self.pump()
        elif self._flush_at is None:
            self._flush_at = self._simulation.clock.call_after(RESULT_DELAY, self._flush)

    def _flush(self) -> None:
        self._flush_at = None
        self.pump()


class SimulatedNanny:
    """The process that watches all simulated engines, over a connection of its own."""

    def __init__(self, simulation: Simulation) -> None:
        self._simulation = simulation
        self._heard = simulation.clock.now
        self._watched: dict[str, SimulatedEngine] = {}
        self._reports: list[m.EngineExited] = []  #: that the controller may not have
        self.connection = self._dial()
        simulation.clock.call_after(simulation.period, self._beat)

    def watch(self, engine: SimulatedEngine) -> None:
        """An engine was started."""
        self._watched[engine.uuid] = engine
        self._say(m.NannyHello(m.VERSION, 1, "memory", list(self._watched)))

    def saw_end(self, engine: SimulatedEngine, code: int) -> None:
        """An engine's process has ended: reported in a moment, and perhaps before its own last words arrive."""
        del self._watched[engine.uuid]
        balanced, direct = engine.begun
        report = m.EngineExited(engine.uuid, engine.pid, code, balanced, direct)
        self._reports.append(report)
        self._say(report)

    def _dial(self) -> Connection:
        connection = self._simulation.connect(
            "engines", self._hear, lambda: self._lost() if connection is self.connection else None
        )
        return connection

    def _lost(self) -> None:
        if self._simulation.patience:
            self._simulation.clock.call_after(REDIAL, self._redial)

    def _redial(self) -> None:
        self.connection = self._dial()
        self._say(m.NannyHello(m.VERSION, 1, "memory", list(self._watched)))
        for report in self._reports:
            self._say(report)

    def _hear(self, header: bytes, _frames: list[object]) -> None:
        self._heard = self._simulation.clock.now
        self.obey(m.decode_to_engine(header))

    def obey(self, message: m.ToEngine) -> None:
        """Deliver a signal or restart an engine, as the controller may ask."""
        if not isinstance(message, m.Deliver | m.Restart):
            return
        engine = self._watched.get(message.uuid)
        if engine is None:
            return
        if isinstance(message, m.Restart):
            engine.die(0)
            self._simulation.add_engine()
        elif message.signal in {"SIGINT", 2}:
            engine.interrupt()
        else:
            engine.die()

    def _beat(self) -> None:
        if self._simulation.patience and self._simulation.clock.now - self._heard > MISSES * self._simulation.period:
            self._heard = self._simulation.clock.now
            self._redial()
        self._say(m.Ping(0))
        self._simulation.clock.call_after(self._simulation.period, self._beat)

    def _say(self, message: m.FromEngine) -> None:
        self.connection.up.send(m.encode(message), [])
