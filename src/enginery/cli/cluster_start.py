"""ipcluster start and ipcluster engines: commands that start programs and stay with them."""

from __future__ import annotations

import signal
import sys
import threading
from typing import TYPE_CHECKING, Any, Final

from traitlets import Bool, Integer, Unicode, default

from enginery.cli.cluster_command import IPClusterApplication
from enginery.cluster.cluster import Cluster
from enginery.cluster.launchers.local import LocalControllerLauncher, LocalEngineSetLauncher
from enginery.cluster.manager import cluster_key
from enginery.config.application import ALREADY_STARTED, BASE_ALIASES, BASE_CLASSES, BASE_FLAGS
from enginery.errors import LauncherError
from enginery.net import profile_paths

if TYPE_CHECKING:
    from types import FrameType

    from enginery.cluster.launchers.base import BaseLauncher

#: Signals that are passed on to the engines.
RELAYED: Final = ("SIGUSR1", "SIGUSR2", "SIGINFO")

ENGINES_FLAGS: Final[Any] = {
    **BASE_FLAGS,
    "daemonize": ({"IPClusterEngines": {"daemonize": True}}, "Leave once everything is started; it runs on."),
}
ENGINES_ALIASES: Final[Any] = {
    **BASE_ALIASES,
    "n": "Cluster.n",
    "engines": "Cluster.engine_launcher_class",
    "daemonize": "IPClusterEngines.daemonize",
}
START_ALIASES: Final[Any] = {
    **ENGINES_ALIASES,
    "controller": "Cluster.controller_launcher_class",
    "delay": "Cluster.delay",
    "ip": "Cluster.controller_ip",
    "location": "Cluster.controller_location",
    "clean-logs": "IPClusterStart.clean_logs",
}
CLUSTER_CLASSES: Final[Any] = [*BASE_CLASSES, Cluster, LocalControllerLauncher, LocalEngineSetLauncher]


class IPClusterEngines(IPClusterApplication):
    """Starts engines for a controller that runs already."""

    name = Unicode("ipcluster engines")
    description = Unicode("Start engines for a controller that runs already, and stay until they are gone.")
    examples = Unicode("ipcluster engines -n 4\nipcluster engines --n=4 --profile=cluster")
    flags = ENGINES_FLAGS
    aliases = ENGINES_ALIASES
    classes = CLUSTER_CLASSES

    daemonize = Bool(False, help="Leave once everything is started; it runs on.").tag(config=True)
    early_shutdown = Integer(30, help="Engines that end within so many seconds have failed.").tag(config=True)
    #: Signals that end the command, and those that go to the engines instead.
    stop_signals: tuple[str, ...] = ("SIGHUP",)
    engine_signals: tuple[str, ...] = ("SIGINT", "SIGTERM", *RELAYED)

    def start(self) -> None:
        """Start, and stay until everything is stopped."""
        super().start()
        self.wake = threading.Event()
        self.asked = ""
        self.cluster = self.make_cluster()
        self.relay_signals()
        try:
            self.bring_up()
        except (ImportError, AttributeError) as error:
            names = self.cluster.engine_launcher_class, self.cluster.controller_launcher_class
            self.fail(f"cannot load the launchers --engines={names[0]} --controller={names[1]}: {error}.")
        except (LauncherError, OSError, ValueError, TypeError) as error:
            # A controller that was started by hand is found by the controller itself.
            self.fail(str(error), ALREADY_STARTED if getattr(error, "code", None) == ALREADY_STARTED else 1)
        self.say_how_to_connect()
        if self.daemonize:
            print(f"Leaving cluster running: {self.cluster.cluster_file or 'until its controller leaves'}")
            return
        self.stay()

    def make_cluster(self) -> Cluster:
        """The cluster object to work with; one without a controller of its own."""
        cluster = Cluster(
            parent=self,
            cluster_id=self.cluster_id,
            profile_dir=str(self.profile_dir),
            shutdown_atexit=not self.daemonize,
        )
        cluster.controller_args = [*cluster.controller_args, *self.log_args]
        cluster.engine_args = [*cluster.engine_args, *self.log_args]
        return cluster

    @property
    def log_args(self) -> list[str]:
        """What the programs are told about their logs."""
        to_file = ["--log-to-file"] if self.log_to_file else []
        return [*to_file, f"--log-url={self.log_url}"] if self.log_url else to_file

    def bring_up(self) -> None:
        """Start what this command starts."""
        # The cluster file belongs to the process that started the controller.
        self.cluster.cluster_file = ""
        self.cluster.start_engines_sync()

    def say_how_to_connect(self) -> None:
        """Tell the user what was started."""
        for launcher in self.cluster.engines.values():
            print(
                f"Starting {launcher.n} engines for the controller of {cluster_key(self.profile_dir, self.cluster_id)!r}"
            )

    def watched(self) -> list[BaseLauncher]:
        """Launchers whose end ends the command."""
        return list(self.cluster.engines.values())

    def stay(self) -> None:
        """Wait for a signal or for the end of what was started, then stop the rest."""
        watched = self.watched()
        for launcher in watched:
            launcher.on_stop(lambda _data: self.wake.set())
        stopper = threading.Timer(self.early_shutdown, self.past_early)
        stopper.daemon = True
        stopper.start()
        self.wake.wait()
        stopper.cancel()
        failed = [launcher for launcher in watched if launcher.state == "after" and launcher.poll()]
        outputs = [(launcher, launcher.get_output()) for launcher in failed]
        if self.asked:
            print(f"Stopping on {self.asked}")
        self.cluster.stop_cluster_sync()
        for launcher, output in outputs:
            sys.stderr.write(f"{launcher!r} ended with {launcher.poll()}:\n{output}\n")
        if outputs and not self.asked:
            sys.exit(1)

    def past_early(self) -> None:
        """Say the phrase that tools wait for."""
        self.log.info("Engines appear to have started successfully")

    def relay_signals(self) -> None:
        """Install what signals do to this command."""
        for name in self.stop_signals:
            if number := getattr(signal, name, None):
                signal.signal(number, self.on_stop_signal)
        for name in self.engine_signals:
            if number := getattr(signal, name, None):
                signal.signal(number, self.on_engine_signal)

    def on_stop_signal(self, number: int, _frame: FrameType | None) -> None:
        """Remember to stop; a second time at once."""
        if self.asked:
            raise KeyboardInterrupt
        self.asked = signal.Signals(number).name
        self.wake.set()

    def on_engine_signal(self, number: int, _frame: FrameType | None) -> None:
        """Pass the signal on to the engines."""
        # In a thread: handlers run between two steps of anything, which may hold a lock the cluster needs.
        threading.Thread(target=self.cluster.signal_engines_sync, args=(number,), daemon=True).start()


class IPClusterStart(IPClusterEngines):
    """Starts a controller and engines."""

    name = Unicode("ipcluster start")
    description = Unicode(
        "Start a controller and engines, say how to connect, and stay until stopped. Arguments after -- go to the "
        "controller."
    )
    examples = Unicode("ipcluster start -n 4\nipcluster start --profile=mycluster -n 4 -- --scheme=lru")
    aliases = START_ALIASES

    clean_logs = Bool(True, help="Remove old log files first.").tag(config=True)
    stop_signals = ("SIGINT", "SIGTERM", "SIGHUP")
    engine_signals = RELAYED

    @default("auto_create")
    def _default_auto_create(self) -> bool:
        return True

    def make_cluster(self) -> Cluster:
        """A new cluster; leaves with code 10 if it runs already."""
        try:
            running = self.load_cluster(self.cluster_id).is_running
        except (OSError, ValueError):
            running = False
        if running:
            key = cluster_key(self.profile_dir, self.cluster_id)
            self.fail(
                f"cluster {key!r} runs already. Stop it with `{self.stop_command()}`, or start another beside it with "
                "--cluster-id=NAME.",
                ALREADY_STARTED,
            )
        cluster = super().make_cluster()
        cluster.controller_args = [*cluster.controller_args, *self.extra_args]
        return cluster

    def bring_up(self) -> None:
        """Start the controller and the engines."""
        self.cluster.start_cluster_sync()

    def say_how_to_connect(self) -> None:
        """Tell the user how to connect and how to stop."""
        count = sum(launcher.n for launcher in self.cluster.engines.values())
        arguments = ", ".join(f"{name}={value!r}" for name, value in self.identity().items())
        print(
            f"Cluster started: controller and {count} engine{'s' if count != 1 else ''}.\n"
            "Connect from Python:\n"
            "    import enginery as ipp\n"
            f"    rc = ipp.Client({arguments})\n"
            f"Stop it with Ctrl-C, or with:\n    {self.stop_command()}"
            if not self.daemonize
            else f"Cluster started: controller and {count} engine{'s' if count != 1 else ''}.\n"
            f"Connect from Python:\n    import enginery as ipp\n    rc = ipp.Client({arguments})\n"
            f"Stop it with:\n    {self.stop_command()}",
            flush=True,
        )

    def identity(self) -> dict[str, str]:
        """What tells this cluster from others, as arguments of Client; empty for the default one."""
        name = profile_paths.profile_name(self.profile_dir)
        usual = bool(name) and profile_paths.profile_folder(name) == self.profile_dir
        told = (
            {"profile": name if name != profile_paths.DEFAULT else ""}
            if usual
            else {"profile_dir": str(self.profile_dir)}
        )
        return {key: value for key, value in {**told, "cluster_id": self.cluster_id}.items() if value}

    def stop_command(self) -> str:
        """The command that stops this cluster."""
        options = (f"--{key.replace('_', '-')}={value}" for key, value in self.identity().items())
        return " ".join(["ipcluster stop", *options])

    def watched(self) -> list[BaseLauncher]:
        """The end of the controller or of the last engines is the end of the cluster."""
        controller = [self.cluster.controller] if self.cluster.controller is not None else []
        return [*super().watched(), *controller]
