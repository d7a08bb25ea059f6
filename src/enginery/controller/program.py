"""The controller program: listen, tell where, serve, leave without a trace."""

from __future__ import annotations

import gc
import json
import logging
import os
import random
import socket
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final

from enginery.controller.loop import Loop
from enginery.controller.ports import Port
from enginery.controller.server import Server
from enginery.core.scheduler import Scheduler
from enginery.errors import ConnectionFileError
from enginery.net import addresses
from enginery.net.connection_file import ConnectionInfo, load, write_private
from enginery.net.curve import Doorkeeper, KeyPair, has_curve
from enginery.net.segment_folder import SegmentFolder, make_segment_folder, sweep_segment_folders
from enginery.net.sockets import context, listen, listen_for_zap, listen_on_path
from enginery.wire.messages import Welcome

if TYPE_CHECKING:
    from enginery.controller.options import ControllerOptions

log = logging.getLogger("enginery.controller")

#: Seconds in which good-byes may still leave at the end.
FAREWELL: Final = 0.2
DOMAINS: Final = {"client": "clients", "engine": "engines"}


class Keys:
    """The key pairs of one controller: its own, and one for each kind of peer."""

    def __init__(self, stored: dict[str, dict[str, str]] | None = None) -> None:
        stored = stored or {}
        names = ("server", "client", "engine")
        self.pairs = {name: KeyPair(**stored[name]) if name in stored else KeyPair.make() for name in names}

    def dumps(self) -> str:
        """Text of the controller's own key file."""
        return json.dumps({name: {"public": p.public, "secret": p.secret} for name, p in self.pairs.items()})


class Controller:
    """One controller, from listening to leaving."""

    def __init__(self, options: ControllerOptions) -> None:
        self._options = options
        self._doorkeeper: Doorkeeper | None = None
        self._keys = self._load_keys() if options.listen_tcp and options.secure and options.curve else None
        self._folder = addresses.runtime_folder(f"{options.profile_dir}:{options.cluster_id}:{self._nonce()}")
        self._segments: SegmentFolder | None = None
        self._ports: dict[str, Port] = {}

    # --- start --------------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Listen on both ports and tell where. Raises OSError if that is not possible."""
        if self._keys is not None:
            allowed = {DOMAINS[kind]: {self._keys.pairs[kind].public} for kind in DOMAINS}
            self._doorkeeper = Doorkeeper(listen_for_zap(), allowed)
        epoch = 1
        infos = {}
        for kind in DOMAINS:
            before = self._previous(kind)
            epoch = before.epoch + 1 if before is not None else epoch
            self._ports[kind] = self._listen(kind, before)
        for kind in DOMAINS:
            infos[kind] = self._describe(kind, epoch)
            path = infos[kind].save(self._options.connection_path(kind))
            log.info("writing connection info to %s", path)
        if self._keys is not None and self._options.reuse:
            write_private(self._key_path, self._keys.dumps())
        self._epoch = epoch
        sweep_segment_folders()
        self._segments = make_segment_folder()
        if self._options.ready_fd is not None:
            line = json.dumps({kind: info.to_dict() for kind, info in infos.items()}) + "\n"
            with os.fdopen(self._options.ready_fd, "w") as ready:
                ready.write(line)

    def _listen(self, kind: str, before: ConnectionInfo | None) -> Port:
        options = self._options
        urls: list[str] = []
        listener, router = None, None
        if hasattr(socket, "AF_UNIX"):
            path = self._folder / DOMAINS[kind]
            listener = listen_on_path(path)
            urls.append(f"ipc://{path}")
        if options.listen_tcp or not urls:
            port = options.client_port if kind == "client" else options.engine_port
            if before is not None and not port:
                port = next((addresses.split_tcp(url)[1] for url in before.urls if url.startswith("tcp://")), 0)
            keys = self._keys.pairs["server"] if self._keys is not None else None
            router, url = listen(f"tcp://{options.ip}:{port or '*'}", domain=DOMAINS[kind], keys=keys)
            urls.append(url)
        return Port(DOMAINS[kind], urls, listener, router)

    def _describe(self, kind: str, epoch: int) -> ConnectionInfo:
        options, keys = self._options, self._keys
        urls = tuple(self._ports[kind].urls)
        return ConnectionInfo(
            kind="client" if kind == "client" else "engine",
            url=urls[-1],
            urls=urls,
            ssh=options.ssh_server if kind == "client" else options.engine_ssh_server,
            location=options.location or addresses.default_location(),
            cluster_id=options.cluster_id,
            epoch=epoch,
            pid=os.getpid(),
            server_key=keys.pairs["server"].public if keys else "",
            public_key=keys.pairs[kind].public if keys else "",
            secret_key=keys.pairs[kind].secret if keys else "",
        )

    def _previous(self, kind: str) -> ConnectionInfo | None:
        path = self._options.connection_path(kind)
        if not self._options.reuse or not path.exists():
            return None
        return load(path)

    @property
    def _key_path(self) -> Path:
        infix = f"-{self._options.cluster_id}" if self._options.cluster_id else ""
        return self._options.security_dir / f"ipcontroller{infix}-keys.json"

    def _load_keys(self) -> Keys | None:
        if not has_curve():
            log.warning("this libzmq has no CURVE: tcp connections are not encrypted")
            return None
        if self._options.reuse and self._key_path.exists():
            try:
                return Keys(json.loads(self._key_path.read_text()))
            except (ValueError, TypeError) as error:
                msg = f"key file {str(self._key_path)!r} is damaged ({error}). Remove it to get new keys."
                raise ConnectionFileError(msg) from error
        return Keys()

    def _nonce(self) -> str:
        # A controller that reuses its files has to listen where they say; any other must not meet an older one.
        return "" if self._options.reuse else str(os.getpid())

    # --- serve --------------------------------------------------------------------------------------------------

    def serve(self) -> None:
        """Serve until told to stop, by a client, a signal, or the end of the owner."""
        options = self._options
        scheduler = Scheduler(random=random.Random(), scheme=options.scheme, hwm=options.hwm)  # noqa: S311 - placement
        shared = str(self._segments.path) if self._segments is not None else ""
        welcome = Welcome(-1, "", self._epoch, options.heartbeat, options.window, shared)
        silence = options.heartbeat * options.max_misses
        clients, engines = self._ports["client"], self._ports["engine"]
        server = Server(scheduler, clients=clients, engines=engines, welcome=welcome, silence=silence)
        loop = Loop(server, [clients, engines], self._doorkeeper)
        if options.owner_pid is not None:
            loop.watch_owner(options.owner_pid)
        _tune_collector()
        reason = loop.run()
        log.info("leaving: %s", reason)
        server.say_goodbye(f"The controller was stopped: {reason}.")

    # --- end ----------------------------------------------------------------------------------------------------

    def close(self) -> None:
        """Close sockets and remove files, unless they are to be reused."""
        for port in self._ports.values():
            port.close(FAREWELL)
        if self._doorkeeper is not None:
            self._doorkeeper.close()
        if self._options.listen_tcp:
            context().term()
        if self._segments is not None:
            self._segments.remove()
        addresses.remove_runtime_folder(self._folder)
        if not self._options.reuse:
            for kind in self._ports:
                self._options.connection_path(kind).unlink(missing_ok=True)


def _tune_collector() -> None:
    """Let the collector leave what start-up made alone, and look rarely: tasks hold no cycles."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(100_000, 20, 100)


def run(options: ControllerOptions) -> int:
    """Run a controller until it is stopped. Returns the exit code."""
    handler: logging.Handler = logging.FileHandler(options.log) if options.log else logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s controller %(message)s"))
    log.addHandler(handler)
    log.setLevel(options.log_level)
    controller = Controller(options)
    try:
        controller.start()
        controller.serve()
    except (OSError, ConnectionFileError) as error:
        log.error("%s", error)  # noqa: TRY400 - the message says all; a traceback would hide it
        return 1
    finally:
        controller.close()
        log.removeHandler(handler)
        handler.close()
    return 0
