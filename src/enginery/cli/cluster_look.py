"""ipcluster stop, list and clean: commands that look for clusters others started."""

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
from enginery.cluster.manager import ClusterManager, cluster_key
from enginery.cluster.twins import finish
from enginery.config.application import ALREADY_STOPPED, BASE_ALIASES, BASE_FLAGS, USAGE
from enginery.errors import LauncherError
from enginery.net import profile_paths
from enginery.net.signals import to_signal

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

    signal = traitlets.Any(
        "SIGTERM", help="How its programs are asked to leave: SIGKILL, or 9, does not ask. After 5 s they are made to."
    ).tag(config=True)
    all_cluster_ids = Bool(False, help="Stop every cluster of the profile.").tag(config=True)

    def start(self) -> None:
        """Stop the clusters, and leave with code 11 if there was none."""
        super().start()
        given = str(self.signal).upper()
        name = given if given.startswith("SIG") else f"SIG{given}"
        found = to_signal(int(given) if given.isdigit() else name)
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
            for launcher in (*cluster.engines.values(), cluster.controller):
                # Launchers that cannot send signals are left to the usual way.
                with contextlib.suppress(LauncherError):
                    finish(launcher.signal(self.number) if launcher is not None else None)
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


def table(rows: list[tuple[str, ...]]) -> Iterator[str]:
    """Rows in columns as wide as they need be."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    for row in rows:
        yield "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
