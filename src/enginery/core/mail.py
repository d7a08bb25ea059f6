"""What one side of a connection has said and heard, so that it can go on over another connection. No I/O.

Each side numbers, by counting, the messages that must arrive exactly once, and keeps them until the other one says that
it has them (``Received``). When a connection breaks and the same two peers meet again, each says how many it has got,
and the rest is sent again: nothing is lost, and nothing comes twice. Not counted are hello and welcome, which begin a
connection, and what is of no use later: ``Ping``, ``Pong``, ``Bye`` and ``Received`` itself.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Final

from enginery.wire import messages as m

if TYPE_CHECKING:
    from collections.abc import Sequence

#: Messages and bytes after which the other side is told that they are here, lest it keeps them for long.
MESSAGES: Final = 64
BYTES: Final = 1 << 18

#: Kinds of messages that are neither counted nor kept.
UNCOUNTED: Final = frozenset(
    {
        m.ClientHello,
        m.EngineHello,
        m.NannyHello,
        m.EngineExited,
        m.Welcome,
        m.Refused,
        m.Ping,
        m.Pong,
        m.Bye,
        m.Shares,
        m.Received,
        m.Relay,
        m.Relayed,
        m.Deliver,
        m.Restart,
    }
)
Kept = tuple[bytes, list[object]]


class Mail:
    """The counted messages of one peer in both directions."""

    __slots__ = ("_kept", "_told", "_weight", "acknowledged", "again_to_come", "received", "saved", "size")

    def __init__(self) -> None:
        self.received = 0  #: messages that have come
        self.saved = 0  #: of these, those that need not be sent again; for who has to save what has come
        self.again_to_come = 0  #: so many of the next to come have come before
        self.acknowledged = 0  #: messages that the other side has
        self.size = 0  #: bytes of those it is not known to have
        self._kept: deque[Kept] = deque()  #: those sent after these
        self._told = 0
        self._weight = 0  #: bytes that came since the other side was told

    def __len__(self) -> int:
        """How many messages are kept."""
        return len(self._kept)

    @property
    def sent(self) -> int:
        """The number of the message sent last."""
        return self.acknowledged + len(self._kept)

    # --- what is sent -------------------------------------------------------------------------------------------

    def keep(self, header: bytes, frames: list[object]) -> None:
        """A counted message is sent, or would be if there were a connection."""
        self._kept.append((header, frames))
        self.size += _size(header, frames)

    def heard_received(self, count: int) -> list[Kept]:
        """The other side has so many messages. Those are returned that it was not known to have.

        Numbers that cannot be are ignored.
        """
        kept, news = self._kept, []
        while self.acknowledged < count and kept:
            news.append(kept.popleft())
            self.size -= _size(*news[-1])
            self.acknowledged += 1
        return news

    def again(self, count: int) -> list[Kept]:
        """What has to be sent again to somebody who has got ``count`` messages. It stays kept."""
        self.heard_received(count)
        return list(self._kept)

    def kept(self) -> list[Kept]:
        """What the other side may not have, the oldest first."""
        return list(self._kept)

    # --- what comes ---------------------------------------------------------------------------------------------

    def came(self, frames: Sequence[object]) -> bool:
        """A counted message has come. Whether it is time to say ``Received``."""
        self.received += 1
        if frames:
            self._weight += _size(b"", frames)
        return self.received - self._told >= MESSAGES or self._weight >= BYTES

    def ask_again(self) -> int:
        """What to tell one who comes back, where messages that have come might be lost still: it sends those again.

        They were acted upon, so ``again_to_come`` of what it sends next is to be passed over.
        """
        self.again_to_come = self.received - self.saved
        return self.saved

    def owes(self) -> bool:
        """Whether something has come that the other side was not told of."""
        return self._told != self.received

    def receipt(self) -> m.Received:
        """What to tell the other side now."""
        self._told, self._weight = self.received, 0
        return m.Received(self.received)

    def restart(self, kept: Sequence[Kept] = ()) -> None:
        """The other side is another one that knows nothing of what was counted. ``kept`` is still to be sent to it."""
        self.received = self.saved = self.again_to_come = self.acknowledged = self._told = self._weight = 0
        self._kept = deque(kept)
        self.size = sum([_size(header, frames) for header, frames in kept])

    def __repr__(self) -> str:
        return f"<Mail received={self.received} acknowledged={self.acknowledged} kept={len(self._kept)}>"


def _size(header: bytes, frames: Sequence[object]) -> int:
    if not frames:
        return len(header)
    return len(header) + sum([memoryview(frame).nbytes for frame in frames])  # type: ignore[arg-type,misc]  # buffers all
