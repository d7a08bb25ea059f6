"""ipcluster stop, list, status and clean: commands that look for clusters others started."""

from __future__ import annotations

import contextlib
import json
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import traitlets
from traitlets import Bool, Enum, Unicode

from enginery.cli.cluster_command import IPClusterApplication
from enginery.cluster.cleaning import clean_cluster_files
from enginery.cluster.cluster import Cluster
from enginery.cluster.manager import ClusterManager, cluster_key
from enginery.cluster.traces import remove_dead_traces
from enginery.cluster.twins import finish
from enginery.cluster.waiting import statuses
from enginery.config.application import ALREADY_STOPPED, BASE_ALIASES, BASE_FLAGS, NO_CLUSTER, USAGE
from enginery.errors import LauncherError
from enginery.net import connection_file, profile_paths
from enginery.net.liveness import is_controller_there
from enginery.net.signals import to_signal

if TYPE_CHECKING:
    from collections.abc import Iterator

HEADINGS: Final = ("PROFILE", "CLUSTER ID", "RUNNING", "ENGINES", "LAUNCHER")
#: Seconds a controller may take to answer one who only looks.
ANSWER: Final = 5.0
#: How many crashes are shown.
SHOWN: Final = 5

STOP_FLAGS: Final[Any] = {
    **BASE_FLAGS,
    "all": ({"IPClusterStop": {"all_cluster_ids": True}}, "Stop every cluster of the profile."),
}
STOP_ALIASES: Final[Any] = {**BASE_ALIASES, "signal": "IPClusterStop.signal"}
LIST_ALIASES: Final[Any] = {**BASE_ALIASES, "o": "IPClusterList.output_format"}
CLEAN_FLAGS: Final[Any] = {
    **BASE_FLAGS,
    "force": ({"IPClusterClean": {"force": True}}, "Remove the files even of clusters that run."),
    "all": ({"IPClusterClean": {"all_profiles": True}}, "In every profile."),
}


class IPClusterStop(IPClusterApplication):
    """Stops clusters that other processes started."""

    needs_profile = False
    name = Unicode("ipcluster stop")
    description = Unicode("Stop a cluster that runs. Exit code 11 says that none did.")
    examples = Unicode(
        "ipcluster stop\nipcluster stop --profile=mycluster\nipcluster stop abcd-1234\nipcluster stop --all"
    )
    flags = STOP_FLAGS
    aliases = STOP_ALIASES

    signal = traitlets.Any(
        "SIGTERM", help="How its programs are asked to leave: SIGKILL, or 9, does not ask. After 5 s they are made to."
    ).tag(config=True)
    all_cluster_ids = Bool(False, help="Stop every cluster of the profile.").tag(config=True)

    def start(self) -> None:
        """Stop the clusters, and leave with code 11 if there was none."""
        super().start()
        given = str(self.signal).upper()
        found = to_signal(int(given) if given.isdigit() else f"SIG{given.removeprefix('SIG')}")
        if found is None:
            self.fail(f"there is no signal {self.signal!r} (--signal). Say SIGINT, or 2.", USAGE)
        self.number = found
        if self.all_cluster_ids:
            manager = ClusterManager(parent=self)
            for cluster in list(manager.load_clusters(profile_dir=self.profile_dir, parent=self).values()):
                self.stop(cluster)
            return
        codes = [self.stop_by_id(each) for each in self.extra_args or [self.cluster_id]]
        sys.exit(max(codes))

    def stop_by_id(self, cluster_id: str) -> int:
        """Stop one cluster and return the exit code."""
        try:
            cluster = self.load_cluster(cluster_id)
        except (OSError, ValueError) as error:
            sys.stderr.write(f"{error}\n")
            return ALREADY_STOPPED
        return self.stop(cluster)

    def stop(self, cluster: Cluster) -> int:
        """Stop one cluster, clean up after it, and return the exit code."""
        key = cluster_key(Path(cluster.profile_dir), cluster.cluster_id)
        running = cluster.is_running
        if self.number != signal.SIGTERM:
            for launcher in cluster.launchers():
                # Launchers that cannot send signals are left to the usual way.
                with contextlib.suppress(LauncherError):
                    finish(launcher.signal(self.number))
        cluster.stop_cluster_sync()
        if running:
            print(f"Stopped cluster {key!r}")
            return 0
        kinds: tuple[profile_paths.Kind, ...] = ("client", "engine")
        remove_dead_traces(
            profile_paths.connection_path(Path(cluster.profile_dir), kind, cluster.cluster_id) for kind in kinds
        )
        print(
            f"Cluster {key!r} did not run any more; removed its files. Its logs stay, `ipcluster clean` removes them."
        )
        return ALREADY_STOPPED


class IPClusterList(IPClusterApplication):
    """Shows clusters."""

    needs_profile = False
    name = Unicode("ipcluster list")
    description = Unicode("Show the clusters of all profiles, or of the one given.")
    examples = Unicode("ipcluster list\nipcluster list -o json")
    aliases = LIST_ALIASES

    output_format = Enum(("text", "json"), default_value="text", help="text or json").tag(config=True)

    def start(self) -> None:
        """Print the list."""
        super().start()
        manager = ClusterManager(parent=self)
        one = self.profile or "ProfileDir" in self.config
        chosen = (
            {"profile_dir": self.profile_dir}
            if one
            else {"profile_dirs": profile_paths.profile_folders(self.ipython_dir)}
        )
        clusters = manager.load_clusters(**chosen, load_profile=False)
        if self.output_format == "json":
            print(json.dumps([cluster.to_dict() for cluster in clusters.values()]))
            return
        for row in table([HEADINGS, *map(describe, clusters.values())]):
            print(row)


class IPClusterStatus(IPClusterList):
    """Shows one cluster."""

    name = Unicode("ipcluster status")
    description = Unicode(
        "Say whether a cluster runs, and how it fares: exit code 0 if it does, 12 if there is none. Controllers that were "
        "started by themselves count."
    )
    examples = Unicode("ipcluster status --profile=mycluster")

    def start(self) -> None:
        """Print a few lines, or the cluster as JSON."""
        try:
            cluster = self.load_cluster(self.cluster_id)
        except (OSError, ValueError) as error:
            self.look_for_controller(error)
            return
        if self.output_format == "json":
            print(json.dumps({**cluster.to_dict(), "running": cluster.is_running, "now": ask(cluster)}))
        else:
            print("\n".join(table([HEADINGS, describe(cluster)])))
            for line in tell(cluster):
                print(line)
        sys.exit(0 if cluster.is_running else NO_CLUSTER)

    def look_for_controller(self, error: Exception) -> None:
        """Tell of a controller that was started by itself; leaves the program if there is none either."""
        try:
            info = connection_file.load(profile_paths.connection_path(self.profile_dir, "client", self.cluster_id))
        except (OSError, ValueError):
            info = None
        if info is None or not is_controller_there(info):
            self.fail(str(error), NO_CLUSTER)
        place = {"cluster_id": self.cluster_id, "profile_dir": str(self.profile_dir), "cluster_file": ""}
        cluster = Cluster(**place, load_profile=False, shutdown_atexit=False)
        if self.output_format == "json":
            print(json.dumps({**cluster.to_dict(), "running": True, "now": ask(cluster)}))
            return
        print(f"A controller that was started by itself: pid {info.pid} on {info.location}, {info.url}.")
        for line in tell_now(cluster):
            print(line)


class IPClusterClean(IPClusterApplication):
    """Removes files of clusters that are gone."""

    needs_profile = False
    name = Unicode("ipcluster clean")
    description = Unicode(
        "Remove cluster files, connection files and logs of clusters that do not run. Exit code 1 says that some runs: "
        "its files stay."
    )
    examples = Unicode("ipcluster clean\nipcluster clean --all")
    flags = CLEAN_FLAGS

    force = Bool(False, help="Remove the files even of clusters that run.").tag(config=True)
    all_profiles = Bool(False, help="In every profile.").tag(config=True)

    def start(self) -> None:
        """Remove the files; leaves with code 1 if a cluster runs."""
        super().start()
        folders = profile_paths.profile_folders(self.ipython_dir) if self.all_profiles else [self.profile_dir]
        try:
            clean_cluster_files(folders, self.log, force=self.force)
        except ValueError as error:
            self.fail(str(error))


def describe(cluster: Cluster) -> tuple[str, ...]:
    """One row of the list."""
    plain = cluster.to_dict()
    return (
        profile_paths.profile_name(cluster.profile_dir) or cluster.profile_dir,
        cluster.cluster_id or '""',
        str(cluster.is_running),
        str(sum(launcher.n for launcher in cluster.engines.values())),
        str(plain["engines"]["class"]),
    )


def ask(cluster: Cluster) -> dict[str, Any]:
    """What the controller says of itself: engines that are connected, tasks, crashes. Empty if it does not answer."""
    try:
        with cluster.connect_client_sync(timeout=ANSWER) as client:
            return {"connected": client.ids, "crashes": client.link.ask("crashes"), **client.statistics()}
    except (LauncherError, OSError):
        return {}


def tell(cluster: Cluster) -> Iterator[str]:
    """How a cluster fares, in lines."""
    if not cluster.is_running:
        yield "It does not run any more. `ipcluster stop` removes its files."
        return
    yield from tell_now(cluster)


def tell_now(cluster: Cluster) -> Iterator[str]:
    """What its controller says, in lines."""
    now = ask(cluster)
    if not now:
        yield "Its controller does not answer."
        return
    engines, tasks = len(now["connected"]), now["unfinished"]
    yield f"{engines} engine{'s' * (engines != 1)} connected; {tasks} task{'s' * (tasks != 1)} unfinished."
    if status := statuses(cluster.launchers()):
        yield f"{status}."
    for crash in now["crashes"][-SHOWN:]:
        who = f"Engine {crash['id']}" if crash["id"] >= 0 else "An engine that had not connected yet"
        yield f"{who} died: {crash['reason']}."


def table(rows: list[tuple[str, ...]]) -> Iterator[str]:
    """Rows in columns as wide as they need be."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    for row in rows:
        yield "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
