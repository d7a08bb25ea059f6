"""ipengine: the command that runs engines on this host."""

from __future__ import annotations

import contextlib
import os
import platform
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any, Final, cast

from traitlets import Bool, Float, Integer, List, Unicode, default

from enginery.cli.owner import clean_up_after_owner, owner_of_this
from enginery.config.application import BASE_ALIASES, BASE_CLASSES, BASE_FLAGS, USAGE, BaseParallelApplication
from enginery.config.fields import build
from enginery.config.sections import plain_sections
from enginery.engine import mpi
from enginery.engine.options import EngineOptions
from enginery.errors import ConnectionFileError, TunnelError
from enginery.net import connection_file, profile_paths
from enginery.net.connection_file import ConnectionInfo
from enginery.net.liveness import is_controller_gone
from enginery.net.signals import end_once
from enginery.net.ssh_server import check_arguments, server_for

FLAGS: Final[dict[Any, Any]] = {
    **BASE_FLAGS,
    "mpi": ({"IPEngine": {"use_mpi": True}}, "This process is a rank of an MPI job; its rank becomes the engine's id."),
    "restart": ({"IPEngine": {"restart": True}}, "Start an engine again when it died."),
}
ALIASES: Final[dict[Any, Any]] = {
    **BASE_ALIASES,
    "n": "IPEngine.n",
    "file": "IPEngine.url_file",
    "url": "IPEngine.registration_url",
    "location": "IPEngine.location",
    "ssh": "IPEngine.sshserver",
    "sshkey": "IPEngine.sshkey",
    "c": "IPEngine.startup_command",
    "s": "IPEngine.startup_script",
    "timeout": "IPEngine.timeout",
    "id": "IPEngine.id",
    "connection-fd": "IPEngine.connection_fd",
    "owner-pid": "IPEngine.owner_pid",
    "owner-file": "IPEngine.owner_files",
}
EXIT_NO_CONTROLLER: Final = 1
#: How long a process whose pipes are closed may take to be gone, in seconds.
DYING: Final = 1.0


class IPEngine(BaseParallelApplication):
    """Runs engines: the processes that execute the user's code."""

    name = Unicode("ipengine")
    description = Unicode(
        "Start engines on this host and connect them to a controller, which they find by the connection file in their "
        "profile, by --file, or by $IPP_CONNECTION_INFO. Settings of IPython's classes are handed to the shell in which "
        "engines run cells: --InteractiveShell.xmode=Verbose."
    )
    examples = Unicode(
        "ipengine\nipengine --n=4 --profile=ssh\nipengine --file=/path/to/ipcontroller-engine.json\n"
        "ipengine --ssh=me@login.example.org"
    )
    flags = FLAGS
    aliases = ALIASES
    classes = BASE_CLASSES

    n = Integer(1, min=1, help="How many engines to run on this host.").tag(config=True)
    url_file = Unicode("", help="The connection file (default: the one in the profile).").tag(config=True)
    url_file_name = Unicode(help="Name of the connection file in the profile's security folder.").tag(config=True)
    wait_for_url_file = Float(10.0, help="Seconds to wait for the connection file to appear.").tag(config=True)
    registration_url = Unicode(
        "", help="Where to find the controller, as tcp://host:port, instead of what the connection file says."
    ).tag(config=True)
    location = Unicode(
        "", help="Name or address of the controller's host, instead of what the connection file says."
    ).tag(config=True)
    sshserver = Unicode(
        "",
        help="[user@]server[:port] to tunnel through. Default: what the connection file says, on another host than the "
        "controller's. OpenSSH's client is used, with ~/.ssh/config and agents; $ENGINERY_SSH names another, or options.",
    ).tag(config=True)
    sshkey = Unicode("", help="File of the private key for the ssh server.").tag(config=True)
    paramiko = Bool(False, help="Refused: tunnels are made by OpenSSH's client.").tag(config=True)
    timeout = Float(5.0, help="Seconds the controller may take to answer.").tag(config=True)
    max_heartbeat_misses = Integer(
        50, help="Heartbeats without an answer until the engine leaves; 0: it stays for ever."
    ).tag(config=True)
    startup_script = Unicode("", help="Python file to run in the namespace first.").tag(config=True)
    startup_command = Unicode("", help="Python code to run in the namespace first.").tag(config=True)
    use_mpi = Bool(False, help="This process is a rank of an MPI job.").tag(config=True)
    init_mpi = Unicode(mpi.INIT, help="With use_mpi: Python code that calls MPI_Init, run in the namespace.").tag(
        config=True
    )
    restart = Bool(False, help="Start an engine again when it died.").tag(config=True)
    id = Integer(None, allow_none=True, help="Id to ask for; further engines ask for the next ones.").tag(config=True)
    connection_fd = Integer(-1, help="File descriptor to read the connection info from; used by launchers.").tag(
        config=True
    )
    owner_pid = Integer(0, help="Leave when the process with this id (-1: the parent) is gone; used by launchers.").tag(
        config=True
    )
    owner_files = List(Unicode(), help="Files to remove when the owner is gone; used by launchers.").tag(config=True)

    curve_serverkey = Unicode(help="Public key of the controller, for a connection file without keys.").tag(config=True)
    curve_publickey = Unicode(help="Public key of engines, for a connection file without keys.").tag(config=True)
    curve_secretkey = Unicode(help="Secret key of engines, for a connection file without keys.").tag(config=True)

    @default("auto_create")
    def _default_auto_create(self) -> bool:
        return True

    @default("curve_serverkey")
    def _default_curve_serverkey(self) -> str:
        return connection_file.keys_in_environment()["server_key"]

    @default("curve_publickey")
    def _default_curve_publickey(self) -> str:
        return connection_file.keys_in_environment()["public_key"]

    @default("curve_secretkey")
    def _default_curve_secretkey(self) -> str:
        return connection_file.keys_in_environment()["secret_key"]

    @default("url_file_name")
    def _default_url_file_name(self) -> str:
        return profile_paths.connection_path(self.profile_dir, "engine", self.cluster_id).name

    def init_folders(self) -> None:
        """As of every command; paths belong to where the user typed them."""
        for name in ("url_file", "startup_script", "sshkey"):
            if given := getattr(self, name):
                setattr(self, name, str(Path(given).expanduser().absolute()))
        super().init_folders()

    @property
    def connection_path(self) -> Path:
        """The connection file: --file, or the profile's."""
        if self.url_file:
            return Path(self.url_file)
        return self.profile_dir / "security" / self.url_file_name

    def find_connection(self) -> ConnectionInfo | None:
        """The controller to connect to; None if the launcher gave up before there was one.

        Leaves the program if the file does not come in time or is damaged.
        """
        try:
            if self.connection_fd >= 0:
                text = read_all(self.connection_fd)
                source = "connection info from the launcher"
                return self._as_told(connection_file.loads(text, source=source, kind="engine")) if text else None
            inherited = os.environ.get("IPP_CONNECTION_INFO", "")
            if inherited and not self.url_file:
                return self._as_told(connection_file.loads(inherited, source="$IPP_CONNECTION_INFO", kind="engine"))
            return self._as_told(self._wait_for_connection_file())
        except (ConnectionFileError, OSError) as error:
            self.fail(str(error))

    def _wait_for_connection_file(self) -> ConnectionInfo:
        path, patience = self.connection_path, self.wait_for_url_file
        deadline = time.monotonic() + patience
        if not path.exists():
            self.log.warning("Waiting %g s for connection file %s", patience, path)
        if not profile_paths.wait_for_file(path, patience):
            self.fail(
                f"no connection file {str(path)!r} after {patience:g} s. Start the controller first "
                "(ipcontroller), copy its engine file here, or name it with --file."
            )
        stamp = path.stat()
        info = connection_file.load(path, kind="engine")
        if info.reuse or not is_controller_gone(info):
            return info
        # One that was killed could not remove its files. The next one replaces them.
        gone = f"{str(path)!r} is of a controller (pid {info.pid} on {info.location}) that is gone"
        self.log.warning("Waiting %g s for a new connection file: %s", patience, gone)
        if not profile_paths.wait_for_change(path, stamp, max(0.0, deadline - time.monotonic())):
            self.fail(
                f"{gone}, and no other wrote a new one within {patience:g} s. Start a controller (ipcontroller), or "
                "fetch the file of the one that runs."
            )
        return connection_file.load(path, kind="engine")

    def _as_told(self, info: ConnectionInfo) -> ConnectionInfo:
        """The connection info with what was said to override it; ``ssh`` only if it is to be used from here."""
        if self.registration_url:
            connection_file.check_endpoint(self.registration_url, source="--url")
            info = replace(info, url=self.registration_url, urls=(self.registration_url,))
        if self.location:
            info = replace(info, location=self.location)
        return replace(info, ssh=self.sshserver or server_for(info))

    def options(self, connection: ConnectionInfo) -> EngineOptions:
        """What the engine host is told; leaves the program if the settings cannot be."""
        if connection.kind != "engine":
            self.fail(
                f"the connection info is one for {connection.kind}s. Use the file that ends in -engine.json.", USAGE
            )
        try:
            connection = connection_file.with_keys(connection, self.keys())
        except ConnectionFileError as error:
            self.fail(str(error))
        path = self.connection_path
        settings = {
            "connection": connection,
            "n": self.n,
            "cluster_id": self.cluster_id or connection.cluster_id,
            "profile_dir": self.profile_dir,
            "connection_file": path,
            "owner_pid": owner_of_this(self.owner_pid),
            "startup_script": self.startup_script,
            "startup_command": self.startup_command,
            "work_dir": Path.cwd(),
            "id": self.id,
            "restart": self.restart,
            "timeout": self.timeout,
            "max_misses": self.max_heartbeat_misses,
            **self.mpi_settings(),
            "shell": self.shell_settings(),
            "log": str(self.log_file) if self.log_to_file else "",
            "log_level": cast("int", self.log_level),
            "log_url": self.log_url,
        }
        return build(EngineOptions, settings)

    def mpi_settings(self) -> dict[str, Any]:
        """Which place this process has in an MPI job, if any; leaves the program if it cannot have one."""
        rank = mpi.find_rank(os.environ, told=self.use_mpi)
        if self.use_mpi and self.n != 1:
            self.fail(f"--mpi makes one engine of this process, not {self.n}. Have mpiexec start more of them.", USAGE)
        settings = {"engine_set": os.environ.get("IPP_ENGINE_SET", "")}
        # A host that is to fork engines is a rank's child at most: an engine of an MPI job may start a cluster.
        if rank is None or self.n != 1 or self.connection_fd >= 0:
            return {**settings, "use_mpi": self.use_mpi, "init_mpi": self.init_mpi if self.use_mpi else ""}
        return {
            "engine_set": settings["engine_set"] or rank.job,
            "use_mpi": True,
            "rank": rank.rank,
            "ranks": rank.ranks,
            "init_mpi": self.init_mpi if self.use_mpi else "",
        }

    def keys(self) -> dict[str, str]:
        """CURVE keys for a connection file that has none."""
        return {
            "server_key": self.curve_serverkey,
            "public_key": self.curve_publickey,
            "secret_key": self.curve_secretkey,
        }

    def shell_settings(self) -> dict[str, dict[str, Any]]:
        """What the configuration says of classes that are not this command's: IPython's, which engines import late."""
        known = {each.__name__ for own in (type(self), *self.classes) for each in own.mro()}
        settings, unfit = plain_sections(self.config, without=known)
        for name in unfit:
            self.log.warning("%s is no plain value, so engines cannot be told of it; ignored", name)
        return settings

    def start(self) -> None:
        """Run the engines until the last one is gone, and exit with the host's code."""
        super().start()
        # Imported before the connection info is awaited: a launcher starts this process beside the controller, so
        # that the imports of both overlap. Not at the top: --help need not wait for zmq.
        from enginery.engine.host import run
        from enginery.net.reach import hopeless

        connection = self.find_connection()
        if connection is None:
            clean_up_after_owner(
                owner_of_this(self.owner_pid), [Path(path) for path in self.owner_files], patience=DYING
            )
            sys.exit(EXIT_NO_CONTROLLER)
        options = self.options(connection)
        why = hopeless(connection)
        if self.startup_script and not Path(self.startup_script).is_file():
            why = f"there is no start-up script {self.startup_script!r} on {platform.node()!r}."
        if why:
            clean_up_after_owner(options.owner_pid, [Path(path) for path in self.owner_files])
            self.fail(why)
        code = 1
        end_once()
        with contextlib.suppress(KeyboardInterrupt):
            code = self.run_through_tunnel(options) if connection.ssh else run(options)
        clean_up_after_owner(options.owner_pid, [Path(path) for path in self.owner_files])
        sys.exit(code)

    def run_through_tunnel(self, options: EngineOptions) -> int:
        """Run the engines with the controller behind an ssh server; leaves the program if ssh does not get through."""
        from enginery.engine.tunnels import run_through_tunnel  # as above, and needed by few

        try:
            check_arguments(paramiko=self.paramiko)
            return run_through_tunnel(options, options.connection.ssh, self.sshkey)
        except TunnelError as error:
            self.fail(str(error))
        except ValueError as error:
            self.fail(f"--ssh: {error}", USAGE)


def read_all(fd: int) -> str:
    """What the other end of a pipe has to say until it closes; the descriptor is closed, standard input replaced."""
    with open(fd, encoding="utf-8", closefd=fd != 0) as pipe:
        text = pipe.read()
    if fd == 0:
        # User code that reads standard input meets its end, not somebody else's file.
        null = os.open(os.devnull, os.O_RDONLY)
        os.dup2(null, 0)
        os.close(null)
    return text


def main() -> None:
    """Run the command line of ipengine."""
    IPEngine.launch_instance()
