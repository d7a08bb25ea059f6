"""The ssh tunnel of a host and its engines: kept by a process of its own where the host forks, and so has no threads.

    host ── fork ──> keeper ── thread, ssh
      └──── fork ──> nanny, engines, each of which dials the tunnel's local end

Rules of the room:

1. The keeper ends the tunnel and leaves when its host says so or is gone, however that came about.
2. What a dropped tunnel carried is lost, and engines leave then. Once it is up again, they are started anew.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import select
import socket
import threading
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final, Protocol

from enginery.engine import children
from enginery.engine.host import run
from enginery.engine.logs import logging_as_told
from enginery.engine.watch import watch_process
from enginery.errors import TunnelError
from enginery.net.connection_file import ConnectionInfo
from enginery.net.signals import KILL
from enginery.net.tunnel import LOGIN, through

if TYPE_CHECKING:
    from collections.abc import Callable

    from enginery.engine.options import EngineOptions

log = logging.getLogger("enginery.engine.tunnels")

#: How long the keeper may take to answer and to leave, beyond what it was asked to wait for, in seconds.
SLACK: Final = 5.0
#: What stands for ever, for waits that need a number.
FOREVER: Final = 1e9


def run_through_tunnel(options: EngineOptions, server: str, key: str) -> int:
    """As ``host.run``, with the controller reached through an ssh server. Returns the exit code.

    Raises ValueError if ``server`` is none, TunnelError with ssh's words if the tunnel does not come up at first.
    """
    forks = options.fork and children.can_fork()
    login = max(options.timeout, LOGIN)
    way: Way = _keep(options, server, key, login) if forks else OwnTunnel(options.connection, server, key, login)
    patience = options.timeout * options.max_misses if options.max_misses else FOREVER
    drops = 0

    def again() -> bool:
        nonlocal drops
        before, drops = drops, way.drops()
        if drops == before:
            return False
        log.warning(
            "the engines have lost the controller with the tunnel through %s; they start anew when it is up", server
        )
        if problem := way.wait(patience, options.owner_pid):
            log.error("the engines are not started anew: %s", problem)
            return False
        return True

    try:
        # Under MPI this process is the engine itself, and has only one life.
        return run(replace(options, connection=way.info), again=None if options.use_mpi else again)
    finally:
        way.close()


class Way(Protocol):
    """A tunnel, whoever keeps it."""

    info: ConnectionInfo  #: what to dial

    def drops(self) -> int:
        """How often it has dropped."""

    def wait(self, patience: float, owner: int | None = None) -> str:
        """Wait until it is up; if it is not within ``patience`` seconds, or process ``owner`` ends before, why."""

    def close(self) -> None:
        """End it."""


class OwnTunnel:
    """A tunnel kept by a thread of this process."""

    def __init__(self, info: ConnectionInfo, server: str, key: str, login: float) -> None:
        self.info, self._tunnel = through(info, server, key=key, timeout=login)

    def drops(self) -> int:
        """See ``Way``."""
        self._tunnel.why_down()  # gives it the moment it may take to notice
        return self._tunnel.drops

    def wait(self, patience: float, owner: int | None = None) -> str:
        """See ``Way``. The owner's end is not noticed meanwhile: systems that need this way have no pidfds."""
        del owner
        try:
            self._tunnel.wait_until_up(patience)
        except TunnelError as error:
            return str(error)
        return ""

    def close(self) -> None:
        """See ``Way``."""
        self._tunnel.release()


class KeptTunnel:
    """A tunnel kept by a child of this process."""

    def __init__(self, pid: int, keeper: socket.socket) -> None:
        self._pid = pid
        self._keeper = keeper
        self._words = keeper.makefile("r", encoding="utf-8")

    def answer(self, seconds: float) -> Any:
        """What the keeper says next. Raises TunnelError if it says nothing."""
        self._keeper.settimeout(min(seconds + SLACK, FOREVER))
        try:
            line = self._words.readline()
        except TimeoutError:
            line = ""
        if not line:
            raise TunnelError("The process that keeps the ssh tunnel has ended. Start ipengine anew.")
        return json.loads(line)

    def begin(self, login: float) -> None:
        """Wait until the tunnel is up. Raises as ``net.tunnel.through``."""
        said = self.answer(login)
        if "wrong" in said:
            raise ValueError(said["wrong"])
        if "problem" in said:
            raise TunnelError(said["problem"])
        self.info = ConnectionInfo.from_dict(said["info"])

    def drops(self) -> int:
        """See ``Way``. A keeper that is gone has dropped it, too."""
        try:
            self._keeper.sendall(b"{}\n")
            return int(self.answer(SLACK)["drops"])
        except (OSError, TunnelError):
            return -1

    def wait(self, patience: float, owner: int | None = None) -> str:
        """See ``Way``."""
        try:
            watch = watch_process(owner) if owner is not None else None
        except ProcessLookupError:
            return f"the owner (pid {owner}) is gone"
        try:
            self._keeper.sendall(json.dumps({"wait": patience}).encode() + b"\n")
            waits = [self._keeper.fileno(), *([watch.fileno()] if watch is not None else [])]
            if watch is not None and watch.fileno() in select.select(waits, [], [], patience + SLACK)[0]:
                return f"the owner (pid {owner}) is gone"
            return str(self.answer(patience)["problem"])
        except (OSError, TunnelError) as error:
            return str(error)
        finally:
            if watch is not None:
                watch.close()

    def close(self) -> None:
        """See ``Way``. Returns when the keeper has left."""
        self._words.close()
        try:
            # Not by closing alone: children that user code has forked may hold the same end.
            self._keeper.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass  # the keeper was quicker
        self._keeper.close()
        watch = watch_process(self._pid)
        try:
            if not select.select([watch.fileno()], [], [], SLACK)[0]:
                watch.send(KILL)
        finally:
            watch.close()
            os.waitpid(self._pid, 0)


def _keep(options: EngineOptions, server: str, key: str, login: float) -> KeptTunnel:
    """Start a keeper, and wait until its tunnel is up."""
    ours, theirs = socket.socketpair()
    host = os.getpid()

    def be_keeper() -> int:
        ours.close()
        children.begin_as_nanny()
        with logging_as_told(options, logging.getLogger("enginery.net.tunnel")):
            _serve(theirs, host, options.connection, server, key, login)
        return 0

    pid = children.fork(be_keeper)
    theirs.close()
    kept = KeptTunnel(pid, ours)
    try:
        kept.begin(login)
    except BaseException:
        kept.close()
        raise
    return kept


def _serve(host: socket.socket, pid: int, info: ConnectionInfo, server: str, key: str, login: float) -> None:
    """The keeper's life: open the tunnel, answer questions about it, end it when the host is gone."""

    def say(words: dict[str, object]) -> None:
        host.sendall(json.dumps(words).encode() + b"\n")

    try:
        own = OwnTunnel(info, server, key, login)
    except ValueError as error:
        say({"wrong": str(error)})
        return
    except TunnelError as error:
        say({"problem": str(error)})
        return
    try:
        say({"info": {name: value for name, value in own.info.to_dict().items() if value}})
        _answer(host, pid, own, say)
    except OSError:
        pass  # the host is gone
    finally:
        own.close()


def _wait(own: OwnTunnel, patience: float, say: Callable[[dict[str, object]], None]) -> None:
    problem = own.wait(patience)
    with contextlib.suppress(OSError):  # the host is gone
        say({"problem": problem})


def _answer(host: socket.socket, pid: int, own: OwnTunnel, say: Callable[[dict[str, object]], None]) -> None:
    try:
        watch = watch_process(pid)
    except ProcessLookupError:
        return
    questions = host.makefile("r", encoding="utf-8")
    while True:
        ready = select.select([host.fileno(), watch.fileno()], [], [])[0]
        line = questions.readline() if watch.fileno() not in ready else ""
        if not line:
            return
        question = json.loads(line)
        if "wait" in question:
            # Beside this loop, which must notice the host's end meanwhile.
            threading.Thread(target=_wait, args=(own, question["wait"], say), daemon=True).start()
        else:
            say({"drops": own.drops()})
