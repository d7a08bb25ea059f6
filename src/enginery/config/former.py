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
    **{f"MPIExec{kind}": f"MPI{kind}" for kind in ("Launcher", "ControllerLauncher", "EngineSetLauncher")},
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
    "MPI.init_script": "IPEngine.init_mpi",
}
_ONE_PROCESS: Final = "The controller is one process."
_NAMED: Final = "Connections are named by the programs."
_ONE_IP: Final = "Set IPController.ip, which holds for clients and engines."
_TWO_PORTS: Final = "The controller has two ports: IPController.client_ports and engine_ports."
#: Settings that nothing depends on any more -> why. They are accepted.
IDLE: Final = {
    "IPController.use_threads": _ONE_PROCESS,
    "IPController.broadcast_scheduler_depth": _ONE_PROCESS,
    "IPController.monitor_ip": _ONE_PROCESS,
    "IPController.monitor_transport": _ONE_PROCESS,
    "IPController.registration_timeout": "Engines are known as soon as they say hello.",
    **{f"IPController.{name}": _TWO_PORTS for name in ("hb", "mux", "task", "control", "iopub")},
    **{f"IPController.{name}": _TWO_PORTS for name in ("mon_port", "notifier_port")},
    **{f"IPController.{who}_ip": _ONE_IP for who in ("client", "engine")},
    **{f"IPController.{who}_transport": "Set IPController.transport." for who in ("client", "engine")},
    "IPEngine.enable_nanny": "Every engine is watched.",
    "IPEngine.out_stream_factory": "Output is captured where it is written.",
    "IPEngine.display_hook_factory": "Cells run in IPython's shell.",
    "IPEngine.mpi_registration_delay": "Engines may all come at once.",
    "HeartMonitor.debug": "Log with --debug.",
    "Session.session": _NAMED,
    "Session.username": _NAMED,
    "Session.signature_scheme": "Connections are encrypted.",
    **{
        f"Session.{name}": "Messages have one form."
        for name in ("packer", "unpacker", "metadata", "digest_history_size")
    },
    **{
        f"Session.{name}": "Large values travel apart by themselves."
        for name in ("buffer_threshold", "item_threshold", "copy_threshold")
    },
    **{f"Session.{name}": "Nothing asks for it." for name in ("check_pid", "debug")},
}
#: Program -> argument -> the argument that took its place.
ARGUMENTS: Final = {
    "ipengine": {"furl-file": "file"},
    "ipcontroller": {"port": "engine-port"},
}
_IDENTITY: Final = {"ident": _NAMED, "user": _NAMED}
_IN_THE_FILE: Final = "Keys are in the connection file."
#: Program -> arguments that nothing depends on any more -> why. They are accepted.
IDLE_ARGUMENTS: Final = {
    "ipcontroller": {**_IDENTITY, "usethreads": _ONE_PROCESS},
    "ipengine": {**_IDENTITY, "keyfile": _IN_THE_FILE, "secure": _IN_THE_FILE, "no-secure": _IN_THE_FILE},
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
    idle = {**IDLE, **IDLE_ARGUMENTS.get(program, {})}
    for at, argument in enumerate(argv):
        if argument == "--":
            return [*modern, *argv[at:]], notes
        name, equals, value = argument.removeprefix("--").partition("=")
        if not argument.startswith("--"):
            modern.append(argument)
            continue
        new = own.get(name) or successor(name)
        if why := idle.get(new):
            notes.append(f"--{name} has no effect any more ({why.removesuffix('.')})")
            continue
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
            new = successor(name)
            if why := IDLE.get(new):
                notes.append(f"{name} has no effect any more ({why.removesuffix('.')})")
            elif new != name:
                new_owner, _, new_trait = new.partition(".")
                notes.append(f"{name} is now {new}")
                if new_trait not in config.get(new_owner, {}):
                    moved[new_owner][new_trait] = _value(name, value)
    return moved, notes


def _value(name: str, value: Any) -> Any:
    if name == "furl-file" and value.endswith(".furl"):
        # What the first generation kept in it stands in the file beside it.
        return f"{value.removesuffix('.furl')}.json"
    if name in {"log-level", "Application.log_level"} and isinstance(value, str):
        # traitlets knows WARN only, and in capitals.
        return value.upper().replace("WARNING", "WARN")
    if name == "MPI.use":
        # Once the name of a package; by now, whether.
        return bool(value)
    return str(value) if name.endswith(".regport") and isinstance(value, int) else value
