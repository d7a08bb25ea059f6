"""What host and nanny tell each other, and the socket pair they tell it through.

Each message is a length in four bytes and a msgpack body. Neither side ever blocks on the other: what the socket does
not take at once waits in ``Channel`` for the next ``flush``.
"""

from __future__ import annotations

import socket
import struct
from typing import TYPE_CHECKING, Final

import msgspec
from msgspec import Struct

from enginery.wire.messages import Deliver, EngineExited, Restart

if TYPE_CHECKING:
    from collections.abc import Sequence

LENGTH: Final = struct.Struct("<I")
CHUNK: Final = 1 << 16


class Started(Struct, tag="started"):
    """Host to nanny: the engine with this uuid runs in process ``pid`` and writes to cell number ``slot``."""

    uuid: str
    pid: int
    slot: int


class Leave(Struct, tag="leave"):
    """Host to nanny: all engines have ended; say what is left to say and go."""

    reason: str


class Stop(Struct, tag="stop"):
    """Nanny to host: stop all engines, after ``grace`` seconds in which they may leave by themselves.

    ``code`` is what the host shall exit with.
    """

    reason: str
    grace: float = 0.0
    code: int = 0


class RestartAll(Struct, tag="restart-all"):
    """Nanny to host: stop every engine and start it anew."""


ToNanny = Started | EngineExited | Leave
ToHost = Deliver | Restart | RestartAll | Stop

_encode: Final = msgspec.msgpack.Encoder().encode
_decode_to_nanny: Final = msgspec.msgpack.Decoder(ToNanny).decode
_decode_to_host: Final = msgspec.msgpack.Decoder(ToHost).decode


class Channel:
    """One end of the line between host and nanny. ``closed`` once the other end is gone. Not thread-safe."""

    __slots__ = ("_incoming", "_outgoing", "_socket", "closed")

    def __init__(self, end: socket.socket) -> None:
        end.setblocking(False)
        self._socket = end
        self._incoming = bytearray()
        self._outgoing = bytearray()
        self.closed = False

    def __repr__(self) -> str:
        state = "closed" if self.closed else "open"
        return f"<Channel fd={self._socket.fileno()} {state} unsent={len(self._outgoing)}>"

    def fileno(self) -> int:
        """The descriptor to wait for."""
        return self._socket.fileno()

    @property
    def unsent(self) -> int:
        """Bytes that wait for the socket to take them; call ``flush`` when it is writable."""
        return len(self._outgoing)

    def send(self, *messages: ToNanny | ToHost) -> None:
        """Send messages in order. If the other end is gone they are dropped."""
        for message in messages:
            body = _encode(message)
            self._outgoing += LENGTH.pack(len(body))
            self._outgoing += body
        self.flush()

    def flush(self) -> None:
        """Hand over what the socket takes now."""
        while self._outgoing and not self.closed:
            try:
                del self._outgoing[: self._socket.send(self._outgoing)]
            except BlockingIOError:
                return
            except OSError:
                # A broken pipe; what the other end said before may still be there to read, so only reading closes.
                self._outgoing.clear()

    def receive_at_nanny(self) -> Sequence[ToNanny]:
        """All messages that have arrived from the host."""
        return [_decode_to_nanny(body) for body in self._bodies()]

    def receive_at_host(self) -> Sequence[ToHost]:
        """All messages that have arrived from the nanny."""
        return [_decode_to_host(body) for body in self._bodies()]

    def close(self) -> None:
        """Hang up."""
        self.closed = True
        self._socket.close()

    def _bodies(self) -> list[bytes]:
        self._drain()
        bodies = []
        start = 0
        while len(self._incoming) - start >= LENGTH.size:
            (size,) = LENGTH.unpack_from(self._incoming, start)
            end = start + LENGTH.size + size
            if len(self._incoming) < end:
                break
            bodies.append(bytes(self._incoming[start + LENGTH.size : end]))
            start = end
        del self._incoming[:start]
        return bodies

    def _drain(self) -> None:
        while not self.closed:
            try:
                data = self._socket.recv(CHUNK)
            except BlockingIOError:
                return
            except OSError:
                data = b""
            if not data:
                self.closed = True
            self._incoming += data


def channel_pair() -> tuple[Channel, Channel]:
    """The two ends of a new line."""
    one, other = socket.socketpair()
    return Channel(one), Channel(other)
