"""ipcontroller: the command that runs the controller."""

from __future__ import annotations

import contextlib
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, cast

import traitlets
from traitlets import Bool, Enum, Float, Integer, List, Unicode, default
from traitlets.config.application import catch_config_error

from enginery.cli.owner import clean_up_after_owner, owner_of_this, remove_files
from enginery.config.application import (
    ALREADY_STARTED,
    BASE_ALIASES,
    BASE_FLAGS,
    USAGE,
    BaseParallelApplication,
    ProfileDir,
)
from enginery.config.controller import HIGHEST_PORT, HeartMonitor, PeerLimits, Session, TaskScheduler, parse_ports
from enginery.config.fields import build
from enginery.config.stores import STORES, store_settings
from enginery.controller.limits import Limits
from enginery.controller.options import ControllerOptions
from enginery.errors import ConnectionFileError
from enginery.net import profile_paths
from enginery.net.addresses import default_location, is_loopback, is_wildcard, reachable_location
from enginery.net.connection_file import keys_in_environment, load
from enginery.net.liveness import is_controller_there
from enginery.net.signals import end_once
from enginery.net.ssh_server import parse_server
from enginery.net.start_lock import StartLock, TakenError, start_lock_path
from enginery.store.choice import DEFAULT, canonical

if TYPE_CHECKING:
    from collections.abc import Callable

UNENCRYPTED: Final = "Sign tcp connections, but do not encrypt them: others can read what passes, and change nothing."
FLAGS: Final[dict[Any, Any]] = {
    **BASE_FLAGS,
    "reuse": (
        {"IPController": {"reuse_files": True}},
        "Keep ports and keys of the connection files that are there, so that copies of them stay valid.",
    ),
    "secure": ({"IPController": {"secure": True}}, "Authenticate peers (the default)."),
    "no-secure": (
        {"IPController": {"secure": False}},
        "Let anybody connect who can reach the ports; beyond this host that needs --allow-anyone as well.",
    ),
    "allow-anyone": (
        {"IPController": {"allow_anyone": True}},
        "With --no-secure: yes, everybody who reaches the address may run code as this user.",
    ),
    "restore": (
        {"IPController": {"restore_engines": True}},
        "Save what is accepted, and take the place of a controller that was killed, with all it had saved. Implies --reuse.",
    ),
    "enable-curve": ({"IPController": {"enable_curve": True}}, "Encrypt tcp connections (the default)."),
    "disable-curve": ({"IPController": {"enable_curve": False}}, UNENCRYPTED),
    "no-curve": ({"IPController": {"enable_curve": False}}, UNENCRYPTED),
    "nodb": ({"IPController": {"db_class": "NoDB"}}, "Keep no records of tasks."),
    "dictdb": ({"IPController": {"db_class": "DictDB"}}, "Keep the newest records in memory (the default)."),
    "sqlitedb": ({"IPController": {"db_class": "SQLiteDB"}}, "Keep records in an SQLite database, which lasts."),
    "mongodb": ({"IPController": {"db_class": "MongoDB"}}, "Keep records in a MongoDB database, which lasts."),
}
ALIASES: Final[dict[Any, Any]] = {
    **BASE_ALIASES,
    "ip": "IPController.ip",
    "url": "IPController.url",
    "transport": "IPController.transport",
    "location": "IPController.location",
    "ports": "IPController.ports",
    "client-port": "IPController.client_ports",
    "engine-port": "IPController.engine_ports",
    "ssh": "IPController.ssh_server",
    "enginessh": "IPController.engine_ssh_server",
    "ping": "HeartMonitor.period",
    "scheme": "TaskScheduler.scheme_name",
    "hwm": "TaskScheduler.hwm",
    "window": "TaskScheduler.window",
    "reconnect": "IPController.reconnect",
    "keyfile": "Session.keyfile",
    "ready-fd": "IPController.ready_fd",
    "owner-pid": "IPController.owner_pid",
    "owner-file": "IPController.owner_files",
    "owner-beat": "IPController.owner_beat",
}
CLASSES: Final[Any] = [ProfileDir, HeartMonitor, TaskScheduler, Session, PeerLimits, *STORES.values()]


class IPController(BaseParallelApplication):
    """Runs the controller: the process that clients and engines connect to."""

    name = Unicode("ipcontroller")
    description = Unicode(
        "Start the controller of a cluster. Engines (ipengine) and clients (enginery.Client) find it by the connection "
        "files it writes into the security folder of its profile."
    )
    examples = Unicode(
        "ipcontroller --ip=192.168.0.1 --client-port=10101 --engine-port=10102\nipcontroller --scheme=lru"
    )
    flags = FLAGS
    aliases = ALIASES
    classes = CLASSES

    url = Unicode(
        "", help="Transport, address and port for engines at once: tcp://192.168.0.1:10102, or tcp://* for any port."
    ).tag(config=True)
    ip = Unicode(
        "127.0.0.1", help="Address, host name or interface to listen on; '*' is every interface of this host."
    ).tag(config=True)
    transport = Enum(
        ("", "tcp", "ipc"), default_value="", help="'ipc' serves this host only; otherwise tcp is served as well."
    ).tag(config=True)
    location = Unicode(help="Host name or address of this host as others see it (default: its host name).").tag(
        config=True
    )
    ports = traitlets.Any("", help="Ports for clients and engines, such as '10101,10102' (default: any).").tag(
        config=True
    )
    client_ports = traitlets.Any("", help="Port for clients.").tag(config=True)
    engine_ports = traitlets.Any("", help="Port for engines.").tag(config=True)
    ssh_server = Unicode(
        "", help="[user@]server[:port] that clients on other hosts tunnel through; written into their connection file."
    ).tag(config=True)
    engine_ssh_server = Unicode("", help="The same for engines.").tag(config=True)
    reuse_files = Bool(False, help="Keep ports and keys of the connection files that are there.").tag(config=True)
    reconnect = Float(
        30.0,
        min=0.0,
        help="Seconds in which clients and engines whose connection is lost may come back; 0: not at all.",
    ).tag(config=True)
    client_json_file = Unicode(help="Name of the connection file for clients.").tag(config=True)
    engine_json_file = Unicode(help="Name of the connection file for engines.").tag(config=True)
    secure = Bool(True, help="Authenticate peers.").tag(config=True)
    allow_anyone = Bool(False, help="With secure=False: also beyond this host, where anybody may come.").tag(
        config=True
    )
    restore_engines = Bool(
        False,
        help="Save what is accepted, and take the place of a controller that was killed: its ports, keys, engines, clients "
        "and tasks.",
    ).tag(config=True)
    enable_curve = Bool(
        help="Encrypt tcp connections; otherwise they are signed (default: yes, unless $IPP_ENABLE_CURVE is 0)."
    ).tag(config=True)
    curve_secretkey = Unicode(
        help="Secret CURVE key of the controller (default: $IPP_CURVE_SECRETKEY, else one made for it)."
    ).tag(config=True)
    db_class = Unicode(
        DEFAULT,
        help="Where records of tasks are kept: NoDB, DictDB, SQLiteDB, MongoDB, or the dotted name of a class of your own.",
    ).tag(config=True)
    ready_fd = Integer(-1, help="File descriptor to report both connection infos on; used by launchers.").tag(
        config=True
    )
    owner_pid = Integer(0, help="Leave when the process with this id (-1: the parent) is gone; used by launchers.").tag(
        config=True
    )
    owner_beat = Unicode(
        "", help="Leave when this file has not been touched for a minute; used by launchers on other hosts."
    ).tag(config=True)
    owner_files = List(Unicode(), help="Files to remove when the owner is gone; used by launchers.").tag(config=True)

    @default("auto_create")
    def _default_auto_create(self) -> bool:
        return True

    @default("enable_curve")
    def _default_enable_curve(self) -> bool:
        return os.environ.get("IPP_ENABLE_CURVE", "1") != "0"

    @default("curve_secretkey")
    def _default_curve_secretkey(self) -> str:
        return keys_in_environment()["secret_key"]

    @default("location")
    def _default_location(self) -> str:
        return reachable_location() if is_wildcard(self.ip) else default_location()

    @default("client_json_file")
    def _default_client_json_file(self) -> str:
        return profile_paths.connection_path(self.profile_dir, "client", self.cluster_id).name

    @default("engine_json_file")
    def _default_engine_json_file(self) -> str:
        return profile_paths.connection_path(self.profile_dir, "engine", self.cluster_id).name

    def options(self) -> ControllerOptions:
        """What the controller program is told; leaves the program if the settings cannot be."""
        security = self.profile_dir / "security"
        self._split_url()
        self._check_servers()
        client_port, engine_port = self._ports()
        scheduler = TaskScheduler(parent=self)
        heart = HeartMonitor(parent=self)
        key = self._key()
        secure = self.secure and key != ""
        if not secure and not is_loopback(self.ip) and self.transport != "ipc":
            self._admit_anyone()
        settings = {
            "profile_dir": self.profile_dir,
            "cluster_id": self.cluster_id,
            "ip": self.ip,
            "listen_tcp": self.transport != "ipc",
            "client_port": client_port,
            "engine_port": engine_port,
            "location": self.location,
            "ssh_server": self.ssh_server,
            "engine_ssh_server": self.engine_ssh_server,
            "reuse": self.reuse_files,
            "restore": self.restore_engines,
            "reconnect": self.reconnect,
            "heartbeat": heart.period / 1000,
            "max_misses": heart.max_heartmonitor_misses,
            "scheme": scheduler.scheme_name,
            "hwm": None if scheduler.hwm < 0 else scheduler.hwm,
            "window": scheduler.window,
            "client_file": security / self.client_json_file,
            "engine_file": security / self.engine_json_file,
            "secure": secure,
            "curve": self.enable_curve,
            "key": key or "",
            "server_secret": self.curve_secretkey,
            "limits": self._limits(),
            "ready_fd": None if self.ready_fd < 0 else self.ready_fd,
            "owner_pid": owner_of_this(self.owner_pid),
            "owner_beat": Path(self.owner_beat) if self.owner_beat else None,
            "log": str(self.log_file) if self.log_to_file else "",
            "log_level": cast("int", self.log_level),
            "log_url": self.log_url,
            "store": self._store(),
            "store_settings": store_settings(self._store(), self),
        }
        return build(ControllerOptions, settings, optional=frozenset({"log_level"}))

    def _admit_anyone(self) -> None:
        """Say what it means to ask nobody for a key beyond this host; leaves the program unless that was said twice."""
        meaning = (
            f"without keys on {self.ip}, everybody who reaches that address can run code here as this user, read what is "
            "computed and stop it"
        )
        if not self.allow_anyone:
            self.fail(
                f"{meaning}. Leave out --no-secure (keys need no care: they are in the connection files), stay on this "
                "host (--ip=127.0.0.1), or add --allow-anyone if the network lets nobody else in.",
                USAGE,
            )
        self.log.warning("--no-secure --allow-anyone: %s.", meaning)

    def _split_url(self) -> None:
        """Take apart what ``url`` says, which stands above the parts."""
        if not self.url:
            return
        transport, _, rest = self.url.partition("://")
        host, colon, port = (
            (rest, "", "") if rest.endswith("]") else rest.rpartition(":") if ":" in rest else (rest, "", "")
        )
        try:
            if transport == "ipc":  # the socket's place is ours to choose
                self.transport = "ipc"
                return
            if transport != "tcp" or not host or (colon and port not in ("", "*") and not parse_ports(port)):
                raise ValueError(f"{self.url!r} is no address to listen at; expected tcp://address[:port] or ipc://")
        except ValueError as error:
            self.fail(f"{error} (--url).", USAGE)
        self.transport, self.ip = "tcp", host
        if port.isdigit():
            self.engine_ports = port

    def _check_servers(self) -> None:
        """Leave the program if an ssh server is none, before it stands in files that are copied about."""
        for server, option in ((self.ssh_server, "--ssh"), (self.engine_ssh_server, "--enginessh")):
            if not server:
                continue
            try:
                parse_server(server)
            except ValueError as error:
                self.fail(f"{option}: {error}", USAGE)
            if self.transport == "ipc":
                self.fail(f"{option}: a tunnel needs a tcp port to lead to. Leave out --transport=ipc.", USAGE)

    def _store(self) -> str:
        try:
            return canonical(self.db_class)
        except ValueError as error:
            self.fail(f"{error} (IPController.db_class).", USAGE)

    def _key(self) -> str | None:
        """The secret that keys are made from; None for new ones, empty for none at all."""
        try:
            return Session(parent=self).secret()
        except (OSError, ValueError) as error:
            self.fail(f"{error} (--keyfile).", USAGE)

    def _limits(self) -> Limits:
        """What one peer may take; 0 leaves the default."""
        given = PeerLimits(parent=self)
        names = ("hello", "strangers", "connections", "frames", "message", "queue", "unread", "rejected")
        return Limits(**{name: value for name in names if (value := getattr(given, name))})

    def lock_start(self, options: ControllerOptions) -> Callable[[], object]:
        """Be the only one who starts for this profile and cluster id, or leave the program. Returns what lets others."""
        path = options.connection_path("client")
        try:
            return StartLock(start_lock_path(path)).release
        except TakenError:
            self.fail(
                f"another controller that will serve {str(path)!r} is just being started. Use that one, or start another "
                "beside it with --cluster-id=NAME or --profile=NAME.",
                ALREADY_STARTED,
            )
        except OSError:
            return lambda: None  # no file can be written there, of which the connection files will tell

    def refuse_to_be_second(self, options: ControllerOptions) -> None:
        """Leave the program if a controller serves this profile and cluster id already.

        Files of one that was killed are no sign of life.
        """
        path = options.connection_path("client")
        try:
            other = load(path)
        except (OSError, ConnectionFileError):
            # No file, or none that says anything: it is replaced.
            return
        if other.pid == os.getpid() or not is_controller_there(other):
            return
        self.fail(
            f"a controller (pid {other.pid} on {other.location}) serves {str(path)!r} already. Stop it, or start another "
            "beside it with --cluster-id=NAME or --profile=NAME.",
            ALREADY_STARTED,
        )

    def _ports(self) -> tuple[int, int]:
        """Ports for clients and engines, 0 where any will do."""
        try:
            both = parse_ports(self.ports)
            client = parse_ports(self.client_ports) or both[:1]
            engine = parse_ports(self.engine_ports) or both[1:2]
        except ValueError as error:
            self.fail(f"{error} (--ports, --client-port, --engine-port).", USAGE)
        if client and client[:1] == engine[:1]:
            self.fail(f"clients and engines cannot share port {client[0]}; ports are 1 to {HIGHEST_PORT}.", USAGE)
        return (client or [0])[0], (engine or [0])[0]

    @catch_config_error
    def initialize(self, argv: Any = None) -> None:
        """Read the command line and the configuration files."""
        super().initialize(argv)

    def start(self) -> None:
        """Run the controller until it is told to leave, and exit with its code."""
        super().start()
        # Only now: --help and a wrong argument need not wait for zmq.
        from enginery.controller.program import run

        options = self.options()
        release = self.lock_start(options)
        code = 1
        try:
            self.refuse_to_be_second(options)
            if self.restore_engines:
                self.log.info(
                    "Restoring ports and keys from %s; engines and clients come back by themselves",
                    options.connection_path("engine"),
                )
            end_once()
            with contextlib.suppress(KeyboardInterrupt):
                code = run(options, started=release)
        finally:
            release()
        files = [Path(path) for path in self.owner_files]
        clean_up_after_owner(options.owner_pid, files)
        if options.owner_beat is not None and not options.owner_beat.exists():
            remove_files(files)
        sys.exit(code)


def main() -> None:
    """Run the command line of ipcontroller."""
    IPController.launch_instance()
