"""What a dialled connection can do, whatever carries it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence


class ChannelClosed(ConnectionError):
    """The other side has closed the connection, or is gone."""


class Channel(Protocol):
    """One connection that carries messages: a header and raw frames. Not thread-safe: its line holds a lock."""

    wants_write: bool  #: some of what was sent has not left; ``write`` when the descriptor can take it

    def fileno(self) -> int:
        """The descriptor that becomes readable when something comes in."""

    def send(self, header: bytes, frames: Sequence[object]) -> None:
        """Send a message; what does not leave at once waits in memory. Buffers must not change until they left."""

    def write(self) -> None:
        """Go on sending."""

    def receive(self) -> Iterable[tuple[object, list[memoryview]]]:
        """Messages that are here, as buffers; headers are good until the next call.

        Raises ChannelClosed.
        """

    def has_unseen(self) -> bool:
        """Whether something may be here that the descriptor does not tell of."""

    def close(self, linger: float) -> None:
        """Close; what was sent may still leave for ``linger`` seconds."""

    def abandon(self) -> None:
        """In a forked child: let go of the connection without a word; it is the parent's."""
