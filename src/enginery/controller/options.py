"""The controller's settings, one frozen dataclass. Defaults are those of a cluster on this machine."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from enginery.controller.limits import Limits
from enginery.net import profile_paths


@dataclass(frozen=True, slots=True)
class ControllerOptions:
    """What a controller is told at its start."""

    profile_dir: Path  #: its ``security`` and ``log`` folders are used
    cluster_id: str = ""
    ip: str = "127.0.0.1"  #: address of the tcp endpoints; ``*`` for all interfaces
    listen_tcp: bool = True  #: False: reachable on this host only, through ipc
    client_port: int = 0  #: 0: any free one
    engine_port: int = 0
    location: str = ""  #: name or address under which other hosts reach this one; empty: the host name
    ssh_server: str = ""  #: for clients, written into their connection file
    engine_ssh_server: str = ""
    reuse: bool = False  #: keep the ports and keys of existing connection files
    restore: bool = False  #: remember in a file what was accepted, and go on with what is in it; implies ``reuse``
    reconnect: float = 30.0  #: seconds in which a peer whose connection is lost may come back; 0: not at all
    heartbeat: float = 3.0  #: seconds between signs of life
    max_misses: int = 10  #: heartbeats an engine may miss before it counts as gone
    scheme: str = "leastload"
    hwm: int | None = None  #: tasks per engine; 0: unlimited, None: adaptive
    client_file: Path | None = None  #: default: in the profile's security folder
    engine_file: Path | None = None
    secure: bool = True  #: False: no keys at all
    curve: bool = True  #: encrypt tcp; where it is not encrypted, it is signed
    key: str = field(default="", repr=False)  #: what all keys are made from; empty: chance
    server_secret: str = field(default="", repr=False)  #: the controller's own CURVE key; empty: made with the others
    limits: Limits = field(default_factory=Limits)  #: what one peer may take
    window: int = 64 << 20  #: bytes a client may have outstanding
    ready_fd: int | None = None  #: gets one JSON line with both connection infos once listening
    owner_pid: int | None = None  #: leave when this process is gone
    owner_beat: Path | None = None  #: leave when this file has not changed for a lease (``net.beat``)
    log: str = ""  #: file for log lines; empty: standard error
    log_level: int = 20
    store: str = "DictDB"  #: where records of tasks are kept; see ``store.choice``
    store_settings: Mapping[str, Any] = field(default_factory=dict)
    log_url: str = ""  #: where log lines are published as well; empty: nowhere

    def __post_init__(self) -> None:
        """Peers find a controller again only where they found it before."""
        if self.restore:
            object.__setattr__(self, "reuse", True)

    @property
    def logbook_path(self) -> Path:
        """Where a durable controller remembers."""
        return profile_paths.logbook_path(self.profile_dir, self.cluster_id)

    @property
    def security_dir(self) -> Path:
        """Where connection files live."""
        return self.profile_dir / "security"

    def connection_path(self, kind: str) -> Path:
        """Path of the connection file for ``client`` or ``engine``."""
        given = self.client_file if kind == "client" else self.engine_file
        if given is not None:
            return given if given.is_absolute() else self.security_dir / given
        infix = f"-{self.cluster_id}" if self.cluster_id else ""
        return self.security_dir / f"ipcontroller{infix}-{kind}.json"

    @property
    def key_path(self) -> Path:
        """Where keys are kept for the next start, if that is to use the same ones."""
        return profile_paths.keys_path(self.profile_dir, self.cluster_id)
