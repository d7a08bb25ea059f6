"""ipcluster start and ipcluster engines: commands that start programs and stay with them."""

from __future__ import annotations

import signal
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from traitlets import Bool, Integer, Unicode, default

from enginery.cli.arrival import Arrival
from enginery.cli.cluster_command import IPClusterApplication
from enginery.cluster.cluster import Cluster
from enginery.cluster.cluster_file import read_cluster_file
from enginery.cluster.known import WELL
from enginery.cluster.launchers import batch_named, winhpc
from enginery.cluster.launchers.base import describe_code
from enginery.cluster.launchers.local import LocalControllerLauncher, LocalEngineSetLauncher
from enginery.cluster.manager import cluster_key
from enginery.config.application import ALREADY_STARTED, BASE_ALIASES, BASE_CLASSES, BASE_FLAGS
from enginery.errors import KernelError, LauncherError

if TYPE_CHECKING:
    from types import FrameType

    from enginery.cluster.launchers.base import BaseLauncher, EngineLauncher

NEVER: Final = float("inf")
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
CLUSTER_CLASSES: Final[Any] = [
    *BASE_CLASSES,
    Cluster,
    LocalControllerLauncher,
    LocalEngineSetLauncher,
    *batch_named.LAUNCHERS,
    *winhpc.LAUNCHERS,
]


class IPClusterEngines(IPClusterApplication):
    """Starts engines for a controller that runs already."""

    name = Unicode("ipcluster engines")
    description = Unicode("Start engines for a controller that runs already, and stay until they are gone.")
    examples = Unicode("ipcluster engines -n 4\nipcluster engines --n=4 --profile=cluster")
    flags = ENGINES_FLAGS
    aliases = ENGINES_ALIASES
    classes = CLUSTER_CLASSES

    daemonize = Bool(False, help="Leave once everything is started; it runs on.").tag(config=True)
    early_shutdown = Integer(
        30, help="Seconds until engines count as started where nobody can tell whether they have connected."
    ).tag(config=True)
    #: The set this command has started, and whether there were engines at all.
    own_set = ""
    had_engines = True
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
            self.look_back()
            print(f"Leaving cluster running: {self.cluster.cluster_file or 'until its controller leaves'}")
            return
        self.stay()

    def make_cluster(self) -> Cluster:
        """The cluster object to work with: the one that runs, or one that knows of no controller."""
        try:
            cluster = self.load_cluster(self.cluster_id)
        except (OSError, ValueError):
            cluster = self.new_cluster(shutdown_atexit=False, cluster_file="")
        else:
            # What this command was told about engines, whatever the one that started the cluster was told.
            told = self.new_cluster()
            cluster.engine_launcher_class, cluster.n = told.engine_launcher_class, told.n
        cluster.engine_args = [*cluster.engine_args, *self.log_args]
        return cluster

    def new_cluster(self, **kwargs: Any) -> Cluster:
        """A cluster of this profile and id, which does not run."""
        return Cluster(parent=self, cluster_id=self.cluster_id, profile_dir=str(self.profile_dir), **kwargs)

    @property
    def log_args(self) -> list[str]:
        """What the programs are told about their logs."""
        to_file = ["--log-to-file"] if self.log_to_file else []
        return [*to_file, f"--log-url={self.log_url}"] if self.log_url else to_file

    def bring_up(self) -> None:
        """Start what this command starts."""
        # The engines leave with this command, the rest of the cluster does not; so its file shall outlive it as well.
        self.own_set = self.cluster.start_engines_sync(owned=not self.daemonize, cluster_file="")

    def say_how_to_connect(self) -> None:
        """Tell the user what was started."""
        for launcher in self.own_sets():
            print(
                f"Starting {launcher.n} engine{'s' * (launcher.n != 1)} for the controller of "
                f"{cluster_key(self.profile_dir, self.cluster_id)!r}",
                flush=True,
            )

    def own_sets(self) -> list[EngineLauncher]:
        """The sets that this command has started."""
        return [each for name, each in self.cluster.engines.items() if name == self.own_set]

    def stop_own(self) -> None:
        """Stop what this command has started."""
        if self.own_set in self.cluster.engines:
            self.cluster.stop_engines_sync(self.own_set)

    def is_over(self) -> bool:
        """Whether nothing is left to stay for."""
        return not any(each.running for each in self.own_sets())

    def watched(self) -> list[BaseLauncher]:
        """Launchers whose end may end the command."""
        return [*self.own_sets()]

    def stay(self) -> None:
        """Wait for a signal or for the end of what was started, then stop the rest."""
        watched = self.watched()
        for launcher in watched:
            launcher.on_stop(lambda _data: self.wake.set())
        arrival = Arrival(self.cluster, watched, self.wake.set)
        early = time.monotonic() + self.early_shutdown
        while not self.asked and not self.is_over():
            # Woken by signals, and by the end of a program; else to say how far the engines have come.
            pause = arrival.look()
            if arrival.is_complete or (arrival.is_blind and time.monotonic() >= early):
                early = self.say_started(early)
            elif arrival.is_blind and early < NEVER:
                pause = early - time.monotonic()
            self.wake.wait(pause)
            self.wake.clear()
        failed = [launcher for launcher in watched if launcher.state == "after" and launcher.poll() not in WELL]
        if self.asked:
            print(f"Stopping on {self.asked}", flush=True)
        self.stop_own()
        if self.asked:
            return
        if failed:
            told = [f"`{each.arg_str}` ended ({describe_code(each.poll())})" for each in failed]
            self.fail(f"{'; '.join(told)}. Everything else was stopped.")
        print("Everything that was started has left.")

    def look_back(self) -> None:
        """See whether what was started has come up, before it is left alone. Leaves with code 1 if it has not."""
        try:
            with self.cluster.crashes_raise():
                Arrival(self.cluster, self.watched()).wait(self.cluster.engine_timeout)
        except (LauncherError, ConnectionError) as error:
            self.stop_own()
            self.fail(str(error))
        except TimeoutError as error:
            print(f"Not all engines have come yet: {error}")

    def say_started(self, due: float) -> float:
        """Say the phrase that tools wait for, once; returns when to say it again: never."""
        if due < NEVER:
            self.log.info("Engines appear to have started successfully")
        return NEVER

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
        threading.Thread(target=self.pass_on, args=(number,), daemon=True).start()

    def pass_on(self, number: int) -> None:
        """Send a signal to the engines that this command has started."""
        for launcher in self.own_sets():
            try:
                self.cluster.signal_engines_sync(number, launcher.engine_set_id)
            except (LauncherError, KernelError, OSError, KeyError) as error:
                self.log.warning("%s was not passed on to the engines: %s", signal.Signals(number).name, error)


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
        cluster = self.new_cluster(shutdown_atexit=not self.daemonize)
        cluster.controller_args = [*cluster.controller_args, *self.log_args, *self.extra_args]
        cluster.engine_args = [*cluster.engine_args, *self.log_args]
        return cluster

    def bring_up(self) -> None:
        """Start the controller and the engines."""
        self.cluster.start_cluster_sync()
        self.had_engines = bool(self.cluster.engines)

    def say_how_to_connect(self) -> None:
        """Tell the user how to connect and how to stop."""
        count = sum(launcher.n for launcher in self.cluster.engines.values())
        print(
            f"Cluster started: controller and {count} engine{'s' if count != 1 else ''}.\n"
            f"Connect from Python:\n    import enginery as ipp\n    {self.connect_command()}\n"
            f"Stop it with{'' if self.daemonize else ' Ctrl-C, or with'}:\n    {self.stop_command()}",
            flush=True,
        )

    def own_sets(self) -> list[EngineLauncher]:
        """All sets of the cluster."""
        return list(self.cluster.engines.values())

    def stop_own(self) -> None:
        """Stop the whole cluster."""
        self.cluster.stop_cluster_sync()

    def watched(self) -> list[BaseLauncher]:
        """The end of the controller or of the last engines is the end of the cluster."""
        return self.cluster.launchers()

    def is_over(self) -> bool:
        """Whether the controller has ended, or the last engines have and nobody starts them anew."""
        controller = self.cluster.controller
        if controller is None or not controller.running:
            return True
        if self.cluster.restart_on_crash or not self.had_engines:
            return False
        return super().is_over() and not self.has_others()

    def has_others(self) -> bool:
        """Whether another process has added engines that run."""
        try:
            written = read_cluster_file(Path(self.cluster.cluster_file))["engines"]["sets"]
        except (OSError, ValueError, KeyError):
            return False
        return not self.cluster.engines.keys() >= written.keys()
