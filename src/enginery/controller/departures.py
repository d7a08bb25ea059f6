"""How an engine's end is put into words. No I/O."""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from enginery.wire.messages import EngineExited


def describe_exit(exited: EngineExited) -> str:
    """Exit code or signal in words; the nanny's own words win."""
    if exited.note:
        return exited.note
    if exited.code < 0:
        try:
            name = signal.Signals(-exited.code).name
        except ValueError:
            name = f"signal {-exited.code}"
        return f"killed by {name}"
    return f"exited with code {exited.code}"
