"""Connections over tcp that are signed and not encrypted, for where there is no CURVE.

Both sides know a secret, the ``exec_key`` of a connection file. The one who dials names its key and says a number it
has drawn; the other answers with one of its own. From the secret and both numbers each direction gets a key of its own,
and every message carries its place in the order and an HMAC-SHA256 over all of it, buffers included::

    HMAC 32 bytes | place 8 bytes | header     and the frames as they are

The place has to be the one that follows: what was changed, left out, repeated, taken from another connection or sent
back to its sender ends the connection. So no list of past signatures has to be kept.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
import struct
from collections import OrderedDict
from typing import TYPE_CHECKING, Final

from enginery.net.channel import ChannelClosed

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from enginery.net.routed import RoutedChannel, Router

#: How the first message of each side begins. No header does: they are MessagePack maps.
KNOCK: Final = b"\x00enginery-signed-1\x00"
NONCE: Final = 16
#: Characters of the name that a key goes by.
ID: Final = 16
_KNOCK_SIZE: Final = len(KNOCK) + ID + NONCE
_ANSWER_SIZE: Final = len(KNOCK) + NONCE
_MAC: Final = 32
_STAMP: Final = _MAC + 8
_PLACE: Final = struct.Struct("<Q")
_COUNT: Final = struct.Struct("<I")
#: Peers that have knocked and not shown that they know the key; the oldest is forgotten beyond that.
MOST_UNPROVEN: Final = 1024


class Forged(ValueError):
    """A message is not what its sender signed, or does not stand where it should."""


def key_id(secret: str) -> str:
    """The name of a key, which says nothing of it."""
    return hashlib.sha256(b"enginery key id " + secret.encode()).hexdigest()[:ID]


class Seal:
    """Signs what goes out and checks what comes in, on one connection."""

    __slots__ = ("_in", "_out", "_received", "_sent")

    def __init__(self, secret: str, dialler: bytes, listener: bytes, *, dials: bool) -> None:
        keys = [
            hmac.new(secret.encode(), way + dialler + listener, "sha256").digest() for way in (b"to it ", b"from it ")
        ]
        if not dials:
            keys.reverse()
        self._out, self._in = (hmac.new(key, digestmod="sha256") for key in keys)
        self._sent = self._received = 0

    def sign(self, header: bytes, frames: Sequence[object]) -> bytes:
        """The header as it travels."""
        place = _PLACE.pack(self._sent)
        self._sent += 1
        return _digest(self._out, place, header, frames) + place + header

    def check(self, signed: object, frames: Sequence[object]) -> memoryview:
        """The header as it was. Raises Forged."""
        view = memoryview(signed).cast("B")  # type: ignore[arg-type]  # a buffer
        if len(view) < _STAMP:
            msg = f"a message of {len(view)} bytes is too short to be signed"
            raise Forged(msg)
        place, header = bytes(view[_MAC:_STAMP]), view[_STAMP:]
        if not hmac.compare_digest(_digest(self._in, place, header, frames), bytes(view[:_MAC])):
            msg = "a message was changed on its way, or is not from who holds the key"
            raise Forged(msg)
        (number,) = _PLACE.unpack(place)
        if number != self._received:
            msg = f"message number {number} came where number {self._received} was expected: repeated, or reordered"
            raise Forged(msg)
        self._received += 1
        return header


def _digest(keyed: hmac.HMAC, place: bytes, header: object, frames: Sequence[object]) -> bytes:
    mac = keyed.copy()
    parts = [memoryview(part).cast("B") for part in (header, *frames)]  # type: ignore[arg-type]  # buffers all
    mac.update(place + _COUNT.pack(len(parts)) + b"".join([_PLACE.pack(part.nbytes) for part in parts]))
    for part in parts:
        mac.update(part)
    return mac.digest()


class SignedChannel:
    """A dialled connection, signed. What is sent before the other side has answered waits."""

    wants_write = False

    def __init__(self, channel: RoutedChannel, secret: str) -> None:
        self._channel = channel
        self._secret = secret
        self._nonce = secrets.token_bytes(NONCE)
        self._seal: Seal | None = None
        self._waiting: list[tuple[bytes, Sequence[object]]] = []
        channel.send(KNOCK + key_id(secret).encode() + self._nonce, [])

    def __repr__(self) -> str:
        return f"<SignedChannel {'open' if self._seal else 'waits for an answer'}>"

    def fileno(self) -> int:
        """See ``Channel``."""
        return self._channel.fileno()

    def send(self, header: bytes, frames: Sequence[object]) -> None:
        """See ``Channel``."""
        if self._seal is None:
            self._waiting.append((header, frames))
        else:
            self._channel.send(self._seal.sign(header, frames), frames)

    def write(self) -> None:
        """See ``Channel``: nothing ever waits here that could be written."""

    def receive(self) -> Iterator[tuple[object, list[memoryview]]]:
        """See ``Channel``."""
        for header, frames in self._channel.receive():
            if self._seal is None:
                self._begin(bytes(memoryview(header)))  # type: ignore[arg-type]  # a buffer
                continue
            try:
                opened = self._seal.check(header, frames)
            except Forged as error:
                msg = f"what came was not signed by the controller ({error})"
                raise ChannelClosed(msg) from error
            yield opened, frames

    def _begin(self, answer: bytes) -> None:
        if len(answer) != _ANSWER_SIZE or not answer.startswith(KNOCK):
            msg = "whoever listens there does not sign what it says: the connection file is not this controller's"
            raise ChannelClosed(msg)
        self._seal = Seal(self._secret, self._nonce, answer[len(KNOCK) :], dials=True)
        waiting, self._waiting = self._waiting, []
        for header, frames in waiting:
            self.send(header, frames)

    def has_unseen(self) -> bool:
        """See ``Channel``."""
        return self._channel.has_unseen()

    def close(self, linger: float) -> None:
        """See ``Channel``."""
        self._channel.close(linger)

    def abandon(self) -> None:
        """See ``Channel``."""
        self._channel.abandon()


class Notary:
    """The listening side of signed connections: who has shown that it knows which key."""

    def __init__(self, router: Router, secret_of: Callable[[str], str | None]) -> None:
        """``secret_of`` gives the secret of the key with a name, None if there is none that opens this port."""
        self._router = router
        self._secret_of = secret_of
        self._unproven: OrderedDict[bytes, tuple[Seal, str]] = OrderedDict()
        self._proven: dict[bytes, tuple[Seal, str]] = {}

    def __repr__(self) -> str:
        return f"<Notary proven={len(self._proven)} unproven={len(self._unproven)}>"

    def open(self, identity: bytes, header: object, frames: Sequence[object]) -> memoryview | None:
        """The header of a message as it was signed; None if that was a knock, which is answered. Raises Forged."""
        known = self._proven.get(identity)
        if known is not None:
            return known[0].check(header, frames)
        fresh = self._unproven.get(identity)
        if fresh is None:
            self._answer(identity, bytes(memoryview(header)[: _KNOCK_SIZE + 1]))  # type: ignore[arg-type]  # a buffer
            return None
        opened = fresh[0].check(header, frames)
        self._proven[identity] = self._unproven.pop(identity)
        return opened

    def sign(self, identity: bytes, header: bytes, frames: Sequence[object]) -> bytes:
        """A header as it travels; as it is, for somebody who is not known."""
        known = self._proven.get(identity)
        return known[0].sign(header, frames) if known is not None else header

    def key_of(self, identity: bytes) -> str:
        """The name of the key that a peer has shown to know."""
        known = self._proven.get(identity)
        return known[1] if known is not None else ""

    def forget(self, identity: bytes) -> None:
        """A peer is gone."""
        self._proven.pop(identity, None)
        self._unproven.pop(identity, None)

    def _answer(self, identity: bytes, knock: bytes) -> None:
        if len(knock) != _KNOCK_SIZE or not knock.startswith(KNOCK):
            msg = "it does not sign what it says"
            raise Forged(msg)
        name = knock[len(KNOCK) : len(KNOCK) + ID].decode(errors="replace")
        secret = self._secret_of(name)
        if secret is None:
            msg = "its key does not open this port"
            raise Forged(msg)
        nonce = secrets.token_bytes(NONCE)
        self._unproven[identity] = Seal(secret, knock[-NONCE:], nonce, dials=False), name
        if len(self._unproven) > MOST_UNPROVEN:
            self._unproven.popitem(last=False)
        self._router.send(identity, KNOCK + nonce, [])
