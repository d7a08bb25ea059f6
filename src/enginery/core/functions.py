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
#: Functions remembered as sent to one engine.
INTRODUCED: Final = 100_000


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

    def __contains__(self, digest: object) -> bool:
        return digest in self._bodies

    def known(self) -> dict[bytes, bytes]:
        """All bodies by digest, the oldest first."""
        return dict(self._bodies)

    def introduce(self, engine: EngineRecord, digest: bytes, outbox: Outbox) -> None:
        """Send the body ahead of an engine's first task that needs it. Without one, the engine will ask."""
        body = self._bodies.get(digest)
        if body is not None:
            self._send(engine, digest, body, outbox)

    def supply(self, engine: EngineRecord, digest: bytes, outbox: Outbox) -> bool:
        """An engine asks for a body. False if it is not here."""
        body = self._bodies.get(digest)
        if body is None:
            return False
        self._send(engine, digest, body, outbox)
        return True

    def want(self, engine: EngineRecord, digest: bytes) -> None:
        """Have a body forwarded to an engine when it comes."""
        self._wanted.setdefault(digest, {})[engine.info.id] = engine

    def wanted(self) -> list[tuple[bytes, EngineRecord]]:
        """Bodies that clients have been asked for, with the engines that wait for them."""
        return [(digest, engine) for digest, engines in self._wanted.items() for engine in engines.values()]

    def unwant(self, engine: EngineRecord, digest: bytes) -> None:
        """A body will not come."""
        engines = self._wanted.get(digest, {})
        engines.pop(engine.info.id, None)
        if not engines:
            self._wanted.pop(digest, None)

    def forget_engine(self, engine: int) -> None:
        """An engine has left; nothing is wanted for it any more."""
        for digest, record in self.wanted():
            if record.info.id == engine:
                self.unwant(record, digest)

    def _send(self, engine: EngineRecord, digest: bytes, body: bytes, outbox: Outbox) -> None:
        if len(engine.functions) >= INTRODUCED:
            engine.functions.clear()  # it is sent some again, which harms nobody
        engine.functions.add(digest)
        outbox.send(To.ENGINE, engine.info.id, Functions({digest: body}))
