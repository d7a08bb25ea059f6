"""Says so when an interrupt does not reach the task that runs: a rank of MPI that waits in C for the other ranks.

Python handles a signal between two of its own steps. A collective call of MPI makes none until every rank has made the
same call, and MPI has no way to take one rank out of it. Who has pressed Ctrl-C shall not wait in silence for that.
"""

from __future__ import annotations

import os
import select
import signal
import threading
from typing import TYPE_CHECKING, Final

from enginery.engine.interrupts import PRIVATE

if TYPE_CHECKING:
    from collections.abc import Callable

#: Seconds a task has to react to an interrupt before its silence is reported.
PATIENCE: Final = 2.0
INTERRUPTS: Final = frozenset({int(signal.SIGINT), PRIVATE})


class DeafWatch:
    """Watches over the interrupts of this process. To be made in the main thread; runs a thread until ``close``."""

    def __init__(
        self,
        running: Callable[[], int],
        handled: Callable[[], int],
        say: Callable[[], None],
        patience: float = PATIENCE,
    ) -> None:
        """``running`` tells the task that runs (-1: none), ``handled`` how many interrupts have reached Python.

        ``say`` is called in the watching thread when ``patience`` seconds have made no difference to either.
        """
        self._running, self._handled, self._say, self._patience = running, handled, say, patience
        self._reader, self._writer = os.pipe()
        os.set_blocking(self._writer, False)
        # The interpreter writes the number of each signal there from within its C handler, at once.
        signal.set_wakeup_fd(self._writer, warn_on_full_buffer=False)
        self._thread = threading.Thread(target=self._watch, name="enginery-deaf-watch", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stop watching."""
        signal.set_wakeup_fd(-1)
        os.close(self._writer)
        self._thread.join()
        os.close(self._reader)

    def _watch(self) -> None:
        while numbers := os.read(self._reader, 512):
            if INTERRUPTS.isdisjoint(numbers):
                continue
            task, heard = self._running(), self._handled()
            if task < 0 or select.select([self._reader], [], [], self._patience)[0]:
                continue  # nothing to interrupt, or interrupted once more: that one counts
            if self._running() == task and self._handled() == heard:
                self._say()


def explanation(engine: int, rank: int, ranks: int, patience: float = PATIENCE) -> str:
    """What the user is told."""
    return (
        f"engine {engine} (rank {rank} of {ranks or '?'}) was interrupted {patience:g} s ago and does not react. It is in "
        "a function of C that does not look at signals; a collective call of MPI (such as a barrier) waits there for the "
        "other ranks, and MPI cannot take one of them out. The interrupt takes effect when the call returns: have the "
        "other ranks make the same call. Or start all ranks anew: cluster.restart_engines().\n"
    )
