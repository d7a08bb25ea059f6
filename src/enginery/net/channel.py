"""What a dialled connection can do, whatever carries it; and the one over zmq, for other hosts."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

import zmq

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from enginery.net.sockets import Socket


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


class ZmqChannel:
    """A DEALER as a channel.

    libzmq's descriptor tells of changes, not of states: after any use, the socket has to be read until it is empty.
    """

    wants_write = False  # libzmq queues without limit; what may pile up is bounded by the minds above

    def __init__(self, socket: Socket) -> None:
        self._socket = socket
        self._fd = socket.FD
        self._readable = [(socket, zmq.POLLIN)]

    def fileno(self) -> int:
        """See ``Channel``."""
        return self._fd

    def send(self, header: bytes, frames: Sequence[object]) -> None:
        """See ``Channel``."""
        socket = self._socket
        if not frames:
            socket.send(header)
            return
        socket.send(header, zmq.SNDMORE)
        for frame in frames[:-1]:
            socket.send(frame, zmq.SNDMORE, copy=False)  # type: ignore[call-overload]  # buffers all
        socket.send(frames[-1], copy=False)  # type: ignore[call-overload]  # likewise

    def write(self) -> None:
        """See ``Channel``: nothing ever waits here."""

    def receive(self) -> Iterator[tuple[object, list[memoryview]]]:
        """See ``Channel``."""
        # zmq_poll costs 2 µs, reading the option EVENTS 6 and an empty recv 5; frames know of their successors for 1.
        socket = self._socket
        while zmq.zmq_poll(self._readable, 0):
            header = socket.recv(copy=False)
            frames: list[memoryview] = []
            more = header.more
            while more:
                frame = socket.recv(copy=False)
                frames.append(frame.buffer)
                more = frame.more
            yield header, frames

    def has_unseen(self) -> bool:
        """See ``Channel``."""
        return bool(zmq.zmq_poll(self._readable, 0))

    def close(self, linger: float) -> None:
        """See ``Channel``."""
        self._socket.close(int(linger * 1000))
