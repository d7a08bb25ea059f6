"""Launchers for this host: one controller process, and one host process that forks all engines of a set."""

from __future__ import annotations

import contextlib
import json
import os
import select
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from traitlets import Float

from enginery.cluster.ctrl_c import held_back
from enginery.cluster.launchers.base import (
    BaseLauncher,
    ControllerLauncher,
    EngineLauncher,
    NotRunning,
    describe_code,
)
from enginery.cluster.launchers.process import LocalProcess, last_lines
from enginery.errors import LauncherError
from enginery.net import profile_paths
from enginery.net.connection_file import ConnectionInfo

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Self

    from enginery.cluster.launchers.base import StopData

POSIX: Final = sys.platform != "win32"
STDOUT: Final = 1
#: How long a program that closed its end of the ready pipe may take to leave, in seconds.
LAST_WORDS: Final = 2.0


class LocalProcessLauncher(BaseLauncher):
    """A program on this host."""

    stop_seconds_until_kill = Float(5.0, help="Seconds a program has to leave before it is killed.").tag(config=True)

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.process: LocalProcess | None = None
        self.output_file: Path | None = None

    @property
    def pid(self) -> int | None:
        """Process id, once started."""
        return self.process.pid if self.process else None

    @property
    def owner_args(self) -> list[str]:
        """Arguments that bind the program's life to ours, and name what it shall remove when we are gone."""
        if not self.owned:
            return []
        litter = [str(path) for path in (self.cluster_file, self.output_file, *self.litter) if path]
        return [f"--owner-pid={os.getpid()}", *(f"--owner-file={path}" for path in litter)]

    def log_file(self, program: str, *parts: str | int) -> Path:
        """A file for the program's output that nobody else writes to."""
        folder = profile_paths.profile_folder(profile_dir=self.profile_dir)
        profile_paths.ensure_profile(folder)
        named = [part for part in (self.cluster_id, *parts) if part]
        return profile_paths.log_path(folder, program, *named)

    def process_env(self) -> dict[str, str]:
        """Environment variables set for the process on this host."""
        return self.get_env()

    def launch(self, args: Sequence[str], output: Path, **kwargs: Any) -> LocalProcess:
        """Start the program and the thread that waits for its end. Raises ProcessStateError, LauncherError."""
        if self.state != "before":
            msg = f"{self!r} has been started before; make another launcher."
            raise LauncherError(msg)
        self.log.debug("Starting %s", " ".join(args))
        with held_back():  # or a process might run that nobody knows
            self.process = LocalProcess.start(args, environment=self.process_env(), output=output, **kwargs)
            self.identifier = str(self.process.pid)
            self.notify_start()
            self.process.watch(self._ended)
        return self.process

    def _ended(self, code: int | None) -> None:
        data = {"exit_code": code, "pid": self.pid, "identifier": self.identifier, "output": self.get_output()}
        self.log.debug("Process %s ended: %s", self.pid, describe_code(code))
        self.notify_stop(data)

    def begin_stop(self) -> None:
        """Ask the program to leave."""
        if self.process is not None:
            self.process.terminate()

    def stop(self) -> None:
        """Ask the program to leave, kill it if it does not, and return when it is gone."""
        if self.process is None:
            self.notify_stop({"exit_code": None})
            return
        if not self.process.is_running:
            self.join(self.stop_timeout)  # its end may just be being told
            return
        self.process.terminate()
        if not self.process.wait(self.stop_seconds_until_kill):
            self.log.warning("Process %s did not leave within %g s: killed", self.pid, self.stop_seconds_until_kill)
        # Whatever the program left behind in its session goes too. Its group's id is not given to others that soon.
        self.process.kill()
        self.process.wait()
        self.join(self.stop_timeout)

    def signal(self, sig: int) -> None:
        """Send a signal to the program."""
        if self.process is not None:
            self.process.signal(sig)

    def get_output(self, *, remove: bool = False) -> str:
        """The last lines the program wrote."""
        path = self.output_file  # another thread may remove it meanwhile
        text = last_lines(path, self.output_limit) if path is not None else ""
        if remove and path is not None:
            path.unlink(missing_ok=True)
            self.output_file = None
        return text or str(self.stop_data.get("output", ""))

    def to_dict(self) -> dict[str, Any]:
        """What another process needs to take over."""
        state = super().to_dict()
        state["output_file"] = str(self.output_file or "")
        if self.process is not None:
            state.update(pid=self.process.pid, born=self.process.born)
        return state

    @classmethod
    def from_dict(cls, state: Mapping[str, Any], **kwargs: Any) -> Self:
        """Take over the program. Raises NotRunning if it is gone."""
        process = LocalProcess.adopt(int(state.get("pid") or 0), float(state.get("born") or 0))
        if process is None:
            msg = f"Process {state.get('pid')} is not running any more."
            raise NotRunning(msg)
        launcher = super().from_dict(state, **kwargs)
        launcher.process = process
        launcher.output_file = Path(state["output_file"]) if state.get("output_file") else None
        process.watch(launcher._ended)  # noqa: SLF001 - one of our own
        return launcher


class LocalControllerLauncher(LocalProcessLauncher, ControllerLauncher):
    """A controller on this host. It reports through an inherited pipe when it is ready."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._ready: int | None = None
        self._kept: int | None = None

    def start(self, n: int | None = None) -> None:  # noqa: ARG002 - for engines
        """Start the controller; ``get_connection_info`` waits until it is ready."""
        self.output_file = self.log_file("ipcontroller", os.getpid())
        # Where descriptors cannot be passed on, the pipe takes the place of standard output.
        self.start_and_listen([*self.args, *self.owner_args], stdout=not POSIX)

    def start_and_listen(self, args: Sequence[str], *, stdout: bool, **kwargs: Any) -> None:
        """Run a command that is told by ``--ready-fd`` to report on a pipe: its standard output, or another one."""
        assert self.output_file is not None
        self._ready, told = os.pipe()
        try:
            if stdout:
                # Kept open: who writes to a standard output without a reader dies of it.
                self._kept = os.dup(self._ready)
                self.launch([*args, f"--ready-fd={STDOUT}"], self.output_file, stdout=told, **kwargs)
            else:
                self.launch([*args, f"--ready-fd={told}"], self.output_file, pass_fds=(told,))
        finally:
            os.close(told)

    def notify_stop(self, data: StopData) -> None:
        """As of every launcher."""
        kept, self._kept = self._kept, None
        if kept is not None:
            os.close(kept)
        super().notify_stop(data)

    def get_connection_info(self, timeout: float | None = None) -> dict[str, ConnectionInfo]:
        """Wait until the controller is ready. Raises LauncherError at once if it ends instead."""
        if self._ready is None:
            return super().get_connection_info(timeout)
        timeout = self.connection_info_timeout if timeout is None else timeout
        ready, self._ready = self._ready, None
        try:
            line = read_line(ready, timeout)
        except TimeoutError:
            raise self.failure(f"was not ready within {timeout:g} s") from None
        finally:
            os.close(ready)
        if not line:
            self.join(LAST_WORDS)
            raise self.failure("ended before it was ready")
        return {kind: ConnectionInfo.from_dict(each) for kind, each in json.loads(line).items()}


class LocalEngineSetLauncher(LocalProcessLauncher, EngineLauncher):
    """Engines on this host, forked by one host process."""

    starts_early = True

    def find_args(self) -> list[str]:
        """The command with the cluster's arguments, the number of engines, then the user's."""
        return [*self.engine_cmd, *self.cluster_args, f"--n={self.n}", *self.engine_args]

    def get_env(self) -> dict[str, str]:
        """As of every launcher; the connection info goes through standard input, which nobody else can read."""
        return self.set_env

    def start(self, n: int | None = None, *, early: bool = False) -> None:
        """Start the host process. With ``early`` it prepares itself and waits for ``connect``.

        Without connection info and not early, it finds the controller by the connection file in the profile.
        """
        self.n = self.n if n is None else n
        self.output_file = self.log_file("ipengine", self.engine_set_id or os.getpid())
        told = early or self.connection is not None
        args = [*self.args, *(["--connection-fd=0"] if told else []), *self.owner_args]
        self.launch(args, self.output_file, pipe_stdin=told)
        if self.connection is not None:
            self.connect(self.connection)

    def connect(self, connection: ConnectionInfo | None) -> None:
        """Tell the waiting host where the controller is; None lets it leave."""
        self.connection = connection
        pipe = self.process.stdin if self.process else None
        if pipe is None or pipe.closed:
            return
        # The host may be gone already; its end is reported by the thread that waits for it.
        if connection is not None:
            with contextlib.suppress(OSError):
                pipe.write(connection.dumps().encode())
                pipe.flush()
        with contextlib.suppress(OSError):
            pipe.close()

    def stop(self) -> None:
        """As of every program; one that still waits for its controller waits no longer."""
        self.connect(None)
        super().stop()

    def engine_pids(self) -> frozenset[int]:
        """The host's children: engines, and the nanny, which nobody but the controller can tell from them."""
        return frozenset(self.process.children() if self.process else ())

    def to_dict(self) -> dict[str, Any]:
        """What another process needs to take over."""
        return {**super().to_dict(), "n": self.n, "engine_set_id": self.engine_set_id}


def read_line(descriptor: int, timeout: float) -> str:
    """Read up to the first line end or the end of the pipe. Raises TimeoutError."""
    deadline = time.monotonic() + timeout
    text = b""
    while not text.endswith(b"\n"):
        if POSIX:
            poll = select.poll()
            poll.register(descriptor, select.POLLIN)
            if not poll.poll(max(0.0, deadline - time.monotonic()) * 1000):
                raise TimeoutError
        piece = os.read(descriptor, 65536)
        if not piece:
            # Half a line is no report.
            return ""
        text += piece
    return text.decode()
