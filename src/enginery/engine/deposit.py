"""What the controller relays to a nanny: large buffers for engines of its host, put into the host's shared memory.

All engines of a host find it there, whichever nanny put it: nannies of one cluster share a folder.
"""

from __future__ import annotations

import hashlib
import logging
import secrets
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

from enginery.net.addresses import endpoints_to_try
from enginery.net.segment_folder import LOCK, share_segment_folder, sweep_segment_folders, usable, word_of
from enginery.net.segments import Pool, remove_abandoned
from enginery.wire.messages import Relayed

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from enginery.engine.options import EngineOptions
    from enginery.net.connection_file import ConnectionInfo
    from enginery.net.segment_folder import SegmentFolder
    from enginery.wire.messages import Relay

log = logging.getLogger(__name__)

#: First letter of the names of relayed segments. Those of clients and engines live in another folder.
PREFIX: Final = "h"
#: Seconds after which segments are removed whose nanny, or whose controller, is not there any more. Tasks that came before
#: may still be about to read them.
LEASE: Final = 3600.0
#: Seconds between two looks for such.
SWEEP_EVERY: Final = 60.0


class _Coming(NamedTuple):
    """A buffer of which not all has come."""

    name: str
    view: memoryview


class Deposit:
    """What was relayed to one nanny. Belongs to its thread."""

    def __init__(self, shared: SegmentFolder | None) -> None:
        """``shared`` is None where there is no shared memory; one that is not here counts as none."""
        self._shared = shared
        self._folder = usable(str(shared.path) if shared is not None else "")
        self.place = word_of(self._folder)  #: what engines that look there say as well
        self._coming: dict[int, _Coming] = {}
        self._pool = self._new_pool()
        self._next_sweep = time.monotonic() + SWEEP_EVERY

    def __repr__(self) -> str:
        return f"<Deposit folder={self._folder!r} bytes={self._pool.size}>"

    @property
    def is_open(self) -> bool:
        """Whether anything can be put here."""
        return not self._pool.closed

    @property
    def is_used(self) -> bool:
        """Whether anything has come lately, and more may be on its way."""
        return self._pool.size > 0

    def begin_anew(self) -> None:
        """Another connection, or another controller: nobody will say what of the earlier ones is of no use any more."""
        self._coming.clear()
        self._pool.close()
        self._pool = self._new_pool()

    def take(self, relay: Relay, frames: Sequence[memoryview]) -> Relayed:
        """A portion of a buffer has come; returns what to answer."""
        coming = self._coming.get(relay.number)
        if not relay.at and (reserved := self._pool.reserve(relay.size)) is not None:
            coming = self._coming[relay.number] = _Coming(*reserved)
        end = relay.at + (frames[0].nbytes if frames else 0)
        if coming is None or len(frames) != 1 or end > coming.view.nbytes:
            self._give_up(relay.number)
            return Relayed(relay.number, -1)
        coming.view[relay.at : end] = frames[0]
        if end < relay.size:
            return Relayed(relay.number, end)
        del self._coming[relay.number]
        return Relayed(relay.number, end, coming.name)

    def release(self, names: Iterable[str]) -> None:
        """Segments have been read by all who shall read them."""
        self._pool.release(names)

    def trim(self, now: float) -> None:
        """Give back what has been of no use for a while. To be called now and then."""
        self._pool.trim()
        if now >= self._next_sweep:
            self._next_sweep = now + SWEEP_EVERY
            self._sweep(time.time() - LEASE)

    def leave(self) -> None:
        """The nanny leaves, and with it, or before it, its engines and their host. What others may still read stays."""
        self._pool.close()
        if self._shared is not None:
            self._shared.leave()

    def _give_up(self, number: int) -> None:
        coming = self._coming.pop(number, None)
        if coming is not None:
            self._pool.release([coming.name])

    def _new_pool(self) -> Pool:
        self._prefix = f"{PREFIX}{secrets.randbits(48)}"
        return Pool(self._folder, self._prefix)

    def _sweep(self, before: float) -> None:
        """Remove what nannies that are gone have left, and what was left to earlier controllers."""
        if not self._folder:
            return
        try:
            for path in Path(self._folder).iterdir():
                if path.name != LOCK and not path.name.startswith(f"{self._prefix}-") and path.stat().st_ctime < before:
                    remove_abandoned(path)
        except OSError:
            pass  # somebody has removed the folder


def folder_for(options: EngineOptions) -> SegmentFolder | None:
    """The folder for what is relayed to engines of this host, which all of their cluster share, whoever started them.

    None where nothing is relayed, since engines beside their controller get all else as well, and where there is no room.
    """
    if endpoints_to_try(options.connection)[0].startswith("ipc://"):
        return None
    sweep_segment_folders()  # of hosts and controllers that were killed here
    return share_segment_folder(_name_of(options.connection))


def _name_of(connection: ConnectionInfo) -> str:
    """The same for all engines of a cluster, also with a controller that takes the place of another."""
    key = connection.server_key or connection.exec_key or f"{connection.location} {connection.url}"
    return hashlib.sha256(f"enginery deposit {connection.cluster_id} {key}".encode()).hexdigest()[:16]
