"""What is known of a cluster: its identity, what of it runs, and the file by which others take it over."""

from __future__ import annotations

import atexit
import logging
import signal
import threading
import weakref
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from traitlets import Bool, Integer, Unicode, default
from traitlets.config import LoggingConfigurable

from enginery.cluster import cluster_file as files
from enginery.cluster import outfit
from enginery.cluster.crashes import Crash, Crashes
from enginery.cluster.launchers.base import ControllerLauncher, EngineLauncher, describe_code
from enginery.cluster.restarts import Restarts
from enginery.net import profile_paths

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from contextlib import AbstractContextManager
    from typing import Self

    from enginery.cluster.launchers.base import BaseLauncher, StopData

#: Exit codes of programs that did not fail: who is asked to leave while it starts or ends does not catch the signal, and
#: nobody knows the code of what another process has started, and perhaps stopped.
WELL: Final = (None, 0, -signal.SIGTERM)


#: How long a file that is being written may take when this process ends, in seconds.
LAST_WRITE: Final = 1.0


class KnownCluster(LoggingConfigurable):
    """The part of ``Cluster`` that knows; what can be done with it is there."""

    cluster_id = Unicode()
    profile = Unicode("")
    profile_dir = Unicode()
    cluster_file = Unicode()
    shutdown_atexit = Bool(True)
    log_level = Integer(logging.INFO)
    restart_on_crash = Bool(
        False,
        help="Start engines anew that died: single ones by the process beside them, whole sets by this one, a few times "
        "at growing distances.",
    ).tag(config=True)

    durable = Bool(
        False,
        help="Have the controller save what it accepts (--restore), and start it anew if it dies: tasks, engines and clients "
        "go on. With a cluster_id of your own, also a cluster that was stopped, or died with its host, goes on.",
    ).tag(config=True)

    def __init__(self, **kwargs: Any) -> None:
        self.controller: ControllerLauncher | None = None
        self.engines: dict[str, EngineLauncher] = {}
        self._stopping = False
        self._leaving: set[EngineLauncher] = set()  #: those that are being stopped
        self._gone_sets: set[str] = set()  #: ids of sets that were ours once and are gone
        self._crashes = Crashes(lambda: self.log, lambda: list(self.engines.values()))
        self._restarts = Restarts(self._start_anew, lambda: self.log)
        self._lock = threading.RLock()
        _known.add(self)
        super().__init__(**kwargs)
        if "log_level" in kwargs:
            self.log.setLevel(self.log_level)

    @default("log")
    def _default_log(self) -> Any:
        if self.parent is not None:
            return self.parent.log
        return logging.getLogger("enginery.cluster")

    @default("cluster_id")
    def _default_cluster_id(self) -> str:
        return outfit.new_id()

    @default("profile_dir")
    def _default_profile_dir(self) -> str:
        if self.parent is not None and not self.profile:
            return str(self.parent.profile_dir)
        return str(profile_paths.profile_folder(self.profile))

    @default("cluster_file")
    def _default_cluster_file(self) -> str:
        return str(profile_paths.cluster_path(Path(self.profile_dir), self.cluster_id))

    def __repr__(self) -> str:
        profile = profile_paths.profile_name(self.profile_dir)
        fields = [
            f"cluster_id={self.cluster_id!r}",
            f"profile={profile!r}" if profile else f"profile_dir={self.profile_dir!r}",
        ]
        if self.controller is not None:
            fields.append(f"controller=<{self.controller.state}>")
        if self.engines:
            fields.append(f"engine_sets={list(self.engines)}")
        return f"<{type(self).__name__}({', '.join(fields)})>"

    # --- what there is ---

    @property
    def engine_set(self) -> EngineLauncher | None:
        """The first engine set, None if there is none."""
        return next(iter(self.engines.values()), None)

    @property
    def is_running(self) -> bool:
        """Whether the controller or an engine set runs, as far as is known."""
        return any(launcher.running for launcher in self.launchers())

    @property
    def crashes(self) -> list[Crash]:
        """The newest hundred ends of programs that nobody had asked for, the oldest first."""
        return list(self._crashes.newest)

    def on_crash(self, callback: Callable[[Crash], object]) -> None:
        """Have ``callback(crash)`` called whenever something of the cluster dies that nobody has stopped.

        Of single engines this is heard by the clients that came from here; of the controller and of whole engine sets
        always. The callback runs in a thread of its own. Each crash is logged as a warning as well, and kept in
        ``crashes``.
        """
        self._crashes.on_crash(callback)

    def crashes_raise(self) -> AbstractContextManager[None]:
        """A block in which crashes lead to exceptions: such are not told by other ways as well."""
        return self._crashes.told_by_errors()

    def launchers(self) -> list[BaseLauncher]:
        """The launchers of all engine sets, and that of the controller."""
        return [*self.engines.values(), *([self.controller] if self.controller is not None else [])]

    def _engine_set(self, engine_set_id: str | None) -> list[EngineLauncher]:
        """The engine set with this id, or all. Raises KeyError."""
        if engine_set_id is None:
            return list(self.engines.values())
        if engine_set_id not in self.engines:
            msg = f"There is no engine set {engine_set_id!r}; there are {list(self.engines)}."
            raise KeyError(msg)
        return [self.engines[engine_set_id]]

    def _adopt(self, launcher: BaseLauncher) -> None:
        """Make a launcher one of this cluster's, and hear of its end."""
        if isinstance(launcher, ControllerLauncher):
            self.controller = launcher
            launcher.on_stop(lambda data: self._controller_stopped(launcher, data))
        elif isinstance(launcher, EngineLauncher):
            self.engines[launcher.engine_set_id] = launcher
            launcher.on_stop(lambda data: self._engines_stopped(launcher, data))
        else:
            msg = f"{launcher!r} launches neither a controller nor engines"
            raise TypeError(msg)

    def _controller_stopped(self, launcher: ControllerLauncher, data: StopData) -> None:
        if self._stopping or self.controller is not launcher:
            return
        code = data.get("exit_code")
        if code in WELL:
            self._restarts.cancel()
            self.log.info("The controller has left (%s)", describe_code(code))
        else:
            returns = self.durable and self._restarts.ended(launcher)
            if not returns:
                self._restarts.cancel()
            self._crashes.controller_ended(launcher, data, returns=returns)
        self.update_cluster_file(ended=True)

    def _engines_stopped(self, launcher: EngineLauncher, data: StopData) -> None:
        name = launcher.engine_set_id
        if self.engines.get(name) is not launcher or self._stopping or launcher in self._leaving:
            return
        code = data.get("exit_code")
        if code in WELL or (self.controller is not None and not self.controller.running):
            self.log.info("Engine set %s has left (%s)", name, describe_code(code))
            self._forget_set(launcher)
        else:
            returns = self.restart_on_crash and self._restarts.ended(launcher)
            self._crashes.set_ended(launcher, data, returns=returns)
        self.update_cluster_file(ended=True)

    def _forget_set(self, launcher: EngineLauncher) -> None:
        launcher.get_output(remove=True)
        if self.engines.get(launcher.engine_set_id) is launcher:
            del self.engines[launcher.engine_set_id]
        self._gone_sets.add(launcher.engine_set_id)

    def bury_sets(self) -> None:
        """Forget the sets that have died, also those that would be started anew."""
        for launcher in list(self.engines.values()):
            if launcher.state == "after":
                self._restarts.cancel(launcher.engine_set_id)
                self._forget_set(launcher)

    def _start_anew(self, launcher: BaseLauncher) -> None:
        """Start what ``launcher`` had started, which died."""
        raise NotImplementedError

    # --- handing over to another process ---

    def to_dict(self) -> dict[str, Any]:
        """The cluster in plain values, as its file has it."""
        return files.describe_cluster(self)

    @classmethod
    def from_dict(cls, plain: Mapping[str, Any], **kwargs: Any) -> Self:
        """The cluster that ``to_dict`` described. What is gone meanwhile is left out; it is not stopped at exit."""
        cluster = cls(**{**files.described_arguments(plain), "shutdown_atexit": False, **kwargs})
        launchers = files.revive_launchers(plain, outfit.launcher_arguments(cluster))
        for launcher in launchers:
            cluster._adopt(launcher)
        return cluster

    @classmethod
    def from_file(
        cls,
        cluster_file: str | Path | None = None,
        *,
        profile: str = "",
        profile_dir: str | Path = "",
        cluster_id: str = "",
        **kwargs: Any,
    ) -> Self:
        """The cluster that another process started; without arguments, the one of ``ipcluster start``.

        Raises FileNotFoundError if there is no such cluster, ValueError if its file is damaged.
        """
        if cluster_file is None:
            cluster_file = profile_paths.cluster_path(profile_paths.profile_folder(profile, profile_dir), cluster_id)
        path = Path(cluster_file).expanduser()
        return cls.from_dict(files.read_cluster_file(path), cluster_file=str(path), **kwargs)

    def write_cluster_file(self) -> None:
        """Write the cluster file, unless its name is empty."""
        with self._lock, files.exclusive(Path(self.cluster_file)):
            self._write_cluster_file()

    def _write_cluster_file(self) -> None:
        if self.cluster_file:
            path = Path(self.cluster_file)
            files.write_cluster_file(path, files.with_others(path, self.to_dict(), self._gone_sets))

    def remove_cluster_file(self) -> None:
        """Remove the cluster file."""
        with self._lock, files.exclusive(Path(self.cluster_file)):
            self._remove_cluster_file()

    def _remove_cluster_file(self) -> None:
        if self.cluster_file:
            Path(self.cluster_file).unlink(missing_ok=True)

    def update_cluster_file(self, *, ended: bool = False) -> None:
        """Write the cluster file if anything runs, else remove it.

        With ``ended``, because something has ended: then a file that is not there stays so. Another process that ends the
        cluster has removed it, and what seems to run here is ending, too.
        """
        with self._lock, files.exclusive(Path(self.cluster_file)):
            if not self.is_running:
                self._remove_cluster_file()
            elif not ended or Path(self.cluster_file).exists():
                self._write_cluster_file()


_known: weakref.WeakSet[KnownCluster] = weakref.WeakSet()


def _let_files_be_written() -> None:
    """At the end of this process: its watching threads end where they are, and that is not to be in the middle of a file."""
    for cluster in list(_known):
        cluster._lock.acquire(timeout=LAST_WRITE)  # noqa: SLF001 - of this file; never released


# Before any cluster registers what it does at the end, which therefore comes first.
atexit.register(_let_files_be_written)
