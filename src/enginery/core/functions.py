"""Bodies of functions, kept as opaque bytes within a budget and sent to each engine once. No I/O."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from enginery.core.actions import To
from enginery.wire.messages import Functions

if TYPE_CHECKING:
    from enginery.core.actions import Outbox
    from enginery.core.engines import EngineRecord

#: Bytes of function bodies kept; past that the oldest go, and clients are asked for them again if need be.
BUDGET: Final = 256 << 20


class Bodies:
    """Function bodies by digest."""

    __slots__ = ("_bodies", "_size", "_wanted", "budget")

    def __init__(self, budget: int = BUDGET) -> None:
        self.budget = budget
        self._bodies: dict[bytes, bytes] = {}
        self._size = 0
        self._wanted: dict[bytes, dict[int, EngineRecord]] = {}

    def __len__(self) -> int:
        return len(self._bodies)

    def store(self, bodies: dict[bytes, bytes], outbox: Outbox) -> None:
        """Keep bodies a client sent, and forward those that engines have been waiting for."""
        for digest, body in bodies.items():
            if digest not in self._bodies:
                self._bodies[digest] = body
                self._size += len(body)
            for engine in self._wanted.pop(digest, {}).values():
                self._send(engine, digest, body, outbox)
        while self._size > self.budget and len(self._bodies) > 1:
            oldest = next(iter(self._bodies))
            self._size -= len(self._bodies.pop(oldest))

    def introduce(self, engine: EngineRecord, digest: bytes, outbox: Outbox) -> None:
        """Send the body ahead of an engine's first task that needs it. Without one, the engine will ask."""
        body = self._bodies.get(digest)
        if body is not None:
            self._send(engine, digest, body, outbox)

    def supply(self, engine: EngineRecord, digest: bytes, outbox: Outbox) -> bool:
        """An engine asks for a body. False if it is not here: then it is noted as wanted."""
        body = self._bodies.get(digest)
        if body is None:
            self._wanted.setdefault(digest, {})[engine.info.id] = engine
            return False
        self._send(engine, digest, body, outbox)
        return True

    def forget_engine(self, engine: int) -> None:
        """An engine has left; nothing is wanted for it any more."""
        for digest in [digest for digest, engines in self._wanted.items() if engine in engines]:
            del self._wanted[digest][engine]
            if not self._wanted[digest]:
                del self._wanted[digest]

    def _send(self, engine: EngineRecord, digest: bytes, body: bytes, outbox: Outbox) -> None:
        engine.functions.add(digest)
        outbox.send(To.ENGINE, engine.info.id, Functions({digest: body}))
