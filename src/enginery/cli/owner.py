"""What is left to do for programs that outlive the process they were started for."""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING

from enginery.engine.watch import has_ended, watch_process
from enginery.net.liveness import is_alive

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path


#: As an owner's process id: whoever started this program.
PARENT = -1


def owner_of_this(told: int) -> int | None:
    """The process id of this program's owner by what ``--owner-pid`` says; None if it has none (0).

    Ranks are told PARENT: only the daemon of MPI that starts them is on their host. A program whose parent is gone
    already, or is the host's first process, has no owner.
    """
    if told != PARENT:
        return told or None
    parent = os.getppid()
    return parent if parent > 1 else None


def clean_up_after_owner(owner: int | None, files: Iterable[Path], patience: float = 0.0) -> None:
    """Remove ``files`` if the process ``owner`` is gone within ``patience`` seconds, and cannot do so itself."""
    if owner is not None and (not is_alive(owner) or _is_gone_within(owner, patience)):
        remove_files(files)


def remove_files(files: Iterable[Path]) -> None:
    """Remove what the owner cannot remove himself."""
    for path in files:
        with contextlib.suppress(OSError):
            # A log may have been sent to a device, which is not ours to remove.
            if path.is_file():
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
