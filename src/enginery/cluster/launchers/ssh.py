"""Launchers for ssh: programs on other hosts that need nothing of this one, no shared file system above all.

One connection to each host carries everything: what to run, how to reach the controller, signals one way, and output
the other. A program ends with its connection. What holds the connections is a process of its own (``carrier``), and
what runs on the other side is in ``remote_side``.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from traitlets import Container, Dict, Float, Integer, List, Tuple, Unicode, default

from enginery.cluster.launchers.base import ControllerLauncher, EngineLauncher
from enginery.cluster.launchers.carrier import BOOTSTRAP
from enginery.cluster.launchers.local import LocalControllerLauncher, LocalProcessLauncher
from enginery.errors import LauncherError
from enginery.net.addresses import is_local, local_addresses
from enginery.net.connection_file import ConnectionInfo

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

CARRIER: Final = (sys.executable, "-m", "enginery.cluster.launchers.carrier")
#: ``host``, ``user@host``, ``user@host:port``; an IPv6 address in brackets.
ADDRESS: Final = re.compile(r"(?:(?P<user>[^@]+)@)?(?P<host>\[[^\]]+\]|[^:@]+|[0-9a-fA-F:]+)(?::(?P<port>\d+))?")
#: A host that vanishes is noticed within 45 s. OpenSSH heeds the first word it is told, which is the user's.
KEEP_ALIVE: Final = ("-o", "ServerAliveInterval=15", "-o", "ServerAliveCountMax=3")
#: Arguments by which a program is told its profile.
PROFILES: Final = frozenset({"--profile", "--profile-dir", "--ProfileDir.location", "--ipython-dir"})
#: Settings of a set of engines that hold for each of its hosts, unless the host has its own.
SHARED: Final = (
    "ssh_cmd", "ssh_args", "scp_cmd", "scp_args", "user", "port", "remote_python", "remote_profile_dir", "to_send",
    "to_fetch", "engine_cmd", "environment",
)  # fmt: skip


class SSHLauncher(LocalProcessLauncher):
    """A program on another host, started by ssh."""

    needs_network = True

    ssh_cmd = List(Unicode(), ["ssh"], help="The ssh command.").tag(config=True)
    ssh_args = List(Unicode(), help="Its arguments, such as ['-F', 'ssh_config'].").tag(config=True)
    scp_cmd = List(Unicode(), ["scp"], help="The command that copies to_send and to_fetch.").tag(config=True)
    scp_args = List(Unicode(), help="Its arguments.").tag(config=True)
    hostname = Unicode("", help="The host.").tag(config=True)
    user = Unicode("", help="The user there (default: what ssh's configuration says).").tag(config=True)
    port = Integer(0, help="The port of its ssh server (default: what ssh's configuration says).").tag(config=True)
    location = Unicode("", help="All of these in one: [user@]host[:port].").tag(config=True)
    to_send = List(
        Tuple(Unicode(), Unicode()),
        help="Files to copy there first: (local, remote). If set, even to [], connection info is not sent by itself.",
    ).tag(config=True)
    to_fetch = List(
        Tuple(Unicode(), Unicode()),
        help="Files to copy from there: (remote, local). If set, even to [], connection files are not written here.",
    ).tag(config=True)
    remote_profile_dir = Unicode(
        help="The profile there (default: the same as here, below the home folder if it is below ours)."
    ).tag(config=True)
    remote_python = Unicode("python3", help="The Python that enginery is installed for there.").tag(config=True)
    stop_seconds_until_kill = Float(10.0, help="Seconds a program has to leave before it is killed.").tag(config=True)

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        #: What was set, by configuration or arguments, as opposed to what is a default.
        self.given = {name: getattr(self, name) for name in SHARED if self._is_set(name)}

    def _is_set(self, name: str) -> bool:
        trait = self.traits().get(name)
        if trait is None or not self.trait_has_value(name):
            return False
        # Of plain values the default is there from the beginning; lists are made when they are asked for.
        return isinstance(trait, Container) or getattr(self, name) != trait.default_value

    @default("remote_profile_dir")
    def _default_remote_profile_dir(self) -> str:
        if not self.profile_dir:
            return ""
        folder, home = Path(self.profile_dir).absolute(), Path.home()
        return str(folder.relative_to(home)) if folder.is_relative_to(home) else str(folder)

    # --- what runs there ---

    @property
    def program_args(self) -> list[str]:
        """The command line of the program on the other host."""
        raise NotImplementedError

    @property
    def cluster_args(self) -> list[str]:
        """Arguments that say which cluster it is, with the profile as it is called there; the user's own win."""
        values = {"--profile-dir": self.remote_profile_dir, "--cluster-id": self.cluster_id}
        given = {each.partition("=")[0] for each in self.program_arguments}
        if not PROFILES.isdisjoint(given):
            given.add("--profile-dir")
        return [f"{name}={value}" for name, value in values.items() if value and name not in given]

    @property
    def program_arguments(self) -> list[str]:
        """The user's arguments of the program."""
        return []

    def find_args(self) -> list[str]:
        """As one would type it: ssh, the host, and the program."""
        return [*self.ssh_command(), shlex.join(self.program_args)]

    def get_env(self) -> dict[str, str]:
        """Environment variables of the program on the other host."""
        return {**super().get_env(), "IPP_PROFILE_DIR": self.remote_profile_dir}

    def process_env(self) -> dict[str, str]:
        """None for the process on this host: what is set is meant for the other one."""
        return {}

    # --- how it gets there ---

    def target(self) -> tuple[str, str, int]:
        """User, host and port; empty and 0 where ssh's configuration decides. Raises LauncherError."""
        text = self.location or self.hostname
        matched = ADDRESS.fullmatch(text)
        if matched is None:
            what = f"{text!r} is no [user@]host[:port]" if text else "no host is named"
            msg = f"Cannot start a program by ssh: {what}. Set {type(self).__name__}.hostname."
            raise LauncherError(msg)
        return matched["user"] or self.user, matched["host"].strip("[]"), int(matched["port"] or self.port)

    def ssh_command(self) -> list[str]:
        """Ssh with its arguments and the host."""
        user, host, port = self.target()
        alive = KEEP_ALIVE if Path(self.ssh_cmd[0]).name == "ssh" else ()
        where = ["-p", str(port)] if port else []
        return [*self.ssh_cmd, *self.ssh_args, *alive, *where, f"{user}@{host}" if user else host]

    def scp_command(self, source: str, destination: str, *, fetch: bool) -> list[str]:
        """Scp for one file; relative names belong to the home folder there."""
        user, host, port = self.target()
        host = f"[{host}]" if ":" in host else host
        there = f"{user}@{host}:" if user else f"{host}:"
        where = ["-P", str(port)] if port else []
        ends = [there + source, destination] if fetch else [source, there + destination]
        return [*self.scp_cmd, *self.scp_args, *where, *ends]

    @property
    def connection_to_send(self) -> ConnectionInfo | None:
        """How engines reach the controller, if they shall be told."""
        return None

    def host_order(self, **more: Any) -> dict[str, Any]:
        """What the carrier is told of this host."""
        user, host, port = self.target()
        name = f"{user}@{host}" if user else host
        folders = {str(Path(remote).parent) for _, remote in self.to_send} - {"."}
        connection = self.connection_to_send
        order = {
            "command": self.program_args,
            "python": self.remote_python,
            "environment": {key: value for key, value in self.get_env().items() if key != "IPP_CONNECTION_INFO"},
            "folders": sorted(folders),
            "patience": self.stop_seconds_until_kill / 2,
            "connection": connection.to_dict() if connection is not None else None,
            "locations": sorted(each for each in local_addresses() if ":" not in each and not each.startswith("127.")),
            "owned": True,
            **more,
        }
        return {
            "name": f"{name}:{port}" if port else name,
            "ssh": [*self.ssh_command(), f"{self.remote_python} -c {BOOTSTRAP}"],
            "python": self.remote_python,
            "order": order,
            "send": [self.scp_command(local, remote, fetch=False) for local, remote in self.to_send],
            "fetch": [self.scp_command(remote, local, fetch=True) for remote, local in self.to_fetch],
        }

    def send_order(self, hosts: Iterable[Mapping[str, Any]]) -> None:
        """Tell the carrier what to do. What is secret goes through this pipe and on through ssh."""
        assert self.process is not None
        pipe = self.process.stdin
        assert pipe is not None
        owner = os.getpid() if self.owned else 0
        litter = [path for path in (self.cluster_file, str(self.output_file or "")) if path]
        order = {"hosts": list(hosts), "owner": owner, "owner_files": litter}
        try:
            pipe.write(json.dumps(order).encode())
            pipe.close()
        except OSError:
            # It is gone already, which the thread that waits for it reports.
            return

    def launch_carrier(self, hosts: Sequence[Mapping[str, Any]], output: Path) -> None:
        """Start the carrier and give it its order."""
        self.launch([*CARRIER], output, pipe_stdin=True)
        self.send_order(hosts)


class SSHControllerLauncher(SSHLauncher, LocalControllerLauncher):
    """A controller on another host. Its connection files are written here as well when it is ready."""

    @default("controller_cmd")
    def _default_controller_cmd(self) -> list[str]:
        return [self.remote_python, "-m", "enginery.controller"]

    @property
    def program_arguments(self) -> list[str]:
        """The user's arguments of the program."""
        return list(self.controller_args)

    @property
    def program_args(self) -> list[str]:
        """The command with the cluster's arguments, then the user's."""
        return ControllerLauncher.find_args(self)

    def start(self, n: int | None = None) -> None:  # noqa: ARG002 - for engines
        """Start the controller; ``get_connection_info`` waits until it is ready."""
        located = any(each.startswith(("--location", "--IPController.location")) for each in self.controller_args)
        hosts = [self.host_order(reports=True, locate=not located)]
        self.output_file = self.log_file("ipcontroller", os.getpid())
        self.start_and_listen([*CARRIER], stdout=True, pipe_stdin=True)
        self.send_order(hosts)

    def get_connection_info(self, timeout: float | None = None) -> dict[str, ConnectionInfo]:
        """Wait until the controller is ready. Raises LauncherError at once if it ends instead."""
        infos = super().get_connection_info(timeout)
        _, host, _ = self.target()
        # Sockets of that host mean nothing here, or something else.
        if not is_local(host):
            infos["client"] = without_sockets(infos["client"])
        if "to_fetch" not in self.given:
            for kind, info in infos.items():
                info.save(self.connection_files[kind])
        return infos


def without_sockets(info: ConnectionInfo) -> ConnectionInfo:
    """The same connection, for another host."""
    urls = [url for url in info.urls if url.startswith("tcp://")]
    return ConnectionInfo.from_dict({**info.to_dict(), "url": urls[0], "urls": urls}) if urls else info


class SSHEngineLauncher(SSHLauncher, EngineLauncher):
    """Engines on one other host, forked there by one host process."""

    @default("engine_cmd")
    def _default_engine_cmd(self) -> list[str]:
        return [self.remote_python, "-m", "enginery.engine"]

    @property
    def program_arguments(self) -> list[str]:
        """The user's arguments of the program."""
        return list(self.engine_args)

    @property
    def program_args(self) -> list[str]:
        """The command with the cluster's arguments, the number of engines, then the user's."""
        return [*self.engine_cmd, *self.cluster_args, f"--n={self.n}", *self.engine_args]

    @property
    def connection_to_send(self) -> ConnectionInfo | None:
        """How to reach the controller, unless the user sees to that."""
        return None if "to_send" in self.given else self.connection

    def start(self, n: int | None = None) -> None:
        """Start the engines."""
        self.n = self.n if n is None else n
        hosts = [self.host_order()]
        self.launch_carrier(hosts, self.log_file("ipengine", self.engine_set_id or os.getpid()))

    def launch(self, args: Sequence[str], output: Path, **kwargs: Any) -> Any:
        """As of every program."""
        self.output_file = output
        return super().launch(args, output, **kwargs)

    def engine_pids(self) -> frozenset[int]:
        """None of this host."""
        return frozenset()

    def to_dict(self) -> dict[str, Any]:
        """What another process needs to take over."""
        return {**super().to_dict(), "n": self.n, "engine_set_id": self.engine_set_id}


class SSHEngineSetLauncher(SSHEngineLauncher):
    """Engines on several other hosts: ``{'host1': 2, 'host2': (3, ['--debug']), 'me@host3:22': {'n': 1, …}}``."""

    engines = Dict(
        help=(
            "Host -> what runs there: a number of engines; (number, [arguments]); or {'n': number, 'engine_args': […], "
            "'engine_cmd': […]} with any setting of SSHEngineLauncher. Hosts are [user@]host[:port]."
        )
    ).tag(config=True)

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._own_args = list(self.engine_args)

    @property
    def engine_count(self) -> int:
        """How many engines there are places for."""
        return sum(int(settings["n"]) for settings in self.settings_by_host().values())

    @property
    def program_args(self) -> list[str]:
        """What runs on each host, for messages."""
        return super().program_args if self.engines else []

    def find_args(self) -> list[str]:
        """The commands for all hosts, one after the other."""
        commands = [each.args for each in self.launchers(self.n)]
        return [word for at, command in enumerate(commands) for word in ([";"] if at else []) + command]

    def settings_by_host(self) -> dict[str, dict[str, Any]]:
        """The three forms in one. Raises LauncherError for any other."""
        found: dict[str, dict[str, Any]] = {}
        for host, value in self.engines.items():
            settings: dict[str, Any] = {}
            if isinstance(value, int):
                settings = {"n": value}
            elif isinstance(value, (tuple, list)) and len(value) == 2:  # noqa: PLR2004  # the pair of the documentation
                settings = {"n": value[0], "engine_args": list(value[1])}
            elif isinstance(value, dict):
                settings = {"n": 1, **value}
            n = settings.get("n")
            if not isinstance(n, int) or isinstance(n, bool) or n < 0:
                msg = (
                    f"SSHEngineSetLauncher.engines[{host!r}] is {value!r}. Expected a number of engines, (number, "
                    "[arguments]), or {'n': number, 'engine_args': […]}."
                )
                raise LauncherError(msg)
            if unknown := settings.keys() - set(SSHEngineLauncher.class_trait_names(config=True)) - {"n"}:
                msg = f"SSHEngineSetLauncher.engines[{host!r}] sets {min(unknown)!r}, which SSHEngineLauncher does not have."
                raise LauncherError(msg)
            found[host] = settings
        return found

    def launchers(self, n: int) -> list[SSHEngineLauncher]:
        """One launcher for each host that is needed for ``n`` engines, in the order given."""
        further = self.engine_args[len(self._own_args) :]
        made = []
        for host, settings in self.settings_by_host().items():
            count = min(settings["n"], n)
            n -= count
            if count:
                args = [*settings.get("engine_args", self._own_args), *further]
                mine = {**self.given, **settings, "location": host, "n": count, "engine_args": args}
                made.append(self._launcher(mine))
        return made

    def _launcher(self, settings: dict[str, Any]) -> SSHEngineLauncher:
        return SSHEngineLauncher(
            parent=self.parent,
            log=self.log,
            profile_dir=self.profile_dir,
            cluster_id=self.cluster_id,
            engine_set_id=self.engine_set_id,
            connection=self.connection,
            stop_seconds_until_kill=self.stop_seconds_until_kill,
            **settings,
        )

    def start(self, n: int | None = None) -> None:
        """Start the engines; ``n`` is how many at most."""
        wanted = self.n if n is None else n
        places = self.engine_count
        if not places:
            msg = (
                "No host is named to start engines on by ssh. Set SSHEngineSetLauncher.engines, "
                "such as {'host1': 2, 'me@host2': 4}."
            )
            raise LauncherError(msg)
        if wanted > places:
            self.log.warning(
                "%d engines are wanted, but SSHEngineSetLauncher.engines has places for %d", wanted, places
            )
        self.n = min(wanted, places)
        hosts = [each.host_order() for each in self.launchers(self.n)]
        self.launch_carrier(hosts, self.log_file("ipengine", self.engine_set_id or os.getpid()))
