"""What every launcher is: an object that starts a program somewhere, knows whether it runs, and stops it.

A launcher has three states, passed once and in this order: ``before``, ``running``, ``after``. Whoever notices that
the program is gone calls ``notify_stop``; callbacks given to ``on_stop`` then run in that thread, once each, and at
once for those who come late.

To write a launcher for another system, derive from ``ControllerLauncher`` or ``EngineLauncher`` and define ``start``
and ``stop``; make ``notify_stop`` be called when the program ends; define ``status``, ``signal``, ``to_dict`` and
``from_dict`` if the system can do it. ``start``, ``stop`` and ``signal`` may be coroutine functions. Register the class as
an entry point in ``enginery.controller_launchers`` or ``enginery.engine_launchers``, or name it by its dotted path.
``docs/how-to/custom-launchers.md`` has worked examples.
"""

from __future__ import annotations

import re
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal

from traitlets import Bool, Dict, Float, Integer, List, Unicode
from traitlets.config import LoggingConfigurable

from enginery.errors import LauncherError
from enginery.net import connection_file, profile_paths

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from typing import Self

    from enginery.net.connection_file import ConnectionInfo


State = Literal["before", "running", "after"]
StopData = dict[str, Any]

CONTROLLER_COMMAND: Final = (sys.executable, "-m", "enginery.controller")
ENGINE_COMMAND: Final = (sys.executable, "-m", "enginery.engine")


class ProcessStateError(LauncherError):
    """The launcher is in a state in which this cannot be done."""


class UnknownStatus(LauncherError):
    """The system cannot say whether the program runs."""


class NotRunning(LauncherError):
    """The program is not there any more."""


class BaseLauncher(LoggingConfigurable):
    """Starts one program, or one set of them."""

    #: Names the other side uses for this program, such as a job id.
    identifier = Unicode("")
    #: Whether the program is told to leave when this process is gone.
    owned = Bool(False)
    #: Whether the program may run on another host, so that the controller has to listen for those.
    needs_network = False
    profile_dir = Unicode("")
    cluster_id = Unicode("")
    #: The cluster's file, to be removed by whoever is left when this process is gone.
    cluster_file = Unicode("")
    #: Further files, likewise.
    litter: Sequence[Path] = ()

    environment = Dict(Unicode(), help="Environment variables for the program.").tag(config=True)
    output_limit = Integer(100, help="How many of its last lines are shown when the program fails.").tag(config=True)
    stop_timeout = Float(60.0, help="Seconds until a program that does not leave is given up.").tag(config=True)

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.state: State = "before"
        self.stop_data: StopData = {}
        self._callbacks: list[Callable[[StopData], object]] = []
        self._state_lock = threading.Lock()
        self._stopped = threading.Event()

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.state}{f' {self.identifier}' if self.identifier else ''}>"

    # --- what a launcher runs ---

    @property
    def args(self) -> list[str]:
        """The whole command line."""
        return self.find_args()

    @property
    def arg_str(self) -> str:
        """The whole command line as text."""
        return " ".join(self.args)

    def find_args(self) -> list[str]:
        """Build the command line."""
        raise NotImplementedError

    @property
    def cluster_args(self) -> list[str]:
        """Arguments that say which cluster it is."""
        args = [f"--profile-dir={self.profile_dir}"] if self.profile_dir else []
        return [*args, f"--cluster-id={self.cluster_id}"] if self.cluster_id else args

    def get_env(self) -> dict[str, str]:
        """Environment variables set for the program beyond those of this process."""
        cluster = {"IPP_CLUSTER_ID": self.cluster_id, "IPP_PROFILE_DIR": self.profile_dir}
        return {**cluster, **self.environment}

    @property
    def connection_files(self) -> dict[str, Path]:
        """Where the controller writes its connection files: ``client`` and ``engine``."""
        folder = profile_paths.profile_folder(profile_dir=self.profile_dir)
        return {
            "client": profile_paths.connection_path(folder, "client", self.cluster_id),
            "engine": profile_paths.connection_path(folder, "engine", self.cluster_id),
        }

    # --- its state ---

    @property
    def running(self) -> bool:
        """Whether the program runs, as far as is known."""
        return self.state == "running"

    def status(self) -> str:
        """What the program is waiting for, in one phrase such as "job 4711 is PENDING: Resources"; "" for nothing."""
        return ""

    def poll(self) -> int | None:
        """The exit code once it has ended and is known, else None."""
        return self.stop_data.get("exit_code")

    def join(self, timeout: float | None = None) -> bool:
        """Wait until the program has ended; whether it has."""
        return self._stopped.wait(timeout)

    def on_stop(self, callback: Callable[[StopData], object]) -> None:
        """Have ``callback(stop_data)`` called once the program has ended; at once if it has already."""
        with self._state_lock:
            if self.state != "after":
                self._callbacks.append(callback)
                return
        callback(self.stop_data)

    def notify_start(self) -> None:
        """Tell that the program runs. A program that ended meanwhile stays ended."""
        with self._state_lock:
            if self.state == "before":
                self.state = "running"

    def notify_stop(self, data: StopData) -> None:
        """Tell that the program has ended; calls the callbacks the first time and does nothing after that."""
        with self._state_lock:
            if self.state == "after":
                return
            self.state, self.stop_data = "after", data
            callbacks, self._callbacks = self._callbacks, []
        self._stopped.set()
        for callback in callbacks:
            callback(data)

    def start(self, n: int | None = None) -> Any:
        """Start the program; engine launchers are told how many engines."""
        raise NotImplementedError

    def stop(self) -> Any:
        """Stop the program, whatever it takes, and return when it is gone."""
        raise NotImplementedError

    def begin_stop(self) -> None:
        """Ask the program to leave, without waiting. Launchers that cannot do that leave it all to ``stop``."""

    def signal(self, sig: int) -> Any:
        """Send a signal to the program; for engine sets, to each engine."""
        msg = f"{type(self).__name__} cannot send signals. Use Client.send_signal({sig!r}) instead."
        raise LauncherError(msg)

    def get_output(self, *, remove: bool = False) -> str:  # noqa: ARG002 - what others need
        """The last lines the program wrote; with ``remove``, what holds them is removed."""
        return ""

    # --- handing over to another process ---

    def to_dict(self) -> dict[str, Any]:
        """What another process needs to take over, in plain values."""
        return {"state": self.state, "identifier": self.identifier}

    @classmethod
    def from_dict(cls, state: Mapping[str, Any], **kwargs: Any) -> Self:
        """Take over a running program. Raises NotRunning if it is gone, UnknownStatus if nobody can tell."""
        launcher = cls(**kwargs)
        launcher.identifier = str(state.get("identifier", ""))
        launcher.state = "running"
        return launcher


class ControllerLauncher(BaseLauncher):
    """Starts a controller."""

    controller_cmd = List(Unicode(), list(CONTROLLER_COMMAND), help="The command.").tag(config=True)
    controller_args = List(Unicode(), help="Further arguments of the command.").tag(config=True)
    connection_info_timeout = Float(60.0, help="Seconds the controller may take to get ready.").tag(config=True)

    def find_args(self) -> list[str]:
        """The command with the cluster's arguments, then the user's."""
        return [*self.controller_cmd, *self.cluster_args, *self.controller_args]

    def get_connection_info(self, timeout: float | None = None) -> dict[str, ConnectionInfo]:
        """Wait until the controller is ready and return how ``client`` and ``engine`` reach it.

        Raises LauncherError if it ends instead or takes longer than ``timeout`` (``connection_info_timeout``) seconds.
        This general way waits for the connection files to appear; launchers that can be told do better.
        """
        timeout = self.connection_info_timeout if timeout is None else timeout
        files = self.connection_files
        for path in files.values():
            if not profile_paths.wait_for_file(path, timeout) or self.state == "after":
                raise self.failure(f"did not write {str(path)!r} within {timeout:g} s")
        return {kind: connection_file.load(path) for kind, path in files.items()}

    def failure(self, what: str) -> LauncherError:
        """An error that shows the command, its exit code and its last output."""
        return start_failure(self, "The controller", what)


class EngineLauncher(BaseLauncher):
    """Starts a set of engines."""

    engine_cmd = List(Unicode(), list(ENGINE_COMMAND), help="The command.").tag(config=True)
    engine_args = List(Unicode(), help="Further arguments of the command.").tag(config=True)
    engine_set_id = Unicode("")
    n = Integer(1)
    #: Whether ``start`` may be called before the controller is ready, to be followed by ``connect``.
    starts_early = False

    def __init__(self, **kwargs: Any) -> None:
        self.connection: ConnectionInfo | None = kwargs.pop("connection", None)
        super().__init__(**kwargs)

    def find_args(self) -> list[str]:
        """The command with the cluster's arguments, then the user's."""
        return [*self.engine_cmd, *self.cluster_args, *self.engine_args]

    @property
    def set_env(self) -> dict[str, str]:
        """As of every launcher, and which set of engines it is."""
        named = {"IPP_ENGINE_SET": self.engine_set_id} if self.engine_set_id else {}
        return {**named, **super().get_env()}

    def get_env(self) -> dict[str, str]:
        """As of every launcher, and how to reach the controller: keys do not belong on command lines."""
        environment = self.set_env
        if self.connection is not None:
            environment["IPP_CONNECTION_INFO"] = re.sub(r"\s*\n\s*", "", self.connection.dumps())
        return environment

    @property
    def engine_count(self) -> int | None:
        """How many engines there are by this launcher's own settings; None if those say nothing of it."""
        return None

    def engine_pids(self) -> frozenset[int] | None:
        """Ids of processes on this host among which its engines are, besides those that say they belong to this set.

        None if ``signal`` reaches the engines itself.
        """
        return None

    def connect(self, connection: ConnectionInfo | None) -> None:
        """Tell engines that were started early where the controller is; None lets them leave."""
        self.connection = connection

    def failure(self, what: str) -> LauncherError:
        """An error that shows the command, its exit code and its last output."""
        return start_failure(self, f"The set of {self.n} engine{'s' if self.n != 1 else ''}", what)


def start_failure(launcher: BaseLauncher, who: str, what: str) -> LauncherError:
    """The error for a program that did not do what it was started for."""
    code = launcher.poll()
    output = launcher.get_output()
    command = launcher.args
    text = f"{who} {what}"
    if code is not None:
        text += f" ({describe_code(code)})"
    text += f".\nCommand: {' '.join(command)}"
    text += f"\nIts last output:\n{output}" if output else "\nIt wrote no output."
    return LauncherError(text, command=command, code=code, output=output)


def describe_code(code: int | None) -> str:
    """An exit code in words, as of ``subprocess``: negative for a signal."""
    if code is None:
        return "exit code unknown"
    if code >= 0:
        return f"exit code {code}"
    # Only failures need the names of signals.
    import signal

    try:
        return f"killed by {signal.Signals(-code).name}"
    except ValueError:
        return f"killed by signal {-code}"
