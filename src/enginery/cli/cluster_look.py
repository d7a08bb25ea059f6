"""ipcluster stop, list, status and clean: commands that look for clusters others started."""

from __future__ import annotations

import json
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from traitlets import Bool, Enum, Integer, Unicode

from enginery.cli.cluster_command import IPClusterApplication
from enginery.cluster.manager import ClusterManager, clean_cluster_files, cluster_key
from enginery.config.application import ALREADY_STOPPED, BASE_ALIASES, BASE_FLAGS, NO_CLUSTER
from enginery.net import profile_paths

if TYPE_CHECKING:
    from collections.abc import Iterator

    from enginery.cluster.cluster import Cluster

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

    signal = Integer(signal.SIGINT, help="Of earlier versions; a cluster is asked to leave, then made to.").tag(
        config=True
    )
    all_cluster_ids = Bool(False, help="Stop every cluster of the profile.").tag(config=True)

    def start(self) -> None:
        """Stop the clusters, and leave with code 11 if there was none."""
        super().start()
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
        cluster.stop_cluster_sync()
        print(f"Stopped cluster {key!r}" if running else f"Cluster {key!r} did not run any more; removed its file.")
        return 0 if running else ALREADY_STOPPED


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
        for row in table(
            [("PROFILE", "CLUSTER ID", "RUNNING", "ENGINES", "LAUNCHER"), *map(describe, clusters.values())]
        ):
            print(row)


class IPClusterStatus(IPClusterList):
    """Shows one cluster."""

    name = Unicode("ipcluster status")
    description = Unicode("Say whether a cluster runs: exit code 0 if it does, 12 if there is none.")
    examples = Unicode("ipcluster status --profile=mycluster")

    def start(self) -> None:
        """Print one line, or the cluster as JSON."""
        try:
            cluster = self.load_cluster(self.cluster_id)
        except (OSError, ValueError) as error:
            self.fail(str(error), NO_CLUSTER)
        if self.output_format == "json":
            print(json.dumps(cluster.to_dict()))
        else:
            print("\n".join(table([("PROFILE", "CLUSTER ID", "RUNNING", "ENGINES", "LAUNCHER"), describe(cluster)])))
        sys.exit(0 if cluster.is_running else NO_CLUSTER)


class IPClusterClean(IPClusterApplication):
    """Removes files of clusters that are gone."""

    needs_profile = False
    name = Unicode("ipcluster clean")
    description = Unicode("Remove cluster files, connection files and logs of clusters that do not run.")
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


def table(rows: list[tuple[str, ...]]) -> Iterator[str]:
    """Rows in columns as wide as they need be."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    for row in rows:
        yield "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
