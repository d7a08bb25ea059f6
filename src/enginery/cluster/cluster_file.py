"""The cluster file: what another process needs to take a running cluster over."""

from __future__ import annotations

import contextlib
import json
import os
import time
from typing import TYPE_CHECKING, Any, Final

from enginery.cluster.launchers.base import NotRunning
from enginery.cluster.registry import Kind, abbreviate_launcher_class, find_launcher_class
from enginery.net.connection_file import write_private

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping
    from pathlib import Path

    from enginery.cluster.known import KnownCluster
    from enginery.cluster.launchers.base import BaseLauncher

#: What of a cluster's arguments its file remembers.
ARGUMENTS: Final = (
    "cluster_id",
    "profile_dir",
    "controller_args",
    "controller_ip",
    "controller_location",
    "delay",
    "n",
)
#: How long another process may have the files of a folder for itself, and how often it is looked whether it still does.
PATIENCE: Final = 1.0
PAUSE: Final = 0.005


@contextlib.contextmanager
def exclusive(path: Path) -> Iterator[None]:
    """Keep other processes from changing cluster files of this folder meanwhile.

    Nothing is left by it, whatever dies. Where there are no locks, and when somebody who has one does not go on, it is done
    without.
    """
    try:
        import fcntl  # not everywhere

        folder = os.open(path.parent, os.O_RDONLY | os.O_CLOEXEC)
    except (ImportError, OSError):
        yield
        return
    try:
        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < deadline:
            try:
                fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                time.sleep(PAUSE)  # to wait for a lock has no end where its owner is stopped
            except OSError:
                break
            else:
                break
        yield
    finally:
        os.close(folder)


def read_cluster_file(path: Path) -> dict[str, Any]:
    """The contents of a cluster file.

    Raises FileNotFoundError if there is none, ValueError if it is damaged.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        msg = f"There is no cluster file {str(path)!r}: no such cluster runs. See `ipcluster list` for those that do."
        raise FileNotFoundError(msg) from None
    try:
        plain = json.loads(text)
    except ValueError as error:
        msg = f"Cluster file {str(path)!r} is damaged ({error}). Remove it with `ipcluster clean`."
        raise ValueError(msg) from error
    if not isinstance(plain, dict) or not isinstance(plain.get("cluster"), dict):
        msg = f"{str(path)!r} is no cluster file: it has no 'cluster'. Remove it with `ipcluster clean`."
        raise ValueError(msg)  # noqa: TRY004 - the file is at fault, not the caller
    return plain


def write_cluster_file(path: Path, plain: Mapping[str, Any]) -> None:
    """Write atomically, readable by the owner only: launchers may remember what others should not know."""
    write_private(path, json.dumps(plain, indent=1) + "\n")


def with_others(path: Path, plain: dict[str, Any], gone: Collection[str]) -> dict[str, Any]:
    """A description with the engine sets that another process has started meanwhile, by its file.

    ``gone`` are ids of sets that are known to have ended, whatever the file says.
    """
    try:
        written = read_cluster_file(path)["engines"]["sets"]
    except (OSError, ValueError, KeyError, TypeError):
        return plain
    mine = plain["engines"]["sets"]
    others = {name: each for name, each in written.items() if name not in mine and name not in gone}
    return {**plain, "engines": {**plain["engines"], "sets": {**mine, **others}}}


def describe_cluster(cluster: KnownCluster) -> dict[str, Any]:
    """A cluster in plain values, with what runs of it."""
    sets = {name: each for name, each in list(cluster.engines.items()) if each.state != "after"}
    values = cluster.trait_values()
    plain: dict[str, Any] = {
        "cluster": {
            "class": f"{type(cluster).__module__}.{type(cluster).__qualname__}",
            **{name: values[name] for name in ARGUMENTS},
        },
        "engines": {
            "class": _name_of(values["engine_launcher_class"]),
            "sets": {name: describe_launcher(each) for name, each in sets.items()},
        },
    }
    if cluster.controller is not None and cluster.controller.state != "after":
        plain["controller"] = describe_launcher(cluster.controller)
    return plain


def described_arguments(plain: Mapping[str, Any]) -> dict[str, Any]:
    """Arguments that make the described cluster, but for its launchers."""
    described = plain["cluster"]
    arguments = {name: described[name] for name in ARGUMENTS if name in described}
    for kind in ("controller", "engines"):
        if name := plain.get(kind, {}).get("class"):
            arguments[f"{kind.removesuffix('s')}_launcher_class"] = name
    return arguments


def describe_launcher(launcher: BaseLauncher) -> dict[str, Any]:
    """A launcher in plain values."""
    return {"class": abbreviate_launcher_class(type(launcher)), "state": launcher.to_dict()}


def revive_launchers(plain: Mapping[str, Any], arguments: Mapping[str, Any]) -> Iterator[BaseLauncher]:
    """The described launchers of what still runs; all are made with ``arguments``."""
    if plain.get("controller"):
        yield from _revive(plain["controller"], "controller", arguments)
    for engine_set_id, described in plain.get("engines", {}).get("sets", {}).items():
        n = int(described.get("state", {}).get("n", 1))
        yield from _revive(described, "engine", {**arguments, "engine_set_id": engine_set_id, "n": n})


def _revive(described: Mapping[str, Any], kind: Kind, arguments: Mapping[str, Any]) -> Iterator[BaseLauncher]:
    try:
        launcher_class = find_launcher_class(described["class"], kind)
        yield launcher_class.from_dict(described.get("state") or {}, **arguments)
    except NotRunning:
        return


def _name_of(launcher_class: str | type) -> str:
    return (
        launcher_class if isinstance(launcher_class, str) else f"{launcher_class.__module__}.{launcher_class.__name__}"
    )
