"""Keys for encrypted connections, and who may use them: CurveZMQ with an allow-list.

Client and engine endpoints are separate ZAP domains, each with its own list, so that an engine's key does not open
the clients' port. Protocols: https://rfc.zeromq.org/spec/26/ (CurveZMQ) and https://rfc.zeromq.org/spec/27/ (ZAP).
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

import zmq
import zmq.utils.z85

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

#: Bytes of a CURVE key.
_KEY_BYTES: Final = 32

ZAP_ENDPOINT: Final = "inproc://zeromq.zap.01"
_ZAP_VERSION: Final = b"1.0"
_ZAP_PARTS: Final = 7  # version, request id, domain, address, identity, mechanism, credentials


@dataclass(frozen=True, slots=True)
class KeyPair:
    """A CURVE key pair in Z85 text."""

    public: str
    secret: str = field(repr=False)

    @classmethod
    def make(cls) -> KeyPair:
        """A new pair."""
        public, secret = zmq.curve_keypair()
        return cls(public.decode(), secret.decode())

    @classmethod
    def of(cls, secret: str) -> KeyPair:
        """The pair of a secret key in Z85. Raises ValueError if it is none."""
        try:
            return cls(zmq.curve_public(secret.encode()).decode(), secret)
        except (zmq.ZMQError, ValueError, LookupError):
            # The value stays out of the message: it is a secret.
            msg = f"a text of {len(secret)} characters is no secret CURVE key, which has 40 in Z85"
            raise ValueError(msg) from None


def pairs_from(key: str, owners: Sequence[str]) -> dict[str, KeyPair]:
    """The pairs of ``owners`` that go with a secret text: the same ones each time. Takes a twentieth of a second."""
    # Slow by design, for people choose texts that can be guessed.
    raw = hashlib.scrypt(key.encode(), salt=b"enginery", n=1 << 14, r=8, p=1, dklen=_KEY_BYTES * len(owners))
    secrets = (raw[at : at + _KEY_BYTES] for at in range(0, len(raw), _KEY_BYTES))
    return {
        owner: KeyPair.of(zmq.utils.z85.encode(secret).decode()) for owner, secret in zip(owners, secrets, strict=True)
    }


def has_curve() -> bool:
    """Whether this libzmq was built with CURVE."""
    return bool(zmq.has("curve"))


class Doorkeeper:
    """Answers libzmq's questions whether a peer may connect. Belongs to the thread that made it."""

    def __init__(self, socket: zmq.Socket[bytes], allowed: Mapping[str, set[str]]) -> None:
        """``socket`` is bound to ``ZAP_ENDPOINT``; ``allowed`` has public keys by domain, and may change later."""
        self.socket = socket
        self.refused = 0
        #: called with the address of each that is refused
        self.on_refused: Callable[[str], None] = lambda _address: None
        self._allowed = allowed

    def answer(self) -> None:
        """Answer every question that waits."""
        while True:
            try:
                envelope = self.socket.recv_multipart(zmq.NOBLOCK)
            except zmq.Again:
                return
            blank = envelope.index(b"")
            head, parts = envelope[: blank + 1], envelope[blank + 1 :]
            code, text, name = self._judge(parts)
            request = parts[1] if len(parts) > 1 else b""
            self.socket.send_multipart([*head, _ZAP_VERSION, request, code, text, name, b""])

    def _judge(self, parts: list[bytes]) -> tuple[bytes, bytes, bytes]:
        """Code, text, and the name under which libzmq makes the peer known: its public key."""
        if len(parts) == _ZAP_PARTS and parts[0] == _ZAP_VERSION and parts[5] == b"CURVE":
            key = zmq.utils.z85.encode(parts[6])
            if key.decode() in self._allowed.get(parts[2].decode(errors="replace"), ()):
                return b"200", b"OK", key
        self.refused += 1
        self.on_refused(parts[3].decode(errors="replace") if len(parts) == _ZAP_PARTS else "somewhere")
        return b"400", b"this key does not open this port", b""

    def close(self) -> None:
        """Close the socket."""
        self.socket.close()
