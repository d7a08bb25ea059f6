"""Clients that do not read their results: beyond a limit nothing of theirs is begun, until they have read enough. No I/O.

Rules of the room:

1. How much is unread is measured elsewhere and told here. Between ``most`` and ``enough`` everything stays as it is.
2. Of a client that is held back no ready task is given to an engine. What engines have been given and have not begun they
   hand back if it is balanced, and set aside if it is addressed to them; so each of them adds what it runs, and no more.
3. Engines have been told what is so here: those that join, too, and those that are back and have been told nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from enginery.core.actions import To
from enginery.wire.messages import CLIENT_SHIFT, Hold

if TYPE_CHECKING:
    from collections.abc import Iterable

    from enginery.core.engines import EngineRecord
    from enginery.core.scheduler import Scheduler

#: Bytes of results that a client may leave unread, by sockets or in shared memory, before nothing of its is begun.
MOST_UNREAD: Final = 512 << 20


class Readers:
    """Holds clients of a scheduler back that do not read, and lets them on."""

    __slots__ = ("_scheduler", "enough", "most")

    def __init__(self, scheduler: Scheduler, most: int = MOST_UNREAD) -> None:
        self._scheduler = scheduler
        self.most = most  #: bytes unread beyond which a client is held back
        self.enough = most // 2  #: … and those with which it goes on

    def unread(self, client: int, size: int) -> bool:
        """A client has left so many bytes of results unread. Whether it is held back or let on because of that."""
        scheduler = self._scheduler
        if client in scheduler.dealer.held_back:
            if size > self.enough:
                return False
            self.let_on(client)
        else:
            if size <= self.most or client not in scheduler.clients:
                return False
            scheduler.dealer.hold_back(client)
            self._tell(scheduler.engines)
        return True

    def let_on(self, client: int) -> None:
        """A client is not held back any more, if it was: it reads again, or has left."""
        scheduler = self._scheduler
        if client not in scheduler.dealer.held_back:
            return
        scheduler.dealer.let_on(client)
        for engine in scheduler.engines.values():
            if engine.paused:
                engine.paused = {task for task in engine.paused if task >> CLIENT_SHIFT != client}
                scheduler.dealer.refresh(engine)
        self._tell(scheduler.engines)

    def engine_joined(self, engine: EngineRecord) -> None:
        """An engine has not been told anything yet."""
        if self._scheduler.dealer.held_back:
            self._tell([engine.info.id])

    def paused(self, engine: EngineRecord, ids: Iterable[int]) -> None:
        """An engine has set tasks aside that are addressed to it. It may have been let on again since it said so."""
        held_back = self._scheduler.dealer.held_back
        engine.paused.update([task for task in ids if task in engine.direct and task >> CLIENT_SHIFT in held_back])
        self._scheduler.dealer.refresh(engine)

    def _tell(self, engines: Iterable[int]) -> None:
        clients = sorted(self._scheduler.dealer.held_back)
        for number in engines:
            self._scheduler.outbox.send(To.ENGINE, number, Hold(clients))
