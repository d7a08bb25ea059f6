"""What clients ask the controller itself: questions, signals, shutdowns, and what their key does not allow."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from enginery.controller.door import refusal
from enginery.controller.history import NO_STORE, QUESTIONS, History
from enginery.controller.queries import answer, ask_where
from enginery.core.actions import To
from enginery.wire import messages as m

if TYPE_CHECKING:
    from collections.abc import Callable

    from enginery.controller.door import Door
    from enginery.controller.peers import Peers
    from enginery.controller.ports import Handler, Peer
    from enginery.controller.recording import Recorder
    from enginery.core.scheduler import Scheduler


class Orders:
    """A method per message that wants something of the controller. Belongs to the loop's thread."""

    def __init__(
        self,
        scheduler: Scheduler,
        peers: Peers,
        *,
        door: Door,
        recorder: Recorder | None,
        act: Callable[[float], None],
        stop: Callable[[], None],
    ) -> None:
        """``act(now)`` performs what the scheduler has asked for until now; ``stop`` has the controller end."""
        self._scheduler = scheduler
        self._peers = peers
        self._door = door
        self._recorder = recorder
        self._history = History(scheduler, recorder, peers.say_to_client) if recorder is not None else None
        self._act = act
        self._stop = stop
        self.of_clients: dict[type, Handler] = {
            m.Query: self.query,
            m.Signal: self.signal,
            m.Shutdown: self.shutdown,
        }

    def query(self, peer: Peer, query: m.Query, _frames: list[object], now: float) -> None:
        """A client asks."""
        reply = self._door.answer(peer, query)
        if reply is not None:
            self._peers.send(self._peers.ports[To.CLIENT], peer, reply)
            return
        if query.name == "unknown":
            self._act(now)  # results that are about to leave come before the answer that their tasks are over
        if query.name in QUESTIONS:
            if self._history is not None:
                self._history.ask(peer.number, query, now)
            else:
                self._peers.send(
                    self._peers.ports[To.CLIENT], peer, m.Answer(query.number, error=NO_STORE, kind="NoRecord")
                )
            return
        if query.name == "where":
            found = ask_where(self._scheduler, peer.number, query, now)
            if found is not None:
                self._peers.send(self._peers.ports[To.CLIENT], peer, found)
            return
        reply = answer(self._scheduler, query, now)
        if query.name == "sessions" and self._recorder is not None:
            reply.value = self._recorder.sessions()  # also of those that left
        if query.name == "statistics" and isinstance(reply.value, dict):
            reply.value["rejected"] = self._peers.rejected
            if self._recorder is not None:
                reply.value |= self._recorder.keeper.statistics()
        self._peers.send(self._peers.ports[To.CLIENT], peer, reply)

    def signal(self, peer: Peer, signal: m.Signal, _frames: list[object], _now: float) -> None:
        """A client has engines sent a signal."""
        error = ""
        for number in signal.targets:
            engine = self._scheduler.engines.get(number)
            nanny = self._peers.table.get((To.NANNY, engine.nanny)) if engine is not None else None
            if engine is None:
                error = f"Engine {number} is not registered."
            elif nanny is None:
                error = f"Engine {number} has no nanny to deliver signals; send it to pid {engine.info.pid} yourself."
            else:
                self._peers.send(self._peers.ports[To.NANNY], nanny, m.Deliver(engine.info.uuid, signal.signal))
        self._peers.send(self._peers.ports[To.CLIENT], peer, m.Answer(signal.number, error=error))

    def shutdown(self, peer: Peer, shutdown: m.Shutdown, _frames: list[object], _now: float) -> None:
        """A client has engines, or the controller, end."""
        for number in shutdown.targets:
            engine = self._scheduler.engines.get(number)
            if engine is None:
                continue
            nanny = self._peers.table.get((To.NANNY, engine.nanny))
            if shutdown.restart and nanny is not None:
                self._peers.send(self._peers.ports[To.NANNY], nanny, m.Restart(engine.info.uuid))
            elif shutdown.finish:
                self._scheduler.engine_retires(number)
            elif (mate := self._peers.table.get((To.ENGINE, number))) is not None:
                self._peers.send(self._peers.ports[To.ENGINE], mate, m.Shutdown(0, [number]))
        self._peers.send(self._peers.ports[To.CLIENT], peer, m.Answer(shutdown.number))
        if shutdown.controller:
            self._stop()

    def forbidden(self, peer: Peer, message: Any, _frames: list[object], _now: float) -> None:
        """Its key does not allow it to say this: it is told so where it waits for something."""
        reply = refusal(peer.key.scope, message)
        if reply is not None:
            self._peers.send(self._peers.ports[To.CLIENT], peer, reply)
