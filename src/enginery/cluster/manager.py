"""ClusterManager: the clusters of one or more profiles, by key."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

from traitlets.config import LoggingConfigurable

from enginery.cluster.cluster import Cluster
from enginery.net import profile_paths

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator


class ClusterManager(LoggingConfigurable):
    """Finds clusters by their files and keeps those made here. A key is ``<profile>:<cluster id>``."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.clusters: dict[str, Cluster] = {}

    def __repr__(self) -> str:
        return f"<ClusterManager {list(self.clusters)}>"

    def load_clusters(
        self,
        *,
        profile_dirs: Iterable[str | Path] | None = None,
        profile_dir: str | Path | None = None,
        profiles: Iterable[str] | None = None,
        profile: str | None = None,
        init_default_clusters: bool = False,
        **kwargs: Any,
    ) -> dict[str, Cluster]:
        """Look for cluster files in the given profiles (default: all) and return all clusters by key.

        Clusters that are known already stay the same objects. With ``init_default_clusters``, each profile has at
        least a cluster without an id, which does not run. ``kwargs`` go to ``Cluster.from_file``.
        """
        folders = [Path(each) for each in profile_dirs or ()]
        folders += [Path(profile_dir)] if profile_dir else []
        folders += [profile_paths.profile_folder(each) for each in (*(profiles or ()), *([profile] if profile else []))]
        if not folders and profile_dirs is None and profiles is None:
            folders = profile_paths.profile_folders()
        for key in [key for key, cluster in self.clusters.items() if not Path(cluster.cluster_file).exists()]:
            if self.clusters[key].shutdown_atexit is False:
                # It was found by its file, which is gone: somebody else stopped it.
                del self.clusters[key]
        for folder in folders:
            self._load_profile(folder, kwargs)
            default = cluster_key(folder, "")
            if init_default_clusters and default not in self.clusters:
                self.clusters[default] = Cluster(profile_dir=str(folder), cluster_id="", shutdown_atexit=False)
        return self.clusters

    def _load_profile(self, folder: Path, kwargs: dict[str, Any]) -> None:
        for path in cluster_files(folder):
            key = cluster_key(folder, path.stem.removeprefix("cluster-"))
            if key in self.clusters and self.clusters[key].is_running:
                continue
            # A file that was removed while we looked, or damaged, is no cluster.
            with contextlib.suppress(OSError, ValueError):
                self.clusters[key] = Cluster.from_file(path, **kwargs)

    def new_cluster(self, **kwargs: Any) -> tuple[str, Cluster]:
        """Make a cluster, without starting it, and return its key and itself. The first of a profile has no id."""
        if "cluster_id" not in kwargs:
            folder = profile_paths.profile_folder(kwargs.get("profile") or "", kwargs.get("profile_dir") or "")
            if cluster_key(folder, "") not in self.clusters:
                kwargs["cluster_id"] = ""
        cluster = Cluster(**kwargs)
        key = cluster_key(Path(cluster.profile_dir), cluster.cluster_id)
        if key in self.clusters:
            msg = f"There is a cluster {key!r} already. Choose another cluster_id."
            raise KeyError(msg)
        self.clusters[key] = cluster
        return key, cluster

    def get_cluster(self, key: str) -> Cluster:
        """The cluster with this key. Raises KeyError."""
        if key not in self.clusters:
            msg = f"There is no cluster {key!r}; there are {list(self.clusters)}."
            raise KeyError(msg)
        return self.clusters[key]

    def remove_cluster(self, key: str) -> None:
        """Forget a cluster, without stopping it. Raises KeyError."""
        del self.clusters[self._known(key)]

    def _known(self, key: str) -> str:
        self.get_cluster(key)
        return key


def cluster_key(profile_dir: Path, cluster_id: str) -> str:
    """``<profile>:<cluster id>``; folders that are not named like a profile stand for themselves."""
    return f"{profile_paths.profile_name(profile_dir) or profile_dir}:{cluster_id}"


def cluster_files(profile_dir: Path) -> Iterator[Path]:
    """The cluster files in a profile, by name."""
    return iter(sorted((profile_dir / "security").glob("cluster-*.json")))
