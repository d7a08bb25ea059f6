"""ipcontroller: the command that runs the controller."""

from __future__ import annotations

import contextlib
import sys
from pathlib import Path
from typing import Any, Final, cast

from traitlets import Bool, Enum, Float, Integer, List, Unicode, default
from traitlets.config.application import catch_config_error

from enginery.cli.owner import clean_up_after_owner
from enginery.config.application import BASE_ALIASES, BASE_FLAGS, USAGE, BaseParallelApplication, ProfileDir
from enginery.config.controller import HIGHEST_PORT, HeartMonitor, Session, TaskScheduler, parse_ports
from enginery.config.fields import build
from enginery.controller.options import ControllerOptions
from enginery.net import profile_paths
from enginery.net.addresses import default_location, is_loopback

FLAGS: Final[dict[Any, Any]] = {
    **BASE_FLAGS,
    "restore": (
        {"IPController": {"restore": True}},
        "Save every accepted task before it is acknowledged, and go on with what was saved. Implies --reuse.",
    ),
    "reuse": (
        {"IPController": {"reuse_files": True}},
        "Keep ports and keys of the connection files that are there, so that copies of them stay valid.",
    ),
    "secure": ({"IPController": {"secure": True}}, "Authenticate peers (the default)."),
    "no-secure": ({"IPController": {"secure": False}}, "Let anybody connect who can reach the ports."),
    "enable-curve": ({"IPController": {"enable_curve": True}}, "Encrypt tcp connections (the default)."),
    "disable-curve": ({"IPController": {"enable_curve": False}}, "Sign tcp connections, but do not encrypt them."),
}
ALIASES: Final[dict[Any, Any]] = {
    **BASE_ALIASES,
    "ip": "IPController.ip",
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
    "ready-fd": "IPController.ready_fd",
    "owner-pid": "IPController.owner_pid",
    "owner-file": "IPController.owner_files",
}
CLASSES: Final[Any] = [ProfileDir, HeartMonitor, TaskScheduler, Session]


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

    ip = Unicode("127.0.0.1", help="Address to listen on; '*' is every interface.").tag(config=True)
    transport = Enum(
        ("", "tcp", "ipc"), default_value="", help="'ipc' serves this host only; otherwise tcp is served as well."
    ).tag(config=True)
    location = Unicode(help="Host name or address of this host as others see it (default: its host name).").tag(
        config=True
    )
    ports = Unicode("", help="Ports for clients and engines, such as '10101,10102' (default: any).").tag(config=True)
    client_ports = Unicode("", help="Port for clients.").tag(config=True)
    engine_ports = Unicode("", help="Port for engines.").tag(config=True)
    ssh_server = Unicode("", help="[user@]server[:port] that clients tunnel through.").tag(config=True)
    engine_ssh_server = Unicode("", help="[user@]server[:port] that engines tunnel through.").tag(config=True)
    reuse_files = Bool(False, help="Keep ports and keys of the connection files that are there.").tag(config=True)
    restore = Bool(
        False,
        help="Save what is accepted, and go on with it after the controller was killed; implies --reuse.",
    ).tag(config=True)
    reconnect = Float(
        30.0,
        min=0.0,
        help="Seconds in which clients and engines whose connection is lost may come back; 0: not at all.",
    ).tag(config=True)
    client_json_file = Unicode(help="Name of the connection file for clients.").tag(config=True)
    engine_json_file = Unicode(help="Name of the connection file for engines.").tag(config=True)
    secure = Bool(True, help="Authenticate peers.").tag(config=True)
    enable_curve = Bool(True, help="Encrypt tcp connections.").tag(config=True)
    ready_fd = Integer(-1, help="File descriptor to report both connection infos on; used by launchers.").tag(
        config=True
    )
    owner_pid = Integer(0, help="Leave when the process with this id is gone; used by launchers.").tag(config=True)
    owner_files = List(Unicode(), help="Files to remove when the owner is gone; used by launchers.").tag(config=True)

    @default("auto_create")
    def _default_auto_create(self) -> bool:
        return True

    @default("location")
    def _default_location(self) -> str:
        return default_location()

    @default("client_json_file")
    def _default_client_json_file(self) -> str:
        return profile_paths.connection_path(self.profile_dir, "client", self.cluster_id).name

    @default("engine_json_file")
    def _default_engine_json_file(self) -> str:
        return profile_paths.connection_path(self.profile_dir, "engine", self.cluster_id).name

    def options(self) -> ControllerOptions:
        """What the controller program is told; leaves the program if the settings cannot be."""
        security = self.profile_dir / "security"
        client_port, engine_port = self._ports()
        scheduler = TaskScheduler(parent=self)
        secure = self.secure and Session(parent=self).key != ""
        if not secure and not is_loopback(self.ip) and self.transport != "ipc":
            self.log.warning("Without authentication on %s, anybody who reaches it can run code here.", self.ip)
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
            "restore": self.restore,
            "reconnect": self.reconnect,
            "heartbeat": HeartMonitor(parent=self).period / 1000,
            "scheme": scheduler.scheme_name,
            "hwm": None if scheduler.hwm < 0 else scheduler.hwm,
            "window": scheduler.window,
            "client_file": security / self.client_json_file,
            "engine_file": security / self.engine_json_file,
            "secure": secure,
            "curve": self.enable_curve,
            "ready_fd": None if self.ready_fd < 0 else self.ready_fd,
            "owner_pid": self.owner_pid or None,
            "log": str(self.log_file) if self.log_to_file else "",
            "log_level": cast("int", self.log_level),
            "log_url": self.log_url,
        }
        return build(ControllerOptions, settings, optional=frozenset({"log_level"}))

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
        code = 1
        with contextlib.suppress(KeyboardInterrupt):
            code = run(options)
        clean_up_after_owner(options.owner_pid, [Path(path) for path in self.owner_files])
        sys.exit(code)


def main() -> None:
    """Run the command line of ipcontroller."""
    IPController.launch_instance()
