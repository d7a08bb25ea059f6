"""What runs on the other end of an ssh connection: it starts one program there, and ends it with the connection.

This file's text is sent over the connection and run by whatever Python is there, so it uses nothing but the standard
library and works with Python 3.8. Nothing is left on that host, and no secret appears on a command line.

    over standard input    one line of JSON, the order; then a line for each wish: start, signal, stop, beat
    over standard output   a line for each event, after ``MARK``: here, started, ready, output, exited, failed

The program is stopped when it is wished, when standard input ends, and when nothing was heard for ``LEASE`` seconds, as
after a cut cable. It dies with this process, too, where the system can do that.
"""

from __future__ import annotations

import ctypes
import errno
import json
import os
import platform
import select
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

#: Begins each line that is an event: what a login shell prints does not.
MARK = "enginery: "
#: Seconds without a word after which the other side counts as gone.
LEASE = 60.0
#: Seconds an address of the controller may take to answer.
ANSWER = 3.0
#: Output that waits to be sent at most, in bytes; what is more is dropped.
BACKLOG = 1 << 20
#: Seconds in which the last output of a program that has ended is waited for.
LAST_WORDS = 0.5
#: Exit code for a controller that cannot be reached.
UNREACHABLE = 5
PR_SET_PDEATHSIG = 1
#: Addresses that mean every interface of the controller's host.
WILDCARDS = ("*", "0.0.0.0", "[::]")  # noqa: S104  # compared with, never bound here
#: What SSH_CONNECTION holds: address and port of the client, address and port of the server.
CONNECTION_PARTS = 4


class Unreachable(Exception):
    """No address of the controller answers on this host."""


class Side:
    """One program on this host, and the connection to who ordered it."""

    def __init__(self) -> None:
        self.heard = b""
        self.unsent = b""
        self.dropped = 0
        self.last_word = time.monotonic()
        self.process: Any = None
        self.ready = -1
        self.code = 0
        self.stop_at = 0.0  #: when the program is killed; 0 while nobody wants it stopped
        self.order: dict[str, Any] = {}
        self.child_ended, wake = os.pipe()
        os.set_blocking(self.child_ended, False)
        os.set_blocking(wake, False)
        signal.set_wakeup_fd(wake)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
            signal.signal(number, lambda *_: self.stop())
        os.set_blocking(1, False)

    # --- events and wishes ---

    def tell(self, event: str, **more: Any) -> None:
        """Send an event."""
        line = (MARK + json.dumps(dict(event=event, **more)) + "\n").encode()
        if event == "output" and len(self.unsent) > BACKLOG:
            self.dropped += 1
            return
        self.unsent += line
        self.send()

    def send(self) -> None:
        """Send what is unsent, as far as that goes without waiting."""
        while self.unsent:
            try:
                self.unsent = self.unsent[os.write(1, self.unsent) :]
            except BlockingIOError:
                return
            except OSError:
                # Nobody listens any more; reading will tell.
                self.unsent = b""

    def wishes(self) -> list[dict[str, Any]]:
        """What was wished since; the end of the connection is a wish to stop."""
        piece = os.read(0, 65536)
        self.last_word = time.monotonic()
        if not piece:
            return [{"do": "stop", "end": True}]
        *lines, self.heard = (self.heard + piece).split(b"\n")
        return [json.loads(line) for line in lines]

    # --- the program ---

    def run(self) -> int:
        """Do what is ordered; returns the exit code."""
        reading = True
        while True:
            inputs = [self.child_ended, *([0] if reading else [])]
            inputs += [each for each in (self.output(), self.ready) if each >= 0]
            readable, _, _ = select.select(inputs, [1] if self.unsent else [], [], self.patience())
            self.send()
            if 0 in readable:
                for wish in self.wishes():
                    reading = reading and not wish.get("end")
                    self.obey(wish)
            if self.output() in readable:
                self.relay()
            if self.ready in readable:
                self.report()
            if self.child_ended in readable:
                drain(self.child_ended)
            if self.process is not None and self.process.poll() is not None:
                return self.finish()
            if self.process is None and (self.stop_at or self.code):
                self.flush()
                return self.code
            now = time.monotonic()
            if now - self.last_word > LEASE:
                reading = False
                self.stop()
            if self.stop_at and now >= self.stop_at and self.process is not None:
                self.kill()

    def patience(self) -> float:
        """Seconds until there is something to do though nothing happens."""
        now = time.monotonic()
        due = min(self.last_word + LEASE, self.stop_at or now + LEASE)
        return max(0.0, due - now) + 0.001

    def output(self) -> int:
        """The descriptor of the program's output; -1 if there is none."""
        return -1 if self.process is None or self.process.stdout.closed else int(self.process.stdout.fileno())

    def obey(self, wish: dict[str, Any]) -> None:
        """Fulfil a wish; the first one is the order itself."""
        what = wish.get("do")
        if what == "order":
            self.prepare(wish)
        elif what == "start":
            self.start()
        elif what == "signal" and self.process is not None:
            self.process.send_signal(wish["number"])
        elif what == "stop":
            self.stop()

    def prepare(self, order: dict[str, Any]) -> None:
        """Make the folders that files will be sent to, and say where we are."""
        self.order = order
        for folder in order["folders"]:
            Path(folder).expanduser().mkdir(mode=0o700, parents=True, exist_ok=True)
        self.tell(
            "here", host=socket.gethostname(), pid=os.getpid(), python=platform.python_version(), path=sys.executable
        )

    def start(self) -> None:
        """Start the program."""
        order = self.order
        environment = {**os.environ, **order["environment"]}
        first, *rest = order["command"]
        # How a shell has found this Python, the system need not find it.
        command = [sys.executable if first == order.get("python") else str(Path(first).expanduser()), *rest]
        try:
            if order.get("connection"):
                environment["IPP_CONNECTION_INFO"] = json.dumps(reachable(order["connection"], order["locations"]))
            if order.get("owned"):
                command.append(f"--owner-pid={os.getpid()}")
            if order.get("locate") and server_address():
                command.append(f"--location={server_address()}")
            told = -1
            if order.get("reports"):
                self.ready, told = os.pipe()
                command.append(f"--ready-fd={told}")
            self.process = subprocess.Popen(
                command,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                preexec_fn=die_with_parent,  # noqa: PLW1509  # this process has one thread
                pass_fds=[told] if told >= 0 else [],
            )
            if told >= 0:
                os.close(told)
        except (OSError, Unreachable) as error:
            self.code = UNREACHABLE if isinstance(error, Unreachable) else 127
            self.tell("failed", what=str(error), command=command[0])
            return
        os.set_blocking(self.output(), False)
        self.tell("started", pid=self.process.pid, command=command[0])

    def relay(self) -> None:
        """Pass on what the program has written."""
        try:
            text = os.read(self.output(), 16384)
        except BlockingIOError:
            return
        if text:
            self.tell("output", text=text.decode("utf-8", "replace"))
        else:
            self.process.stdout.close()

    def report(self) -> None:
        """Pass on the program's report that it is ready."""
        line = b""
        while not line.endswith(b"\n"):
            piece = os.read(self.ready, 65536)
            if not piece:
                break
            line += piece
        os.close(self.ready)
        self.ready = -1
        if line:
            self.tell("ready", line=line.decode())

    def stop(self) -> None:
        """Ask the program to leave; it is killed if it does not."""
        if not self.stop_at:
            self.stop_at = time.monotonic() + self.order.get("patience", 5.0)
            if self.process is not None:
                self.process.send_signal(self.order.get("stop_signal", signal.SIGTERM))

    def kill(self) -> None:
        """End the program and all it has started in its session."""
        try:
            os.killpg(self.process.pid, signal.SIGKILL)
        except OSError as error:
            if error.errno not in (errno.ESRCH, errno.EPERM):
                raise

    def finish(self) -> int:
        """The program has ended: pass on its last words, and take what it has left behind."""
        deadline = time.monotonic() + LAST_WORDS
        while self.output() >= 0 and select.select([self.output()], [], [], max(0.0, deadline - time.monotonic()))[0]:
            self.relay()
        self.kill()
        code = int(self.process.returncode)
        self.tell("exited", code=code, dropped=self.dropped)
        self.flush()
        return code if code >= 0 else 128 - code

    def flush(self) -> None:
        """Send what is unsent, and wait for that a moment."""
        deadline = time.monotonic() + LAST_WORDS
        while self.unsent and time.monotonic() < deadline:
            select.select([], [1], [], LAST_WORDS)
            self.send()


def reachable(info: dict[str, Any], locations: list[str]) -> dict[str, Any]:
    """The connection info with the first location that answers on this host. Raises Unreachable.

    The address this connection came from is tried as well: it is the one by which this host knows the other side.
    """
    urls = info.get("urls") or [info["url"]]
    if info.get("ssh") or any(url.startswith("ipc://") and is_served(url[6:]) for url in urls):
        return info
    # A socket's file on a shared disk is of no use here.
    urls = [url for url in urls if not url.startswith("ipc://")]
    info = dict(info, urls=urls, url=urls[0]) if urls else info
    failures = []
    for url in urls:
        if not url.startswith("tcp://"):
            continue
        host, _, port = url[6:].rpartition(":")
        wild = host in WILDCARDS
        from_here = (os.environ.get("SSH_CONNECTION") or "").split(" ")[0]
        candidates = [info.get("location"), from_here, *locations] if wild else [host.strip("[]")]
        for candidate in dict.fromkeys(filter(None, candidates)):
            try:
                socket.create_connection((candidate, int(port)), ANSWER).close()
            except OSError as error:
                failures.append(f"{candidate}:{port} ({error.strerror or error})")
            else:
                return dict(info, location=candidate) if wild else info
    tried = ", ".join(failures) or "nothing: it does not listen on the network"
    raise Unreachable(
        f"{socket.gethostname()} cannot reach the controller. Tried {tried}. Let it listen on an address that leads there "
        "(controller_ip, controller_location), or have engines tunnel to it (ipcontroller --enginessh)."
    )


def is_served(path: str) -> bool:
    """Whether somebody on this host listens at a Unix socket."""
    with socket.socket(socket.AF_UNIX) as knock:
        return knock.connect_ex(path) == 0


def server_address() -> str:
    """The address by which the other side has reached this host."""
    parts = (os.environ.get("SSH_CONNECTION") or "").split(" ")
    return parts[2] if len(parts) == CONNECTION_PARTS else ""


def die_with_parent() -> None:
    """In the child: be told to leave when this process dies. Linux only."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)


def drain(descriptor: int) -> None:
    """Read what is there and forget it."""
    try:
        while os.read(descriptor, 4096):
            pass
    except BlockingIOError:
        pass


if __name__ == "__main__":
    sys.exit(Side().run())
