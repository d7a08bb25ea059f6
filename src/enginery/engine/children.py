"""How processes come to be: forked from this one where that is safe, started anew where it is not."""

from __future__ import annotations

import atexit
import contextlib
import os
import signal
import subprocess
import sys
import tempfile
import threading
import traceback
from pathlib import Path
from typing import TYPE_CHECKING, Final, Never, Protocol

import msgspec
from msgspec import Struct

from enginery.engine.begun import file_cell
from enginery.engine.channel import LENGTH
from enginery.engine.watch import LIFELINE, Death, ThreadWatch, has_pidfd, tie_to_parent, watch_child
from enginery.net.signals import LEAVING

if TYPE_CHECKING:
    from collections.abc import Callable

    from enginery.engine.begun import BegunCell
    from enginery.engine.options import EngineOptions
    from enginery.engine.watch import Watch

#: Exit code of a process that was interrupted before it could say better, as shells have it.
INTERRUPTED: Final = 130
#: Exit code of a process whose start failed with an exception.
FAILED: Final = 1


def new_uuid() -> str:
    """A name for one life of one engine."""
    return os.urandom(16).hex()


class EngineMain(Protocol):
    """What an engine process runs; it returns the exit code. ``enginery.engine.program.run_engine`` is the one."""

    def __call__(self, options: EngineOptions, *, uuid: str, begun: BegunCell) -> int:
        """Be an engine until told to leave."""


class Order(Struct):
    """What a started (not forked) engine process reads from its standard input before anything else."""

    options: dict[str, object]
    uuid: str
    cell: str
    main: str
    host_pid: int


def can_fork() -> bool:
    """Whether forking engines from this process is safe: a system that does it well, and no thread but this one.

    macOS has fork, but its frameworks break in children that do not exec. Systems without pidfds need threads to watch
    processes, and threads and forks do not go together.
    """
    if not hasattr(os, "fork") or sys.platform in {"darwin", "win32"} or not has_pidfd():
        return False
    if threading.active_count() > 1:
        return False
    try:
        # Libraries start threads that Python does not know of: those of BLAS, for one.
        return len(os.listdir("/proc/self/task")) == 1  # noqa: PTH208  # one call on a hot start
    except OSError:
        return True


def fork(work: Callable[[], int]) -> int:
    """Fork a child that does ``work`` and exits with what it returns; returns the child's pid.

    ``work`` begins with the signals of a host blocked and ends that with ``begin_as_engine`` or ``begin_as_nanny``, so
    that a signal in the first instant is neither lost nor handled by the parent's handlers.
    """
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError):  # the disk behind it is full: what it held is lost
            stream.flush()
    before = signal.pthread_sigmask(signal.SIG_BLOCK, LEAVING)
    try:
        pid = os.fork()
        if pid == 0:
            run_and_exit(work)
        return pid
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def begin_as_engine(options: EngineOptions, *, host_pid: int, lifeline: int) -> None:
    """Make a forked child an engine process: tied to its host, default signals, own folder and random numbers."""
    tie_to_parent(host_pid)
    LIFELINE.fd = lifeline
    _reset_signals(signal.default_int_handler)
    # Nothing an engine runs may read the terminal, which belongs to the host.
    silent = os.open(os.devnull, os.O_RDONLY)
    os.dup2(silent, 0)
    os.close(silent)
    settle(options)
    if "numpy.random" in sys.modules:
        # The standard library's generator is seeded anew at each fork, numpy's global one is not.
        sys.modules["numpy.random"].seed()


def begin_as_nanny() -> None:
    """Make a forked child a nanny: deaf to Ctrl-C and SIGTERM, since its life hangs on its host's alone."""
    _reset_signals(signal.SIG_IGN, others=signal.SIG_IGN)


def settle(options: EngineOptions) -> None:
    """Go to the engine's folder and set its environment."""
    os.environ.update(options.environment)
    if options.work_dir is not None:
        os.chdir(options.work_dir)


def run_and_exit(work: Callable[[], int]) -> Never:
    """Do ``work`` and end this process with the exit code it returns, whatever it raises.

    Exit handlers run and streams are flushed, but threads of user code are not waited for: an engine that was told
    to leave leaves.
    """
    code = FAILED
    try:
        try:
            code = work()
        except SystemExit as error:
            code = _code_of(error)
        except KeyboardInterrupt:
            code = INTERRUPTED
        except BaseException:
            traceback.print_exc()
        atexit._run_exitfuncs()  # noqa: SLF001  # what the interpreter itself calls at its end
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
    finally:
        os._exit(code & 0xFF)


def start_engine(
    options: EngineOptions, *, uuid: str, main: EngineMain
) -> tuple[subprocess.Popen[bytes], BegunCell, Path]:
    """Start an engine as a process of its own; returns the process, its cell and the file the cell is in.

    ``main`` goes by its name, so it must be importable.

    Keys travel over its standard input, never on the command line, where every user of the machine could read them. The
    pipe then stays open for as long as this process lives: its end is what tells the engine that its host is gone.
    The engine removes the file as soon as it has it mapped, where the system permits that.
    """
    handle, name = tempfile.mkstemp(prefix="enginery-begun-")
    os.close(handle)
    path = Path(name)
    cell = file_cell(path, create=True)
    process = subprocess.Popen([sys.executable, "-m", "enginery.engine.child"], stdin=subprocess.PIPE, bufsize=0)
    name = f"{getattr(main, '__module__', '')}:{getattr(main, '__qualname__', '')}"
    order = msgspec.msgpack.encode(Order(options.to_dict(), uuid, str(path), name, os.getpid()))
    assert process.stdin is not None
    try:
        process.stdin.write(LENGTH.pack(len(order)) + order)
    except BrokenPipeError:
        # It died at once; whoever watches it will say so, with its exit code.
        pass
    return process, cell, path


def watch_started(process: subprocess.Popen[bytes]) -> Watch:
    """Watch a process that ``start_engine`` started, also where the system has neither pidfds nor ``wait4``."""
    if hasattr(os, "wait4"):
        return watch_child(process.pid)
    return ThreadWatch(process.pid, lambda: Death(process.wait()))


def _reset_signals(interrupt: object, others: signal.Handlers = signal.SIG_DFL) -> None:
    signal.set_wakeup_fd(-1)
    for number in LEAVING:
        signal.signal(number, interrupt if number == signal.SIGINT else others)  # type: ignore[arg-type]
    signal.pthread_sigmask(signal.SIG_UNBLOCK, LEAVING)


def _code_of(error: SystemExit) -> int:
    if error.code is None:
        return 0
    if isinstance(error.code, int):
        return error.code
    sys.stderr.write(f"{error.code}\n")
    return FAILED
