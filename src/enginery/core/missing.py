"""Bodies of functions that come, and that engines lack: supplied, asked of clients, or nowhere to be had. No I/O."""

from __future__ import annotations

from typing import TYPE_CHECKING

from enginery.core import faults
from enginery.core import logbook as entries
from enginery.core.actions import To
from enginery.wire.messages import CLIENT_SHIFT, Abort, Missing

if TYPE_CHECKING:
    from enginery.core.engines import ClientRecord, EngineRecord
    from enginery.core.scheduler import Scheduler
    from enginery.wire.messages import Fault, Task


class MissingFunctions:
    """Gets functions to the engines of a scheduler that lack them."""

    __slots__ = ("_scheduler",)

    def __init__(self, scheduler: Scheduler) -> None:
        self._scheduler = scheduler

    def functions_arrived(self, client: ClientRecord, bodies: dict[bytes, bytes]) -> None:
        """A client sends bodies of functions, ahead of the tasks that use them or because it was asked."""
        scheduler = self._scheduler
        scheduler.dealer.bodies.store({digest: body for digest, body in bodies.items() if body}, scheduler.outbox)
        if scheduler.logbook is not None:
            scheduler.logbook.note(entries.Bodies(bodies))
        lost = {digest for digest, body in bodies.items() if not body}
        for digest, engine in scheduler.dealer.bodies.wanted() if lost else ():
            for task in self._waiting_for(engine, digest) if digest in lost else ():
                if task.id >> CLIENT_SHIFT == client.number:
                    self._withdraw(engine, task, faults.body_lost(digest))

    def functions_missing(self, engine: EngineRecord, digests: list[bytes]) -> None:
        """An engine was given tasks whose function it does not have. Supplied from here or asked of clients."""
        scheduler = self._scheduler
        scheduler.outcomes.settle()
        engine.disordered = True  # it sets their tasks aside and goes on with others
        if scheduler.logbook is not None:
            scheduler.logbook.note(entries.Overtaken(engine.info.id))
        for digest in digests:
            engine.functions.discard(digest)
            if scheduler.dealer.bodies.supply(engine, digest, scheduler.outbox):
                continue
            waiting = self._waiting_for(engine, digest)
            owners = {task.id >> CLIENT_SHIFT for task in waiting}
            askable = [number for number in sorted(owners) if self._is_connected(number)]
            if askable:
                scheduler.dealer.bodies.want(engine, digest)
            else:
                scheduler.dealer.bodies.unwant(engine, digest)
            for number in askable:
                scheduler.outbox.send(To.CLIENT, number, Missing([digest]))
            for task in [] if askable else waiting:
                self._withdraw(engine, task, faults.body_lost(digest))

    def _waiting_for(self, engine: EngineRecord, digest: bytes) -> list[Task]:
        """Tasks an engine holds that call a function."""
        return [task for held in (engine.direct, engine.balanced) for task in held.values() if task.function == digest]

    def _withdraw(self, engine: EngineRecord, task: Task, fault: Fault) -> None:
        """End a task that an engine holds but cannot run."""
        scheduler = self._scheduler
        scheduler.outbox.send(To.ENGINE, engine.info.id, Abort([task.id]))
        if engine.balanced.pop(task.id, None) is None:
            del engine.direct[task.id]
            engine.paused.discard(task.id)
        else:
            scheduler.dealer.ended(engine, task.function, 1, None)
        scheduler.dealer.refresh(engine)
        scheduler.fail(task, fault)

    def _is_connected(self, number: int) -> bool:
        return number in self._scheduler.clients
