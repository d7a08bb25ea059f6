"""What a cluster is made with: its arguments, its profile's configuration, and its launchers."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from enginery.cluster.launchers.base import ControllerLauncher, EngineLauncher
from enginery.cluster.registry import find_launcher_class
from enginery.config.files import load_profile_config
from enginery.net import profile_paths

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from traitlets.config import Config

    from enginery.cluster.cluster import Cluster
    from enginery.cluster.known import KnownCluster


#: Settings by which a user decides where the controller listens, and the arguments that set them.
ADDRESS_SETTINGS: Final = frozenset({"ip", "engine_ip", "client_ip", "transport"})
ADDRESS_ARGUMENTS: Final = ADDRESS_SETTINGS | {f"IPController.{name}" for name in ADDRESS_SETTINGS}


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
    settings = {"ip": cluster.controller_ip or chosen_ip(cluster, launcher), "location": cluster.controller_location}
    told = [f"--{name}={value}" for name, value in settings.items() if value]
    launcher.controller_args = [*launcher.controller_args, *told, *cluster.controller_args]
    return launcher


def chosen_ip(cluster: Cluster, launcher: ControllerLauncher) -> str:
    """Where the controller listens if the user did not say: on the network if its engines are on other hosts."""
    engines = find_launcher_class(cluster.engine_launcher_class, "engine")
    if not (launcher.needs_network or engines.needs_network):
        return ""
    arguments = [*launcher.controller_args, *cluster.controller_args]
    told = any(argument.lstrip("-").partition("=")[0] in ADDRESS_ARGUMENTS for argument in arguments)
    settings = load_profile_config(Path(cluster.profile_dir), "ipcontroller_config").get("IPController", {})
    return "" if told or not ADDRESS_SETTINGS.isdisjoint(settings) else "*"


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
    launcher.engine_args = [*launcher.engine_args, *cluster.engine_args]
    return launcher
