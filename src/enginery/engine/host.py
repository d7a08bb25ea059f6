"""The host: starts the engines of one machine from one warmed-up process, and stays their parent.

    host ── fork ──> nanny  ── zmq ──> controller
      └──── fork ──> engine, engine, …  ── zmq each ──> controller

Everything an engine imports is imported here, once; the forked engines share those pages. Being the parent, the host
alone learns exit codes and can signal a pid without ever hitting a stranger. It tells the nanny, which tells the
controller.

Rules of the room:

1. A host that forks has one thread and no zmq context, ever: both would be broken in the children. Where forking is
   not safe, engines are processes of their own and the nanny is a thread of this one; nothing else differs.
2. Nobody is left behind. Engines die with the host by the kernel's hand (``tie_to_parent``) or by their lifeline, the
   nanny by the end of its channel. The host leaves when all engines have ended, and stops them when it is told to, when
   its owner is gone, and when it has lost two nannies.
3. Each death passes through ``_engine_ended``, where it is put into words and told once.
"""

from __future__ import annotations

import gc
import heapq
import logging
import os
import selectors
import signal
import time
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Final

from enginery.engine import capture, children
from enginery.engine.begun import shared_cells
from enginery.engine.channel import RestartAll, Started, Stop
from enginery.engine.deaths import OVERDUE, MemoryWitness, describe
from enginery.engine.deposit import folder_for
from enginery.engine.logs import logging_as_told
from enginery.engine.nannies import Nannies
from enginery.engine.program import run_engine
from enginery.engine.rank import run_beside_nanny
from enginery.engine.spill import Spill
from enginery.engine.watch import has_ended, take_death, watch_child, watch_process
from enginery.net.signals import KILL, SignalWatch, to_signal
from enginery.wire.messages import Deliver, EngineExited, Restart

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Callable
    from pathlib import Path

    from enginery.engine.begun import BegunCell
    from enginery.engine.channel import ToHost
    from enginery.engine.children import EngineMain
    from enginery.engine.options import EngineOptions
    from enginery.engine.watch import Watch

log = logging.getLogger(__name__)

#: How long a killed engine may take to be gone before the host leaves all the same, in seconds.
DYING: Final = 1.0
#: Seconds after which a second signal means "at once".
PATIENCE: Final = 0.5
#: Engines that die of themselves sooner than this after their start, this often in a row, are not started again.
SHORT_LIFE, SHORT_LIVES = 5.0, 3
#: Shells report a signal of a child as 128 plus its number, and so does our exit code.
SIGNALLED: Final = 128


@dataclass(slots=True, eq=False)
class Engine:
    """One engine process, from its start to its end."""

    slot: int
    uuid: str
    pid: int
    watch: Watch
    cell: BegunCell
    born: float
    restarting: bool = False
    #: why each signal was sent that this host sent
    sent: dict[int, str] = field(default_factory=dict)
    process: subprocess.Popen[bytes] | None = None
    cell_file: Path | None = None
    spill: Spill | None = None

    def send(self, number: int, why: str) -> None:
        """Send a signal and remember why, for the words about its death."""
        self.sent[number] = why
        self.watch.send(number)

    def terminate(self, why: str) -> None:
        """Ask it to leave; one that was stopped (SIGSTOP) is woken up to hear it."""
        self.send(signal.SIGTERM, why)
        if hasattr(signal, "SIGCONT"):
            self.watch.send(signal.SIGCONT)

    def tidy(self, code: int) -> None:
        """Let go of what came with it. Of a process that was started (not forked) that is more: nobody else does."""
        if self.spill is not None:
            self.spill.close({self.cell.balanced, self.cell.direct} if code < 0 else ())
        if self.process is not None:
            self.process.returncode = code
            if self.process.stdin is not None:
                self.process.stdin.close()
        if self.cell_file is not None:
            self.cell_file.unlink(missing_ok=True)


def run(
    options: EngineOptions, *, engine_main: EngineMain = run_engine, again: Callable[[], bool] | None = None
) -> int:
    """Start ``options.n`` engines with their nanny and stay until they have ended; returns the exit code.

    ``again`` is asked when they have ended without a signal or the end of the owner; True starts them anew.

    The code is 0 if every engine left in good order or was told to, else that of the first that did not (128 plus the
    number for a signal). Must be called in the main thread, which handles SIGINT, SIGTERM and SIGHUP meanwhile.

    Raises NotADirectoryError if the folder the engines shall run in is none.
    """
    if options.work_dir is not None and not options.work_dir.is_dir():
        msg = (
            f"Engines cannot run in {str(options.work_dir)!r}: no such folder on this host. Create it or name another."
        )
        raise NotADirectoryError(msg)
    with logging_as_told(options):
        if options.use_mpi:
            return run_beside_nanny(options, engine_main=engine_main)
        while True:
            host = Host(options, engine_main)
            code = host.run()
            if again is None or host.was_told or not again():
                return code


class Host:
    """Parent of the engines of one machine. Made and run once, in the main thread."""

    def __init__(self, options: EngineOptions, engine_main: EngineMain) -> None:
        self._folder = folder_for(options)
        self._options = options = replace(options, segments=str(self._folder.path) if self._folder else "")
        self._main = engine_main
        self._forks = options.fork and children.can_fork()
        self._pid = os.getpid()
        self._cells = shared_cells(options.n)
        self._engines: dict[str, Engine] = {}
        self._short_lives = [0] * options.n
        self._stopping = ""
        self.was_told = False  #: a signal or the end of the owner asked it to leave
        self._asked = 0.0  #: when the first signal came that asks to leave
        self._status = 0
        self._timers: list[tuple[float, int, Callable[[], None]]] = []
        self._timer_count = 0
        self._witness = MemoryWitness()
        self._owner: Watch | None = None
        self._lifeline = os.pipe()
        self._selector = selectors.DefaultSelector()
        self._signals = SignalWatch()
        self._selector.register(self._signals.fileno(), selectors.EVENT_READ, self._signalled)
        forget = self._forget if self._forks else None
        self._nannies = Nannies(
            options, self._selector, hear=self._obey, lost=self._nanny_lost, forget=forget, segments=self._folder
        )

    def __repr__(self) -> str:
        state = f"stopping: {self._stopping}" if self._stopping else "running"
        return f"<Host pid={self._pid} engines={len(self._engines)} {state}>"

    def run(self) -> int:
        """Start everything, stay until all engines have ended, and leave nothing behind; returns the exit code."""
        try:
            names = [children.new_uuid() for _ in self._cells]
            if self._forks:
                # Out of the collector's reach: its marks would copy every page that the children share.
                gc.freeze()
            self._nannies.start(names, self._cells)
            for slot, uuid in enumerate(names):
                self._start_engine(slot, uuid)
            self._watch_owner()
            while self._engines:
                self._turn()
            self._nannies.dismiss(self._stopping or "all engines have ended")
        finally:
            self._clean_up()
        return self._status

    def _turn(self) -> None:
        """Wait for something to happen, then see to it."""
        timeout = max(0.0, self._timers[0][0] - time.monotonic()) if self._timers else None
        for key, _ in self._selector.select(timeout):
            key.data()
        while self._timers and self._timers[0][0] <= time.monotonic():
            heapq.heappop(self._timers)[2]()

    def _after(self, delay: float, act: Callable[[], None]) -> None:
        self._timer_count += 1
        heapq.heappush(self._timers, (time.monotonic() + delay, self._timer_count, act))

    # --- engines come and go --------------------------------------------------------------------------------------

    def _start_engine(self, slot: int, uuid: str) -> None:
        options = self._options
        if options.id is not None:
            options = replace(options, id=options.id + slot)
        try:
            engine = self._forked(slot, uuid, options) if self._forks else self._started(slot, uuid, options)
        except OSError as error:
            log.error("engine=%s could not be started: %s", uuid, error)  # noqa: TRY400  # the message says it all
            self._status = self._status or children.FAILED
            self._nannies.tell_exited(EngineExited(uuid, 0, children.FAILED, note=f"could not be started: {error}"))
            return
        self._engines[uuid] = engine
        self._selector.register(engine.watch.fileno(), selectors.EVENT_READ, lambda: self._engine_ended(engine))
        self._nannies.tell_started(Started(uuid, engine.pid, slot))

    def _forked(self, slot: int, uuid: str, options: EngineOptions) -> Engine:
        cell = self._cells[slot]
        pipes = capture.make_pipes() if capture.can_capture() else None

        def be_engine() -> int:
            lifeline = os.dup(self._lifeline[0])
            self._forget()
            children.begin_as_engine(options, host_pid=self._pid, lifeline=lifeline)
            capture.INHERITED.pipes = pipes
            return self._main(options, uuid=uuid, begun=cell)

        cell.clear()
        pid = children.fork(be_engine)
        engine = Engine(slot, uuid, pid, watch_child(pid), cell, time.monotonic())
        if pipes is not None:
            engine.spill = Spill(pipes, self._selector, self._after)
            for writing in pipes.writing:
                os.close(writing)
        return engine

    def _started(self, slot: int, uuid: str, options: EngineOptions) -> Engine:
        process, cell, path = children.start_engine(options, uuid=uuid, main=self._main)
        watch = children.watch_started(process)
        self._cells[slot] = cell
        return Engine(slot, uuid, process.pid, watch, cell, time.monotonic(), process=process, cell_file=path)

    def _engine_ended(self, engine: Engine) -> None:
        death = take_death(engine.watch)
        if death is None:
            return
        self._selector.unregister(engine.watch.fileno())
        engine.watch.close()
        del self._engines[engine.uuid]
        code, cell = death.code, engine.cell
        overdue = cell.overdue >= 0
        cause = engine.sent.get(-code, "") if code < 0 else OVERDUE if overdue else self._stopping
        out_of_memory = self._witness.out_of_memory() if code == -KILL else None
        note = describe(code, peak=death.peak, out_of_memory=out_of_memory, cause=cause)
        again = not self._stopping and (engine.restarting or overdue or self._shall_return(engine, code))
        expected = bool(self._stopping) or engine.restarting
        engine.tidy(code)  # first, so that its last words are in the log when its end is told
        log.log(logging.INFO if again or code == 0 or cause else logging.WARNING, "pid=%d %s", engine.pid, note)
        self._nannies.tell_exited(
            EngineExited(engine.uuid, engine.pid, code, cell.balanced, cell.direct, note, again, expected),
        )
        if again:
            self._start_engine(engine.slot, children.new_uuid())
        elif not self._stopping and not self._status:
            self._status = code if code >= 0 else SIGNALLED - code

    def _shall_return(self, engine: Engine, code: int) -> bool:
        """Whether an engine that nobody stopped is started again."""
        if not self._options.restart or code == 0:
            return False
        short = time.monotonic() - engine.born < SHORT_LIFE
        self._short_lives[engine.slot] = lives = self._short_lives[engine.slot] + 1 if short else 0
        if lives >= SHORT_LIVES:
            log.error("pid=%d not started again: %d deaths within %g s each", engine.pid, lives, SHORT_LIFE)
            return False
        return True

    # --- stopping and restarting ----------------------------------------------------------------------------------

    def _stop(self, reason: str, grace: float = 0.0) -> None:
        """Stop all engines: in ``grace`` seconds by SIGTERM, and ``stop_timeout`` later by SIGKILL."""
        if self._stopping:
            return
        log.info("engines=%d stop: %s", len(self._engines), reason)
        self._stopping = reason
        self._nannies.leaving = True
        if grace:
            self._after(grace, self._terminate)
        else:
            self._terminate()

    def _terminate(self) -> None:
        for engine in self._engines.values():
            engine.terminate(self._stopping)
        self._after(self._options.stop_timeout, self._kill)

    def _kill(self) -> None:
        for engine in self._engines.values():
            engine.send(KILL, f"{self._stopping}; it did not leave in time")

    def _restart(self, engine: Engine, reason: str = "") -> None:
        if engine.restarting or self._stopping:
            return
        engine.restarting = True
        reason = reason or "restart on request"
        engine.terminate(reason)

        def insist() -> None:
            if engine.uuid in self._engines:
                engine.send(KILL, f"{reason}; it did not leave in time")

        self._after(self._options.stop_timeout, insist)

    def _watch_owner(self) -> None:
        owner = self._options.owner_pid
        if owner is None:
            return
        try:
            self._owner = watch_process(owner)
        except ProcessLookupError:
            self.was_told = True
            self._stop(f"its owner (pid {owner}) is gone")
            return
        self._selector.register(self._owner.fileno(), selectors.EVENT_READ, self._owner_ended)

    def _owner_ended(self) -> None:
        assert self._owner is not None
        self.was_told = True
        self._selector.unregister(self._owner.fileno())
        self._stop(f"its owner (pid {self._owner.pid}) is gone")

    def _signalled(self) -> None:
        self.was_told = True
        for number in self._signals.take():
            now = time.monotonic()
            self._asked = self._asked or now
            if now - self._asked > PATIENCE:
                # Asked again: somebody has waited long enough. (Launchers may ask twice at once.)
                self._kill()
            self._stop(f"its host received {number.name}")

    # --- what the nanny says --------------------------------------------------------------------------------------

    def _obey(self, message: ToHost) -> None:
        match message:
            case Deliver():
                self._deliver(message)
            case Restart():
                if engine := self._engines.get(message.uuid):
                    self._restart(engine, message.reason)
            case RestartAll():
                for engine in tuple(self._engines.values()):
                    self._restart(engine)
            case Stop():
                self._status = self._status or message.code
                self._stop(message.reason, message.grace)

    def _deliver(self, message: Deliver) -> None:
        number = to_signal(message.signal)
        engine = self._engines.get(message.uuid)
        if number is None:
            log.warning("signal=%r is unknown on this system; nothing was sent", message.signal)
        elif engine is not None:
            engine.send(number, "sent on request of a client")

    def _nanny_lost(self) -> None:
        self._status = self._status or children.FAILED
        self._stop("its nanny died twice")

    # --- the end --------------------------------------------------------------------------------------------------

    def _forget(self) -> None:
        """In a child: close what only the host may hold, the lifeline's writing end above all."""
        self._selector.close()
        self._signals.forget()
        self._nannies.forget()
        for fd in self._lifeline:
            os.close(fd)
        for engine in self._engines.values():
            engine.watch.close()
            if engine.spill is not None:
                engine.spill.forget()
        if self._owner is not None:
            self._owner.close()

    def _clean_up(self) -> None:
        """Leave nothing behind, whatever went wrong."""
        for engine in self._engines.values():
            engine.watch.send(KILL)
        for engine in self._engines.values():
            has_ended(engine.watch, DYING)
            if (death := take_death(engine.watch)) is not None:
                engine.tidy(death.code)
        self._nannies.close()
        if self._folder is not None:
            self._folder.leave()
        self._signals.close()
        self._forget()
