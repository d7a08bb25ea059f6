"""What an engine program is told at its start: one frozen dataclass. No I/O."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from enginery.net.connection_file import ConnectionInfo

if TYPE_CHECKING:
    from collections.abc import Mapping

PATHS: Final = ("profile_dir", "connection_file", "work_dir")


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineOptions:
    """How one host process starts its engines. Durations are seconds."""

    #: where the controller listens for engines, and the keys for it
    connection: ConnectionInfo
    #: how many engines this host process starts
    n: int = 1
    cluster_id: str = ""
    profile_dir: Path | None = None
    #: the file ``connection`` came from, read anew when a restarted controller wrote another one
    connection_file: Path | None = None
    #: leave when this process is gone
    owner_pid: int | None = None
    #: file and source text to run in the namespace before the first task
    startup_script: str = ""
    startup_command: str = ""
    #: folder engines run in; None keeps the one the host was started in
    work_dir: Path | None = None
    #: id wanted by the first engine, the next ones want the next ids; None takes what the controller gives
    id: int | None = None
    #: start an engine again, under a new uuid, when it died of itself
    restart: bool = False
    #: how long the controller may take to answer a hello
    timeout: float = 5.0
    #: heartbeats without an answer until the controller counts as gone for good; 0 stays for ever
    max_misses: int = 50
    #: who was started together with these engines
    engine_set: str = ""
    #: this process was started by mpiexec and must be the engine itself, since it calls MPI_Init
    use_mpi: bool = False
    #: its rank (-1: it is none) and how many ranks there are, as mpiexec says
    rank: int = -1
    ranks: int = 0
    #: folder of shared memory of this host, where its nanny puts what is relayed; set by the host
    segments: str = ""
    #: source text to run in the namespace to call MPI_Init, before the engine joins
    init_mpi: str = ""
    #: False starts each engine as a process of its own, even where forking is safe
    fork: bool = True
    #: how long engines may take to leave after SIGTERM, until SIGKILL
    stop_timeout: float = 2.0
    #: log file ("" for stderr) and the lowest level written to it
    log: str = ""
    log_level: int = 30
    #: where log lines are published as well ("": nowhere)
    log_url: str = ""
    #: settings of the IPython shell and its parts, by class name
    shell: dict[str, dict[str, Any]] = field(default_factory=dict)
    #: environment variables set in the engines only
    environment: dict[str, str] = field(default_factory=dict)

    def to_dict(self) -> dict[str, object]:
        """Plain values, keys included: treat the outcome as a secret."""
        plain = {each.name: getattr(self, each.name) for each in fields(self)}
        # Only what is set: an empty list of endpoints is an error in a file, but not in memory.
        plain["connection"] = {name: value for name, value in self.connection.to_dict().items() if value}
        return plain | {name: str(plain[name]) for name in PATHS if plain[name] is not None}

    @classmethod
    def from_dict(cls, plain: Mapping[str, object]) -> EngineOptions:
        """The options that ``to_dict`` was called on."""
        values: dict[str, Any] = dict(plain)
        values["connection"] = ConnectionInfo.from_dict(values["connection"])
        values |= {name: Path(values[name]) for name in PATHS if values[name] is not None}
        return cls(**values)
