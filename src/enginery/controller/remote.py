"""The controller's endpoints for other hosts: tcp, the keys for it, and who keeps the door."""

from __future__ import annotations

import json
import logging
from typing import TYPE_CHECKING, Any, Final

from enginery.errors import ConnectionFileError
from enginery.net import addresses, profile_paths
from enginery.net.connection_file import write_private
from enginery.net.curve import Doorkeeper, KeyPair, has_curve, pairs_from
from enginery.net.routed import Router, listen_for_zap, new_context

if TYPE_CHECKING:
    from pathlib import Path

    from enginery.controller.options import ControllerOptions
    from enginery.net.connection_file import ConnectionInfo
    from enginery.net.routed import Context

log = logging.getLogger("enginery.controller")

#: Whose keys there are, and the ZAP domain of each kind of peer.
OWNERS: Final = ("server", "client", "engine")


class Remote:
    """Routers, keys and the doorkeeper of one controller. Belongs to the loop's thread."""

    def __init__(self, options: ControllerOptions) -> None:
        self.doorkeeper: Doorkeeper | None = None
        self._options = options
        self._pairs: dict[str, KeyPair] = self._load_keys() if options.secure and options.curve else {}
        self._context: Context = new_context()
        if self._pairs:
            allowed = {kind: {self._pairs[kind].public} for kind in ("client", "engine")}
            self.doorkeeper = Doorkeeper(listen_for_zap(self._context), allowed)

    def listen(self, kind: str, before: ConnectionInfo | None) -> Router:
        """Listen for one kind of peer; ``before`` has the port to take again. Raises OSError."""
        options = self._options
        port = options.client_port if kind == "client" else options.engine_port
        if before is not None and not port:
            port = next((addresses.split_tcp(url)[1] for url in before.urls if url.startswith("tcp://")), 0)
        url = f"tcp://{options.ip}:{port or '*'}"
        return Router(self._context, url, domain=kind, keys=self._pairs.get("server"))

    def keys_for(self, kind: str) -> dict[str, Any]:
        """What the connection file of one kind of peer says of keys."""
        if not self._pairs:
            return {}
        mine = self._pairs[kind]
        return {"server_key": self._pairs["server"].public, "public_key": mine.public, "secret_key": mine.secret}

    def save_keys(self) -> None:
        """Keep the keys for the next start, if that is to use the same ones."""
        if self._pairs and self._options.reuse:
            plain = {owner: {"public": pair.public, "secret": pair.secret} for owner, pair in self._pairs.items()}
            write_private(self._key_path, json.dumps(plain))

    def close(self) -> None:
        """Close the door. The routers are closed by their ports before; waits for their last words."""
        if self.doorkeeper is not None:
            self.doorkeeper.close()
        self._context.term()

    @property
    def _key_path(self) -> Path:
        return profile_paths.keys_path(self._options.profile_dir, self._options.cluster_id)

    def _load_keys(self) -> dict[str, KeyPair]:
        if not has_curve():
            log.warning("this libzmq has no CURVE: tcp connections are not encrypted")
            return {}
        pairs = pairs_from(self._options.key, OWNERS) if self._options.key else self._stored_keys()
        if self._options.server_secret:
            try:
                pairs["server"] = KeyPair.of(self._options.server_secret)
            except ValueError as error:
                msg = f"the controller's secret key cannot be used ($IPP_CURVE_SECRETKEY): {error}."
                raise ConnectionFileError(msg) from error
        return pairs

    def _stored_keys(self) -> dict[str, KeyPair]:
        stored: dict[str, dict[str, str]] = {}
        if self._options.reuse and self._key_path.exists():
            try:
                stored = json.loads(self._key_path.read_text())
                return {owner: KeyPair(**stored[owner]) for owner in OWNERS}
            except (ValueError, TypeError, KeyError) as error:
                msg = f"key file {str(self._key_path)!r} is damaged ({error!r}). Remove it to get new keys."
                raise ConnectionFileError(msg) from error
        return {owner: KeyPair.make() for owner in OWNERS}
