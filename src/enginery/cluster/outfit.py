"""What a cluster is made with: its arguments, its profile's configuration, and its launchers."""

from __future__ import annotations

import os
import re
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from enginery.cluster.launchers.base import ControllerLauncher, EngineLauncher
from enginery.cluster.registry import find_launcher_class
from enginery.cluster.traces import durable_files
from enginery.config.files import load_profile_config
from enginery.net import profile_paths

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from traitlets.config import Config

    from enginery.cluster.cluster import Cluster
    from enginery.cluster.known import KnownCluster

#: An argument of the controller by which somebody has said where it shall listen.
SAYS_WHERE: Final = re.compile(r"--(ip|[A-Za-z]+\.(engine_)?ip)(=|$)")


def new_id() -> str:
    """An id for a cluster or an engine set: when it was made, and something that nothing made then shares."""
    return f"{int(time.time())}-{os.urandom(2).hex()}"


def check_arguments(arguments: Mapping[str, Any], known: Iterable[str]) -> None:
    """Raise TypeError for an argument that ``Cluster`` does not have."""
    names = set(known)
    if unknown := arguments.keys() - names:
        shown = ["engines", "controller", *sorted(names - {"parent", "config", "log"})]
        msg = f"Cluster has no argument {min(unknown)!r}. It takes {', '.join(shown)}."
        raise TypeError(msg)


def profile_config(arguments: Mapping[str, Any]) -> Config:
    """The profile's configuration, with the one that was passed over it. Raises ValueError for a broken file."""
    folder = profile_paths.profile_folder(arguments.get("profile") or "", arguments.get("profile_dir") or "")
    config = load_profile_config(folder, "ipcluster_config")
    if arguments.get("config") is not None:
        config.merge(arguments["config"])
    return config


def launcher_arguments(cluster: KnownCluster) -> dict[str, Any]:
    """What every launcher of a cluster is made with."""
    return {
        "parent": cluster,
        "log": cluster.log,
        "profile_dir": cluster.profile_dir,
        "cluster_id": cluster.cluster_id,
        "cluster_file": cluster.cluster_file,
        "owned": cluster.shutdown_atexit,
    }


def make_controller_launcher(cluster: Cluster, traits: Mapping[str, Any]) -> ControllerLauncher:
    """The launcher of a cluster's controller; ``traits`` win over its configuration."""
    launcher_class = find_launcher_class(cluster.controller_launcher_class, "controller")
    launcher = launcher_class(**{**launcher_arguments(cluster), **traits})
    if not isinstance(launcher, ControllerLauncher):
        msg = f"{launcher_class.__name__} launches no controller: derive it from ControllerLauncher."
        raise TypeError(msg)
    given = [*launcher.controller_args, *cluster.controller_args]
    ip = cluster.controller_ip or default_ip(cluster, given, is_elsewhere=launcher.needs_network)
    settings = {"ip": ip, "location": cluster.controller_location}
    told = [f"--{name}={value}" for name, value in settings.items() if value]
    if cluster.durable:
        told.append("--restore")
        launcher.litter = [] if cluster.is_named else durable_files(Path(cluster.profile_dir), cluster.cluster_id)
    launcher.controller_args = [*launcher.controller_args, *told, *cluster.controller_args]
    return launcher


def default_ip(cluster: Cluster, given: Sequence[str], *, is_elsewhere: bool = False) -> str:
    """Where the controller listens if nobody said so: everywhere for engines on other hosts, or if it is on another.

    Where they find it then follows from its host's name and addresses. Empty for the controller's own default: this
    host alone, or what the arguments ``given`` or the profile's configuration say.
    """
    if not (is_elsewhere or find_launcher_class(cluster.engine_launcher_class, "engine").needs_network):
        return ""
    if any(SAYS_WHERE.match(each) for each in given):
        return ""
    config = load_profile_config(Path(cluster.profile_dir), "ipcontroller_config")
    said = [config[section] for section in ("IPController", "HubFactory") if section in config]
    return "" if any(name in section for section in said for name in ("ip", "engine_ip")) else "*"


def places(cluster: Cluster) -> int | None:
    """How many engines the launcher of engines has places for by its own settings; None if those say nothing of it."""
    launcher_class = find_launcher_class(cluster.engine_launcher_class, "engine")
    if not issubclass(launcher_class, EngineLauncher) or launcher_class.engine_count is EngineLauncher.engine_count:
        return None
    return launcher_class(parent=cluster, log=cluster.log).engine_count


def make_engine_launcher(cluster: Cluster, n: int, engine_set_id: str, traits: Mapping[str, Any]) -> EngineLauncher:
    """The launcher of a set of ``n`` engines; ``traits`` win over its configuration. Raises ValueError for no engine."""
    if n < 1:
        msg = f"An engine set has at least one engine, not {n}."
        raise ValueError(msg)
    launcher_class = find_launcher_class(cluster.engine_launcher_class, "engine")
    launcher = launcher_class(**{**launcher_arguments(cluster), "engine_set_id": engine_set_id, "n": n, **traits})
    if not isinstance(launcher, EngineLauncher):
        msg = f"{launcher_class.__name__} launches no engines: derive it from EngineLauncher."
        raise TypeError(msg)
    restart = ["--restart"] if cluster.restart_on_crash else []
    launcher.engine_args = [*launcher.engine_args, *restart, *cluster.engine_args]
    return launcher
