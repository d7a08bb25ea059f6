"""The controller program: listen, tell where, serve, leave without a trace."""

from __future__ import annotations

import contextlib
import gc
import json
import logging
import os
import random
import socket
import sys
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from enginery.controller.door import Door
from enginery.controller.keyring import Keyring, read_stored
from enginery.controller.log_file import LogFile
from enginery.controller.loop import Loop
from enginery.controller.ports import Port
from enginery.controller.recording import Recorder
from enginery.controller.safe import Receipt, Safe
from enginery.controller.server import Server, first_client
from enginery.core.actions import Action
from enginery.core.journal import Journal
from enginery.core.logbook import Logbook
from enginery.core.recall import Recall
from enginery.core.scheduler import Scheduler
from enginery.errors import ConnectionFileError, LogbookError
from enginery.net import addresses
from enginery.net.beat import BeatWatch
from enginery.net.connection_file import ConnectionInfo, load
from enginery.net.publish import publish
from enginery.net.segment_folder import SegmentFolder, make_segment_folder, sweep_segment_folders
from enginery.net.signals import SignalWatch
from enginery.net.sockets import listen_on_path
from enginery.store.choice import open_store
from enginery.store.writer import Writer
from enginery.wire.messages import Welcome

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from enginery.controller.keyring import Key, Pair
    from enginery.controller.options import ControllerOptions
    from enginery.controller.remote import Remote
    from enginery.store.backlog import Backlog

log = logging.getLogger("enginery.controller")

#: Seconds in which good-byes may still leave at the end.
FAREWELL: Final = 0.2
DOMAINS: Final = {"client": "clients", "engine": "engines"}
HAS_UNIX: Final = hasattr(socket, "AF_UNIX")


class Controller:
    """One controller, from listening to leaving."""

    def __init__(self, options: ControllerOptions) -> None:
        self._options = options
        self._keyring = _make_keyring(options)
        self._remote: Remote | None = None
        if options.listen_tcp or not HAS_UNIX:
            self._remote = _make_remote(options, self._keyring)
        self._folder = addresses.runtime_folder(f"{options.profile_dir}:{options.cluster_id}:{self._nonce()}")
        self._segments: SegmentFolder | None = None
        self._ports: dict[str, Port] = {}
        self._written: list[Path] = []
        self._logbook: LogFile | None = None
        self._recall = Recall()
        self._epoch = 1
        self._keeper: Backlog | Writer | None = None
        self._beat = BeatWatch(options.owner_beat) if options.owner_beat is not None else None
        self._owns_folder = False  #: or another controller, which is alive, has its sockets there

    # --- start --------------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Open store and logbook, listen on both ports and tell where.

        Raises OSError or LogbookError if that is not possible.
        """
        if self._options.restore:
            self._logbook = LogFile(self._options.logbook_path)
        self._keeper = _open_store(self._options)
        if self._logbook is not None:
            self._recall = Recall(records_last=self._keeper is not None and self._keeper.lasts)
            self._logbook.read_into(self._recall)
        epoch = self._recall.epoch + 1
        infos = {}
        for kind in DOMAINS:
            before = self._previous(kind)
            epoch = max(epoch, before.epoch + 1) if before is not None else epoch
            self._ports[kind] = self._listen(kind, before)
        self._epoch = epoch
        # Before anybody can know of it: who takes the place of a controller that is killed now needs the same keys.
        self._keep_keys()
        for kind in DOMAINS:
            infos[kind] = self._describe(kind)
            path = infos[kind].save(self._options.connection_path(kind))
            self._written.append(path)
            log.info("writing connection info to %s", path)
        self._announce()
        sweep_segment_folders()
        if self._logbook is None:  # what is in memory does not outlive its owners
            self._segments = make_segment_folder()
            if self._segments is None and sys.platform == "linux":
                log.warning("no room for shared memory in /dev/shm: large buffers take the slower way through sockets")
        if self._options.ready_fd is not None:
            line = json.dumps({kind: info.to_dict() for kind, info in infos.items()}) + "\n"
            with os.fdopen(self._options.ready_fd, "w") as ready:
                ready.write(line)

    def _announce(self) -> None:
        """Say what was started, in the words that tools of earlier generations look for."""
        options = self._options
        log.info("Hub listening on %s for registration.", self._ports["engine"].urls[-1])
        log.info("Hub using DB backend: %r", self._options.store)
        log.info("hub::created hub")
        log.info("task::using Python %s Task scheduler", options.scheme)
        log.info("Heartmonitor started: every %g s", options.heartbeat)
        log.info("Scheduler started [%s]", options.scheme)

    def _listen(self, kind: str, before: ConnectionInfo | None) -> Port:
        urls: list[str] = []
        listener, router = None, None
        if HAS_UNIX:
            path = self._folder / DOMAINS[kind]
            listener = listen_on_path(path)
            self._owns_folder = True
            urls.append(f"ipc://{path}")
        if self._remote is not None:
            try:
                router = self._remote.listen(kind, before)
            except OSError:
                if listener is not None:
                    listener.close()
                raise
            urls.append(router.url)
        return Port(DOMAINS[kind], urls, listener, router, self._options.limits)

    def _describe(self, kind: str, key: Key | None = None, pair: Pair | None = None) -> ConnectionInfo:
        """Connection info for a kind of peer, with its default key or another one."""
        options = self._options
        if key is None and self._keyring is not None:
            key = self._keyring.keys[kind]
        urls = tuple(self._ports[kind].urls)
        info = ConnectionInfo(
            kind="client" if kind == "client" else "engine",
            url=urls[-1],
            urls=urls,
            ssh=options.ssh_server if kind == "client" else options.engine_ssh_server,
            location=options.location or addresses.default_location(),
            cluster_id=options.cluster_id,
            epoch=self._epoch,
            pid=os.getpid(),
            reuse=int(options.reuse),
        )
        if key is None:
            return info
        curve = self._remote.keys_for(key, pair) if self._remote is not None else {}
        return replace(info, exec_key=key.token, **curve)

    def _describe_key(self, key: Key, pair: Pair | None) -> dict[str, object]:
        """Connection info for a key, in plain values. A default key's goes into its file as well: it is a new one."""
        info = self._describe(key.scope.port, key, pair)
        if pair is None:
            info.save(self._options.connection_path(key.name))
        return info.to_dict()

    def _keep_keys(self) -> None:
        if self._keyring is not None and self._options.reuse:
            self._keyring.save(self._options.key_path)

    def _previous(self, kind: str) -> ConnectionInfo | None:
        path = self._options.connection_path(kind)
        if not self._options.reuse or not path.exists():
            return None
        return load(path)

    def _nonce(self) -> str:
        # A controller that reuses its files has to listen where they say; any other must not meet an older one.
        return "" if self._options.reuse else str(os.getpid())

    # --- serve --------------------------------------------------------------------------------------------------

    def serve(self, signals: SignalWatch) -> None:
        """Serve until told to stop, by a client, a signal, or the end of the owner."""
        options = self._options
        scheduler = Scheduler(
            random=random.Random(),  # noqa: S311 - placement
            scheme=options.scheme,
            hwm=options.hwm,
            first_client=first_client(self._epoch),
            logbook=Logbook() if self._logbook is not None else None,
            journal=Journal() if self._keeper is not None else None,
            most_unread=options.limits.unread,
        )
        shared = str(self._segments.path) if self._segments is not None else ""
        welcome = Welcome(-1, "", self._epoch, options.heartbeat, options.window, shared, scheme=options.scheme)
        welcome.patience, welcome.returns, welcome.durable = options.reconnect, options.reuse, options.restore
        safe = Safe(self._logbook) if self._logbook is not None else None
        silence = options.heartbeat * options.max_misses
        clients, engines = self._ports["client"], self._ports["engine"]
        recorder = Recorder(scheduler, self._keeper, shared) if self._keeper is not None else None
        door = Door(self._keyring, describe=self._describe_key, changed=self._keep_keys)
        server = Server(
            scheduler,
            clients=clients,
            engines=engines,
            welcome=welcome,
            silence=silence,
            local_patience=options.reconnect if options.reuse else 0.0,
            safe=safe,
            recorder=recorder,
            door=door,
        )
        if safe is not None and self._logbook is not None:
            server.recall(self._recall)
            safe.begin_anew(server.written())
            log.info("recalled %d tasks from %s", len(scheduler.book.tasks), self._logbook.path)
            self._recall = Recall()
            self._logbook.start()
        doorkeeper = self._remote.doorkeeper if self._remote is not None else None
        loop = Loop(server, [clients, engines], doorkeeper, signals)
        if isinstance(self._keeper, Writer):
            loop.watch_store(self._keeper)
        if options.owner_pid is not None:
            loop.watch_owner(options.owner_pid)
        if self._beat is not None:
            loop.watch_beat(self._beat)
            self._beat.start()
        if self._logbook is not None:
            loop.watch_logbook(self._logbook)
        _tune_collector()
        reason = loop.run()
        if self._logbook is not None and self._logbook.failure is not None:
            # Without a good-bye: peers wait for another controller, to which everything acknowledged is known.
            raise LogbookError(f"leaving, for the logbook cannot be written: {self._logbook.failure}")
        log.info("leaving: %s", reason)
        server.say_goodbye(f"The controller was stopped: {reason}.")
        if safe is not None and recorder is not None:
            self._end_records(scheduler, recorder, safe)

    def _end_records(self, scheduler: Scheduler, recorder: Recorder, safe: Safe) -> None:
        """Have the store told of all that has ended, and the logbook of what the store has."""
        assert self._logbook is not None
        assert scheduler.logbook is not None
        scheduler.settle()
        recorder.collect(now_or_never=True)
        safe.write(scheduler.logbook.take())
        self._logbook.flush()
        safe.release(lambda what: None if isinstance(what, Action | Receipt) else what())  # nothing is sent any more
        recorder.keeper.close()
        recorder.collect()
        safe.write(scheduler.logbook.take())

    # --- end ----------------------------------------------------------------------------------------------------

    def close(self) -> None:
        """Close sockets and remove files, unless they are to be reused."""
        for port in self._ports.values():
            port.close(FAREWELL)
        if self._remote is not None:
            self._remote.close()
        if self._keeper is not None:
            self._keeper.close()
        if self._beat is not None:
            self._beat.close()
        if self._segments is not None:
            self._segments.remove()
        if self._logbook is not None:
            self._logbook.close()
        if self._owns_folder:
            addresses.remove_runtime_folder(self._folder)
        for path in () if self._options.reuse else self._written:
            # Another controller may have put its own in their place.
            with contextlib.suppress(OSError, ConnectionFileError):
                if load(path).pid == os.getpid():
                    path.unlink()


def _open_store(options: ControllerOptions) -> Backlog | Writer | None:
    try:
        # What has not ended stands in the logbook, if there is one: to write it twice would take half of the time.
        return open_store(options.store, options.store_settings, options.profile_dir, only_ended=options.restore)
    except (ImportError, AttributeError, TypeError) as error:
        msg = (
            f"The task store {options.store!r} cannot be made: {type(error).__name__}: {error}. It has to be the dotted "
            "name of a class like those in enginery.store.interface, which takes its settings as keyword arguments."
        )
        raise OSError(msg) from error


def _make_keyring(options: ControllerOptions) -> Keyring | None:
    """The keys of this start; None if nobody needs one. Raises ConnectionFileError if those of the last are damaged."""
    if not options.secure:
        return None
    keyring = Keyring(given=options.key)
    stored = read_stored(options.key_path) if options.reuse else None
    if options.listen_tcp or not HAS_UNIX:
        from enginery.controller import remote  # libzmq, see below

        if remote.can_encrypt(options):
            keyring.fill(remote.make_pair, stored, remote.given_pairs(options))
            return keyring
    keyring.fill(None, stored)
    return keyring


def _make_remote(options: ControllerOptions, keyring: Keyring | None) -> Remote:
    from enginery.controller.remote import Remote  # libzmq: only who listens beyond this host pays for it

    return Remote(options, keyring)


def _raise_descriptor_limit() -> None:
    """As many peers as the system allows, not as many as shells allow for programs that use select."""
    if sys.platform != "win32":
        import resource  # not everywhere

        _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
        with contextlib.suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


def _tune_collector() -> None:
    """Let the collector leave what start-up made alone, and look rarely: tasks hold no cycles."""
    gc.freeze()
    gc.set_threshold(100_000, 20, 100)


def run(options: ControllerOptions, started: Callable[[], object] = lambda: None) -> int:
    """Run a controller until it is stopped. Returns the exit code.

    ``started`` is called once its connection files tell of it.
    """
    handler: logging.Handler = logging.FileHandler(options.log) if options.log else logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s controller %(message)s"))
    log.addHandler(handler)
    log.setLevel(options.log_level)
    publisher = publish(log, options.log_url, "controller")
    _raise_descriptor_limit()
    # From before anybody can know of this controller: whoever does may ask it to leave.
    signals = SignalWatch()
    controller: Controller | None = None
    try:
        controller = Controller(options)
        controller.start()
        started()
        controller.serve(signals)
    except (OSError, ConnectionFileError, LogbookError) as error:
        log.error("%s", error)  # noqa: TRY400 - the message says all; a traceback would hide it
        return 1
    finally:
        if controller is not None:
            controller.close()
        signals.close()
        for each in (handler, publisher):
            if each is not None:
                log.removeHandler(each)
                each.close()
    return 0
