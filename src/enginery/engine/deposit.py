"""What the controller relays to a nanny: large buffers for engines of its host, put into the host's shared memory."""

from __future__ import annotations

import logging
import secrets
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

from enginery.net.addresses import endpoints_to_try
from enginery.net.segment_folder import LOCK, SegmentFolder, make_segment_folder, sweep_segment_folders, usable
from enginery.net.segments import Pool
from enginery.wire.messages import Relayed

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from enginery.engine.options import EngineOptions
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
    """The relayed buffers of one host. Belongs to its nanny's thread."""

    def __init__(self, folder: str) -> None:
        """``folder`` is empty where there is no shared memory; one that is not here counts as none."""
        self._folder = usable(folder)
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

    def remove(self) -> None:
        """The nanny leaves, and with it, or before it, the engines and their host."""
        self._pool.close()
        if self._folder:
            SegmentFolder(Path(self._folder), -1).remove()

    def _give_up(self, number: int) -> None:
        coming = self._coming.pop(number, None)
        if coming is not None:
            self._pool.release([coming.name])

    def _new_pool(self) -> Pool:
        self._prefix = f"{PREFIX}{secrets.randbits(48)}"
        return Pool(self._folder, self._prefix)

    def _sweep(self, before: float) -> None:
        """Remove what a nanny that is gone has left, and what was left to earlier controllers."""
        if not self._folder:
            return
        try:
            for path in Path(self._folder).iterdir():
                if path.name != LOCK and not path.name.startswith(f"{self._prefix}-") and path.stat().st_ctime < before:
                    path.unlink(missing_ok=True)
        except OSError:
            pass  # somebody has removed the folder


def folder_for(options: EngineOptions) -> SegmentFolder | None:
    """A folder for what is relayed to the engines of this host; None where nothing is, since they get all else as well."""
    if options.n == 1 or endpoints_to_try(options.connection)[0].startswith("ipc://"):
        return None
    sweep_segment_folders()  # of hosts and controllers that were killed here
    return make_segment_folder()
