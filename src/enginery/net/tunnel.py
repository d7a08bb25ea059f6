"""Tunnels to controllers on other hosts, kept by the system's OpenSSH client.

    peer ── private Unix socket ── ssh ═══ network ═══ sshd on the server ── tcp ── controller

Rules of the room:

1. Who may log in where, and by which way, is for ssh to know: ~/.ssh/config, ProxyJump and agents count here as they do in
   a shell. Nobody can be asked, so keys or an agent have to do.
2. There is one tunnel for each server and remote endpoint in a process, however many use it, on a connection of its own.
   Its local end is a socket in a private folder: no port to race for, and no other user of this host gets in.
3. It is up when ssh says so: ssh runs its LocalCommand once it listens. Nothing here looks again and again.
4. What fails at first is an error, with ssh's own words. What was up once is made anew when it drops, later and later,
   for as long as somebody holds it.
5. ssh dies with the process that started it, by the kernel's hand where the kernel can (Linux).
"""

from __future__ import annotations

import atexit
import contextlib
import logging
import os
import secrets
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import threading
from collections import deque
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Final

from enginery.errors import TunnelError
from enginery.net.addresses import (
    LOOPBACK,
    TUNNEL,
    is_served,
    list_folder,
    make_private_in,
    remove_runtime_folder,
    runtime_base,
)
from enginery.net.ssh_server import Server, advice_on, parse_server, target_of

if TYPE_CHECKING:
    from enginery.net.connection_file import ConnectionInfo

log = logging.getLogger(__name__)

#: The environment variable with the ssh program to use, and options for it, as a shell would read them.
PROGRAM: Final = "ENGINERY_SSH"
#: How long ssh may take to log in when nobody says otherwise, in seconds.
LOGIN: Final = 30.0
#: First and longest pause before a dropped tunnel is made anew, in seconds: controllers wait for half a minute in all.
FIRST_PAUSE: Final = 0.5
LONGEST_PAUSE: Final = 5.0
#: How long what was sent last may take to leave through a tunnel that is closed, and ssh to end, in seconds.
LAST_WORDS: Final = 1.0
#: How long a connection that broke may wait for ssh to tell why, in seconds.
EXPLANATION: Final = 0.3
#: Lines of ssh's that are remembered.
LINES: Final = 6
#: Begins what ssh says of a connection that the server could not make.
CHANNEL: Final = "channel "
#: Before the process id in the names of folders for local ends.
FOLDER: Final = "ssh-"
END: Final = "end"
#: What ssh says when it listens.
READY: Final = "enginery-tunnel-is-up"
OPTIONS: Final = {
    "BatchMode": "yes",
    "ExitOnForwardFailure": "yes",
    "StreamLocalBindUnlink": "yes",  # of an ssh that was killed
    # A cut cable is noticed within 20 s: the controller waits for half a minute. Options in $ENGINERY_SSH come first and win.
    "ServerAliveInterval": "5",
    "ServerAliveCountMax": "3",
    # A connection of its own: in a master's, the forward would stay behind when its owner is gone.
    "ControlMaster": "no",
    "ControlPath": "none",
    "PermitLocalCommand": "yes",
    "LocalCommand": f"echo {READY}",
    "LogLevel": "INFO",
}
#: Becomes ssh after it has asked the kernel to kill it with its parent. A function between fork and exec would do without
#: a Python of its own, but is not safe in a process with threads.
TIE: Final = """
import ctypes, os, sys
ctypes.CDLL(None).prctl(1, 9, 0, 0, 0)
if os.getppid() == int(sys.argv[1]):
    os.execvp(sys.argv[2], sys.argv[2:])
"""


def through(
    info: ConnectionInfo, server: str, *, key: str | Path = "", timeout: float = LOGIN
) -> tuple[ConnectionInfo, Tunnel]:
    """Open a tunnel, or share one that this process has. What to dial now, and the tunnel: ``release`` it at the end.

    Waits until it is up. Raises ValueError if ``server`` is none, TunnelError with ssh's words if it does not come up within
    ``timeout`` seconds.
    """
    parsed, (host, port) = parse_server(server), target_of(info)
    if not hasattr(socket, "AF_UNIX"):
        raise TunnelError(
            f"Tunnels need Unix sockets, which Python has none of here. Run `ssh -N -L {port}:{host}:{port} {server}` and "
            f"connect with a copy of the connection file that says tcp://{LOOPBACK}:{port} and has no 'ssh'."
        )
    if key and not Path(key).expanduser().is_file():
        raise TunnelError(f"There is no key file {str(key)!r}. Name the private key, such as ~/.ssh/id_ed25519.")
    held = str(Path(key).expanduser().absolute()) if key else ""
    _sweep()
    tunnel = _hold(parsed, host, port, held)
    try:
        tunnel.wait_until_up(timeout)
    except BaseException:
        tunnel.release()
        raise
    return replace(info, url=f"tcp://{host}:{port}", urls=(f"{TUNNEL}{tunnel.path}",), ssh=str(parsed)), tunnel


def why_ended(path: str, server: str, why: str) -> str:
    """Why a connection through the tunnel at ``path`` has ended; ``why`` is all that is known otherwise."""
    tunnel = next((each for each in list(_tunnels.values()) if each.path == path and each.is_own), None)
    words = tunnel.why_down() if tunnel is not None else ""
    return words or f"{why}; it led through ssh server {server}"


class Tunnel:
    """One ssh process, or the next one after it dropped. Thread-safe. Made by ``through``."""

    def __init__(self, server: Server, host: str, port: int, key: str) -> None:
        self.server = server
        self.target = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        self.users = 0
        self.drops = 0  #: how often it was up and is not any more
        self._folder = runtime_base() / f"{FOLDER}{os.getpid()}-{secrets.token_hex(3)}"
        self.path = str(self._folder / END)  #: the local end
        self._key = key
        self._pid = os.getpid()
        self._changed = threading.Condition()
        self._is_up = self._is_over = self._closing = self._in_haste = False
        self._why = ""
        self._said: deque[str] = deque(maxlen=LINES)
        self._process: subprocess.Popen[str] | None = None
        self._patience = LOGIN
        self._thread = threading.Thread(target=self._run, name=f"enginery-tunnel-{server}", daemon=True)

    def __repr__(self) -> str:
        state = "up" if self._is_up else "over" if self._is_over else "down"
        return f"<Tunnel to {self.target} through {self.server}: {state}>"

    @property
    def is_own(self) -> bool:
        """Whether it belongs to this process, and not to the one this was forked from."""
        return self._pid == os.getpid()

    @property
    def is_over(self) -> bool:
        """Whether it will not come up any more."""
        return self._is_over or self._closing

    def wait_until_up(self, timeout: float) -> None:
        """Wait until it can be used. Raises TunnelError if that does not come true within ``timeout`` seconds."""
        with self._changed:
            self._patience = min(max(timeout, 1.0), LOGIN)
            self._in_haste = True
            if self._thread.ident is None:
                self._thread.start()
            self._changed.notify_all()
            self._changed.wait_for(lambda: self._is_up or self._is_over, timeout)
            if not self._is_up:
                raise TunnelError(self._why or self._put(f"it was not there within {timeout:g} s"))

    def why_down(self) -> str:
        """Why it is down; empty if it is not. Gives ssh a moment to end: what it carried may have ended before."""
        with self._changed:
            self._changed.wait_for(lambda: bool(self._why), EXPLANATION)
            return self._why

    def trouble(self) -> str:
        """Why nobody can be reached through it, as far as is known."""
        return self.why_down() or (self._put(self._said[-1]) if self._said else "")

    def release(self) -> None:
        """Hold it no longer; the last one's release ends it, after what was sent has left."""
        with _lock:
            self.users -= 1
            if self.users > 0 or not self.is_own:
                return
            for name in [name for name, each in _tunnels.items() if each is self]:
                del _tunnels[name]
        self.close()

    def close(self) -> None:
        """End it. Returns when ssh has ended and the socket is gone."""
        if self._is_up:
            self._drain()
        with self._changed:
            self._closing = True
            self._changed.notify_all()
        self._end_ssh()
        if self._thread.ident is not None and self._thread is not threading.current_thread():
            self._thread.join(LAST_WORDS)
            self._end_ssh(signal.SIGKILL if hasattr(signal, "SIGKILL") else signal.SIGTERM)
            self._thread.join(LAST_WORDS)
        remove_runtime_folder(self._folder)

    # --- the tunnel's own thread ----------------------------------------------------------------------------------

    def _run(self) -> None:
        pause = FIRST_PAUSE
        while True:
            was_up = self._try()
            with self._changed:
                if self._closing or not self.drops:
                    break
                pause = FIRST_PAUSE if was_up else min(2 * pause, LONGEST_PAUSE)
                self._in_haste = False
                self._changed.wait_for(lambda: self._closing or self._in_haste, pause)
        with self._changed:
            self._is_over = True
            self._changed.notify_all()

    def _try(self) -> bool:
        """Run ssh until it ends. Whether it was up."""
        self._said.clear()
        came_up = False
        try:
            process = self._start()
        except (OSError, ValueError) as error:  # the latter for quotes that are not closed in $ENGINERY_SSH
            self._down(f"it could not be started: {error}")
            return False
        limit = threading.Timer(self._patience, self._end_ssh)
        limit.daemon = True
        limit.start()
        assert process.stdout is not None
        for line in process.stdout:
            if line.strip() == READY:
                limit.cancel()
                came_up = True
                self._up()
            elif line.strip():
                self._hear(line.strip())
        limit.cancel()
        process.stdout.close()
        code = process.wait()
        late = "" if came_up or code != -signal.SIGTERM else f"it did not log in within {self._patience:g} s"
        said = [line for line in self._said if not line.startswith(CHANNEL)]
        self._down(late or (said[-1] if said and code >= 0 else _ended(code)))
        return came_up

    def _start(self) -> subprocess.Popen[str]:
        # Again: while the tunnel was down, who sweeps may have taken it for that of a dead process.
        make_private_in(self._folder.parent, self._folder.name)
        Path(self.path).unlink(missing_ok=True)
        command = self.command()
        if shutil.which(command[0]) is None:
            raise FileNotFoundError(
                f"there is no program {command[0]!r}; install OpenSSH's client, or name it in ${PROGRAM}"
            )
        if sys.platform == "linux" and sys.executable:
            command = [sys.executable, "-I", "-S", "-c", TIE, str(os.getpid()), *command]
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            start_new_session=True,  # Ctrl-C in a terminal is not meant for it
        )
        with self._changed:
            self._process = process
        if self._closing:
            self._end_ssh()
        return process

    def command(self) -> list[str]:
        """The command line of ssh."""
        server = self.server
        given = shlex.split(os.environ.get(PROGRAM, "")) or ["ssh"]
        options = OPTIONS | {"ConnectTimeout": str(max(1, round(self._patience)))}
        command = [*given, "-N", "-T", *(part for name, value in options.items() for part in ("-o", f"{name}={value}"))]
        command += ["-i", self._key] if self._key else []
        command += ["-l", server.user] if server.user else []
        command += ["-p", str(server.port)] if server.port else []
        return [*command, "-L", f"{self.path}:{self.target}", "--", server.host]

    def _hear(self, line: str) -> None:
        first = not any(each.startswith(CHANNEL) for each in self._said)
        with self._changed:
            self._said.append(line)
        if line.startswith(CHANNEL) and first:
            log.info("%s", self._put(line))

    def _up(self) -> None:
        with self._changed:
            self._is_up, self._why = True, ""
            self._said.clear()
            self._changed.notify_all()
        if self.drops:
            log.warning("The ssh tunnel through %s is up again.", self.server)

    def _down(self, why: str) -> None:
        with self._changed:
            dropped, self._is_up = self._is_up, False
            self.drops += dropped
            before, self._why = self._why, self._put(why)
            self._changed.notify_all()
        if self.drops and not self._closing and before != self._why:
            log.warning("%s It is made anew.", self._why)

    def _put(self, why: str) -> str:
        """What happened, and what to do, in words."""
        advice = advice_on([why, *(line for line in self._said if not line.startswith(CHANNEL))])
        if why.startswith(CHANNEL):  # ssh is there, and what it should connect to is not
            subject = f"ssh server {self.server} cannot reach the controller at {self.target}"
            if "prohibited" not in why:
                advice = "Does it run there, and does it listen on an address the server reaches (ipcontroller --ip)?"
        elif self.drops:
            subject = f"The ssh tunnel through {self.server} dropped"
        else:
            subject = f"ssh to {self.server} failed"
            advice = advice or f"`ssh {self.server} true` must work on {socket.gethostname()} without a question."
        return f"{subject}: {why.rstrip('.')}. {advice}".rstrip()

    # --- the end ----------------------------------------------------------------------------------------------------

    def _drain(self) -> None:
        """Wait until what was sent has left.

        One more connection goes the way of those before: when its other end says something, what was sent before
        has come out there.
        """
        with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX) as last:
            last.settimeout(LAST_WORDS)
            last.connect(self.path)
            last.recv(1)

    def _end_ssh(self, number: int = signal.SIGTERM) -> None:
        with self._changed:
            process = self._process
        if process is None or process.returncode is not None:
            return
        with contextlib.suppress(ProcessLookupError, PermissionError):
            # Its group: a ProxyJump or ProxyCommand runs beside it.
            os.killpg(process.pid, number) if hasattr(os, "killpg") else process.terminate()


def _ended(code: int) -> str:
    return f"it was ended by signal {-code}" if code < 0 else f"it ended with code {code}"


_lock = threading.Lock()
_tunnels: dict[tuple[int, Server, str, int, str], Tunnel] = {}


def _hold(server: Server, host: str, port: int, key: str) -> Tunnel:
    """The tunnel of this process for an endpoint, made if there is none, with one user more."""
    name = (os.getpid(), server, host, port, key)
    with _lock:
        tunnel = _tunnels.get(name)
        if tunnel is None or tunnel.is_over:
            tunnel = _tunnels[name] = Tunnel(server, host, port, key)
        tunnel.users += 1
    return tunnel


def _sweep() -> None:
    """Remove the folders of processes that were killed."""
    for folder in [path for path in list_folder(runtime_base()) if path.name.startswith(FOLDER)]:
        owner = folder.name.removeprefix(FOLDER).partition("-")[0]
        try:
            os.kill(int(owner), 0)
        except (ProcessLookupError, OverflowError, ValueError):
            # Or it runs where its number means nothing here, as in a container.
            if not is_served(folder / END):
                remove_runtime_folder(folder)
        except PermissionError:
            pass  # somebody's who runs


@atexit.register
def _close_all() -> None:
    for tunnel in [each for each in list(_tunnels.values()) if each.is_own]:
        tunnel.close()


def _begin_child() -> None:
    """In a forked child: the tunnels are its parent's, and so is whoever held the lock."""
    global _lock  # noqa: PLW0603 - there is one per process
    _lock = threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_begin_child)
