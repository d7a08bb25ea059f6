"""The controller's endpoints for other hosts: tcp, how it is protected, and who keeps the door."""

from __future__ import annotations

import functools
import logging
from typing import TYPE_CHECKING, Any, Final

from enginery.errors import ConnectionFileError
from enginery.net import addresses
from enginery.net.curve import Doorkeeper, KeyPair, has_curve, pairs_from
from enginery.net.routed import Router, listen_for_zap, new_context

if TYPE_CHECKING:
    from enginery.controller.keyring import Key, Keyring, Pair
    from enginery.controller.options import ControllerOptions
    from enginery.net.connection_file import ConnectionInfo
    from enginery.net.routed import Context

log = logging.getLogger("enginery.controller")

#: Whose key pairs there are.
OWNERS: Final = ("server", "client", "engine")


def make_pair() -> Pair:
    """A new CURVE key pair."""
    pair = KeyPair.make()
    return pair.public, pair.secret


def given_pairs(options: ControllerOptions) -> dict[str, Pair]:
    """The pairs that the options determine. Raises ConnectionFileError if a key cannot be used."""
    try:
        pairs = pairs_from(options.key, OWNERS) if options.key else {}
        if options.server_secret:
            pairs["server"] = KeyPair.of(options.server_secret)
    except ValueError as error:
        msg = f"the controller's secret key cannot be used ($IPP_CURVE_SECRETKEY): {error}."
        raise ConnectionFileError(msg) from error
    return {owner: (pair.public, pair.secret) for owner, pair in pairs.items()}


def can_encrypt(options: ControllerOptions) -> bool:
    """Whether tcp connections are encrypted; it is said where that is wanted and cannot be."""
    wanted = options.secure and options.curve
    if wanted and not has_curve():
        log.warning("this libzmq has no CURVE: tcp connections are signed, but not encrypted")
    return wanted and has_curve()


class Remote:
    """Routers and the doorkeeper of one controller. Belongs to the loop's thread."""

    def __init__(self, options: ControllerOptions, keyring: Keyring | None) -> None:
        """``keyring`` has the keys, with pairs if connections are to be encrypted; None: nobody needs one."""
        self.doorkeeper: Doorkeeper | None = None
        self._options = options
        self._keyring = keyring
        self._context: Context = new_context()
        if keyring is not None and keyring.pairs:
            self.doorkeeper = Doorkeeper(listen_for_zap(self._context), keyring.allowed)
            self.doorkeeper.on_refused = self._refused

    def listen(self, kind: str, before: ConnectionInfo | None) -> Router:
        """Listen for one kind of peer; ``before`` has the port to take again. Raises OSError."""
        options, keyring = self._options, self._keyring
        port = options.client_port if kind == "client" else options.engine_port
        if before is not None and not port:
            port = next((addresses.split_tcp(url)[1] for url in before.urls if url.startswith("tcp://")), 0)
        url = f"tcp://{options.ip}:{port or '*'}"
        keys = KeyPair(*keyring.pairs["server"]) if keyring is not None and keyring.pairs else None
        secret_of = functools.partial(keyring.secret_of, kind) if keyring is not None else None
        most = options.limits.message
        router = Router(self._context, url, domain=kind, keys=keys, secret_of=secret_of, most=most)
        router.on_forged = lambda _identity, why: log.warning("%ss: a connection was cut off: %s", kind, why)
        return router

    def keys_for(self, key: Key, pair: Pair | None = None) -> dict[str, Any]:
        """What the connection file for a key says of CURVE; its pair is at hand for the controller's own keys."""
        assert self._keyring is not None
        pairs = self._keyring.pairs
        if not pairs:
            return {}
        public, secret = pair if pair is not None else pairs[key.name]
        return {"server_key": pairs["server"][0], "public_key": public, "secret_key": secret}

    def close(self) -> None:
        """Close the door. The routers are closed by their ports before; waits for their last words."""
        if self.doorkeeper is not None:
            self.doorkeeper.close()
        self._context.term()

    def _refused(self, address: str) -> None:
        count = self.doorkeeper.refused if self.doorkeeper is not None else 0
        if count & (count - 1) == 0:  # the first, second, fourth …: a flood shall not fill the log
            log.warning("a connection from %s was refused: its key does not open the port (%d so far)", address, count)
