"""Names of earlier generations: which setting or argument took the place of each. No I/O."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from traitlets.config.loader import Config

if TYPE_CHECKING:
    from collections.abc import Sequence

#: Class -> the class that has its settings now.
CLASSES: Final = {
    "HubFactory": "IPController",
    "IPControllerApp": "IPController",
    "EngineFactory": "IPEngine",
    "IPEngineApp": "IPEngine",
    "IPClusterApp": "IPCluster",
}
_MOVED: Final = (
    "controller_launcher_class", "engine_launcher_class", "controller_ip", "controller_location", "delay", "n",
)  # fmt: skip
#: Setting -> the setting that took its place. These come before CLASSES.
SETTINGS: Final = {
    **{f"{owner}.{name}": f"Cluster.{name}" for owner in ("IPClusterStart", "IPClusterEngines") for name in _MOVED},
    **{
        f"{owner}.{name}": "Cluster.engine_launcher_class"
        for owner in ("IPClusterStart", "IPClusterEngines", "Cluster")
        for name in ("engine_set_launcher", "engine_set_launcher_class")
    },
    "HubFactory.regport": "IPController.engine_ports",
    "IPController.regport": "IPController.engine_ports",
    "EngineFactory.url": "IPEngine.registration_url",
    "MPI.use": "IPEngine.use_mpi",
    "MPI.init_script": "IPEngine.startup_command",
}
#: Program -> argument -> the argument that took its place.
ARGUMENTS: Final = {
    "ipengine": {"furl-file": "file"},
    "ipcontroller": {"port": "engine-port"},
}


def successor(name: str) -> str:
    """The setting that took the place of ``name``; ``name`` itself if it is no old one."""
    owner, _, trait = name.partition(".")
    return SETTINGS.get(name) or (f"{CLASSES[owner]}.{trait}" if owner in CLASSES else name)


def modern_arguments(program: str, argv: Sequence[str]) -> tuple[list[str], list[str]]:
    """The command line in today's names, and what to tell of each old one."""
    modern: list[str] = []
    notes: list[str] = []
    own = ARGUMENTS.get(program, {})
    for at, argument in enumerate(argv):
        if argument == "--":
            return [*modern, *argv[at:]], notes
        name, equals, value = argument.removeprefix("--").partition("=")
        if not argument.startswith("--"):
            modern.append(argument)
            continue
        new = own.get(name) or successor(name)
        if new != name:
            notes.append(f"--{name} is now --{new}")
        modern.append(f"--{new}{equals}{_value(name, value)}")
    return modern, notes


def modern_settings(config: Config) -> tuple[Config, list[str]]:
    """What ``config`` says under old names, under today's, and what to tell of each. What has today's name wins."""
    moved = Config()
    notes: list[str] = []
    for owner, section in config.items():
        if not isinstance(section, Config):
            continue
        for trait, value in section.items():
            name = f"{owner}.{trait}"
            if (new := successor(name)) != name:
                new_owner, _, new_trait = new.partition(".")
                notes.append(f"{name} is now {new}")
                if new_trait not in config.get(new_owner, {}):
                    moved[new_owner][new_trait] = _value(name, value)
    return moved, notes


def _value(name: str, value: Any) -> Any:
    if name == "MPI.use":
        # Once the name of a package; by now, whether.
        return str(bool(value)) if isinstance(value, str) else bool(value)
    return str(value) if name.endswith(".regport") and isinstance(value, int) else value
