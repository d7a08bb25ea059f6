"""What is left to do for programs that outlive the process they were started for."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import TYPE_CHECKING

from enginery.engine.watch import has_ended, watch_process

if TYPE_CHECKING:
    from collections.abc import Iterable


def clean_up_after_owner(owner: int | None, files: Iterable[Path], patience: float = 0.0) -> None:
    """Remove ``files`` if the process ``owner`` is gone within ``patience`` seconds, and cannot do so itself."""
    if owner is None or (is_alive(owner) and not _is_gone_within(owner, patience)):
        return
    for path in files:
        with contextlib.suppress(OSError):
            path.unlink()


def _is_gone_within(pid: int, patience: float) -> bool:
    try:
        watch = watch_process(pid)
    except ProcessLookupError:
        return True
    try:
        return patience > 0 and has_ended(watch, patience)
    finally:
        watch.close()


def is_alive(pid: int) -> bool:
    """Whether there is a process with this id that still runs: one that only waits to be reaped does not."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()[0]
    except OSError:
        return not Path("/proc/self/stat").exists() and _is_alive_elsewhere(pid)
    return state not in "ZX"


def _is_alive_elsewhere(pid: int) -> bool:
    # Only systems without /proc pay for this import.
    import psutil

    try:
        return bool(psutil.Process(pid).status() != psutil.STATUS_ZOMBIE)
    except psutil.Error:
        return False
