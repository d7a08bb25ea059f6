"""Through whom a nanny reaches its engines: their host, or the one engine that is its own parent.

    controller  <— zmq —>  nanny  <— channel —>  host  — forks, signals, reaps →  engines
    controller  <— zmq —>  nanny  — pidfd, signals →  engine                      (started by mpiexec)

The nanny itself does not know which of the two it has.
"""

from __future__ import annotations

import logging
import os
import selectors
import signal
import sys
from typing import TYPE_CHECKING, Final, Protocol

from enginery.engine.begun import UNSAID
from enginery.engine.channel import Leave, RestartAll, Started, Stop
from enginery.engine.deaths import OVERDUE, describe
from enginery.engine.watch import has_ended, watch_process
from enginery.net.signals import KILL, to_signal
from enginery.wire.messages import Deliver, EngineExited, Restart

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from enginery.engine.begun import BegunCell
    from enginery.engine.channel import Channel, ToNanny
    from enginery.engine.watch import Watch

log = logging.getLogger(__name__)

#: How long an orphaned engine may take to die of SIGKILL before the nanny reports it all the same, in seconds.
DYING: Final = 1.0
#: How long a rank of MPI gets at least to leave by itself, in seconds: MPI_Finalize waits for the other ranks.
FINALIZING: Final = 2.0
#: Column of the exit status in ``/proc/<pid>/stat``, counted behind the name of the program.
EXIT_STATUS_COLUMN: Final = 49


class Keeper(Protocol):
    """What a nanny needs of those who hold the engines."""

    def fileno(self) -> int:
        """Readable when there is news."""

    def news(self) -> Sequence[ToNanny]:
        """What happened since the last call."""

    def deliver(self, uuid: str, number: int | str) -> None:
        """Send a signal to an engine."""

    def restart(self, uuid: str, reason: str = "") -> None:
        """Stop an engine and start it anew, and say why."""

    def restart_all(self) -> None:
        """The same for every engine."""

    def limits(self) -> Sequence[tuple[str, float]]:
        """Engines whose task has a time limit, with the end of it by the monotonic clock."""

    def stop(self, reason: str, grace: float, code: int) -> None:
        """Stop all engines; they have ``grace`` seconds to leave by themselves. The host exits with ``code``."""


class HostKeeper:
    """The host process at the other end of a channel.

    When the channel breaks, the host was killed. Its engines then die by the kernel's hand or by their own; the keeper
    makes sure of it and reports each of them, so that the controller need not wait for silence to tell.
    """

    def __init__(
        self,
        channel: Channel,
        cells: Sequence[BegunCell],
        host_pid: int,
        expected: Mapping[str, BegunCell] | None = None,
    ) -> None:
        """``expected``: those the host is about to start, each with the cell it will write to."""
        self._channel = channel
        self._unheard = dict(expected or {})  #: whose start was not told yet
        self._cells = cells
        self._host_pid = host_pid
        self._engines: dict[str, tuple[Started, Watch | None]] = {}

    def fileno(self) -> int:
        """Readable when the host has said something, or died."""
        return self._channel.fileno()

    def news(self) -> Sequence[ToNanny]:
        """What the host said; if it died, the deaths of all its engines."""
        said = list(self._channel.receive_at_nanny())
        for message in said:
            if isinstance(message, Started):
                self._unheard.pop(message.uuid, None)
                self._engines[message.uuid] = (message, _try_to_watch(message.pid))
            elif isinstance(message, EngineExited):
                self._forget(message.uuid)
        if self._channel.closed and not any(isinstance(message, Leave) for message in said):
            said += self._host_died()
        return said

    def deliver(self, uuid: str, number: int | str) -> None:
        """Ask the host, which is the parent and so cannot hit a stranger with the same pid."""
        self._channel.send(Deliver(uuid, number))

    def restart(self, uuid: str, reason: str = "") -> None:
        """Ask the host."""
        self._channel.send(Restart(uuid, reason))

    def restart_all(self) -> None:
        """Ask the host."""
        self._channel.send(RestartAll())

    def limits(self) -> Sequence[tuple[str, float]]:
        """Read from the memory shared with the engines."""
        ends = [(uuid, self._cells[started.slot].limit) for uuid, (started, _) in self._engines.items()]
        return [(uuid, end) for uuid, end in ends if end]

    def stop(self, reason: str, grace: float, code: int) -> None:
        """Ask the host."""
        self._channel.send(Stop(reason, grace, code))

    def _forget(self, uuid: str) -> None:
        self._unheard.pop(uuid, None)
        _, watch = self._engines.pop(uuid, (None, None))
        if watch is not None:
            watch.close()

    def _host_died(self) -> list[ToNanny]:
        for _, watch in self._engines.values():
            if watch is not None:
                watch.send(KILL)
        reason = f"its host process (pid {self._host_pid}) died"
        reports: list[ToNanny] = []
        for uuid, (started, watch) in tuple(self._engines.items()):
            if watch is not None:
                has_ended(watch, DYING)
            cell = self._cells[started.slot]
            note = describe(-KILL, cause=reason)
            reports.append(
                EngineExited(uuid, started.pid, -KILL, cell.balanced, cell.direct, note, expected=True),
            )
            self._forget(uuid)
        # Those it started in its last moment, without coming to say so, die with it as well.
        for uuid, cell in self._unheard.items():
            note = describe(-KILL, cause=reason)
            reports.append(EngineExited(uuid, 0, -KILL, cell.balanced, cell.direct, note, expected=True))
        return [*reports, Leave(reason)]


class ParentKeeper:
    """The engine whose child this nanny is, because mpiexec started the engine itself.

    Its exit code belongs to mpiexec, so it is taken from the engine's own word or, after a crash, from ``/proc``.
    """

    def __init__(self, uuid: str, pid: int, cell: BegunCell, *, owner: int | None, stop_timeout: float) -> None:
        self._uuid = uuid
        self._cell = cell
        self._stop_timeout = stop_timeout
        self._cause = ""
        self._stopped = False
        self._engine = watch_process(pid)
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._engine.fileno(), selectors.EVENT_READ, self._engine_ended)
        if owner is not None:
            self._owner = watch_process(owner)
            self._selector.register(self._owner.fileno(), selectors.EVENT_READ, self._owner_ended)

    def fileno(self) -> int:
        """Readable when the engine or its owner has ended: epoll and kqueue can be waited for like a file."""
        return self._selector.fileno()

    def news(self) -> Sequence[ToNanny]:
        """The engine's death, once it has happened."""
        ready = [key.data for key, _ in self._selector.select(0)]
        return [message for act in ready for message in act()]

    def deliver(self, uuid: str, number: int | str) -> None:
        """Send the signal."""
        if uuid != self._uuid:
            return
        known = to_signal(number)
        if known is None:
            log.warning("engine=%s signal=%r is not known on this system; nothing was sent", uuid, number)
            return
        if known == KILL:
            self._cause = "sent through its nanny"
        self._engine.send(known)

    def restart(self, uuid: str, reason: str = "") -> None:
        """Not possible: only mpiexec can start a rank."""
        why = f" ({reason})" if reason else ""
        log.warning("engine=%s cannot be restarted%s: it is a process of mpiexec. Restart the whole set.", uuid, why)

    def restart_all(self) -> None:
        """Not possible either."""
        self.restart(self._uuid)

    def limits(self) -> Sequence[tuple[str, float]]:
        """Read from the memory shared with the engine."""
        return [(self._uuid, self._cell.limit)] if self._cell.limit else []

    def stop(self, reason: str, grace: float, code: int) -> None:
        """Stop the engine, hard if it does not leave in time. There is no host to exit with ``code``."""
        del code
        self._cause, self._stopped = reason, True
        if has_ended(self._engine, max(grace, FINALIZING)):
            return
        self._engine.send(signal.SIGTERM)
        if not has_ended(self._engine, self._stop_timeout):
            self._engine.send(KILL)

    def _owner_ended(self) -> list[ToNanny]:
        self._selector.unregister(self._owner.fileno())
        self.stop(f"its owner (pid {self._owner.pid}) is gone", 0.0, 0)
        return []

    def _engine_ended(self) -> list[ToNanny]:
        self._selector.unregister(self._engine.fileno())
        code = self._cell.code if self._cell.code != UNSAID else exit_code_of_zombie(self._engine.pid)
        if code is None:
            code, note = 1, "died without a word, as by a signal; how, only mpiexec knows: see what that has written"
        else:
            note = describe(code, cause=OVERDUE if self._cell.overdue >= 0 else self._cause)
        cell = self._cell
        exited = EngineExited(
            self._uuid, self._engine.pid, code, cell.balanced, cell.direct, note, expected=self._stopped
        )
        return [exited, Leave("the engine ended")]


def exit_code_of_zombie(pid: int) -> int | None:
    """The exit code of a process that has ended but was not reaped yet; None if that cannot be learned."""
    if sys.platform != "linux":
        return None
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            columns = file.read().rpartition(b")")[2].split()
    except OSError:
        return None
    if columns[0] not in {b"Z", b"X"}:
        return None
    return os.waitstatus_to_exitcode(int(columns[EXIT_STATUS_COLUMN]))


def _try_to_watch(pid: int) -> Watch | None:
    try:
        return watch_process(pid)
    except OSError:
        # Gone already: the host's report of its death is on the way.
        return None
