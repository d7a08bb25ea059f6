"""Bodies of functions within a budget of bytes, by digest; past it the oldest go. No I/O."""

from __future__ import annotations

from typing import Final

#: Bytes of function bodies kept by each client and engine; what has gone is asked for again.
BUDGET: Final = 64 << 20


class Kept(dict[bytes, bytes]):
    """Looked into as a dict, filled by ``keep``."""

    __slots__ = ("_size", "budget")

    def __init__(self, budget: int = BUDGET) -> None:
        super().__init__()
        self.budget = budget
        self._size = 0

    def keep(self, digest: bytes, body: bytes) -> None:
        """Add a body. The newest one is kept whatever its size."""
        self._size += len(body) - len(self.get(digest, b""))
        self[digest] = body  # in one step: another thread may look
        while self._size > self.budget and len(self) > 1:
            self._size -= len(self.pop(next(iter(self))))
