"""A program on this host that holds ssh connections: one to each host on which something shall run.

    launcher ── order ──> carrier ──┬── ssh ──> remote_side ──> program
                                    └── ssh ──> remote_side ──> program

It is a process of its own so that a launcher can be taken over by another process, as with every other way to start
programs. All output comes together on standard error, each line after the name of its host; a controller's report that
it is ready goes to standard output. SIGTERM stops the programs; other signals are passed on to them. Its exit code is
that of the first program that failed. A program that fails within ``EARLY`` seconds takes the others with it: a set of
engines is whole or is none.
"""

from __future__ import annotations

import contextlib
import json
import os
import selectors
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Final

from enginery.cluster.launchers.remote_side import MARK

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

#: The first thing the remote Python does: it reads and runs the text of remote_side. One line that every shell takes.
BOOTSTRAP: Final = (
    "'exec(\"import os\\nn=int(os.read(0,8))\\ns=bytes()\\nwhile len(s)<n:\\n r=os.read(0,n-len(s))\\n s+=r\\n"
    " if not r: raise SystemExit(3)\\nexec(s)\")'"
)
#: How often a word is sent that keeps the lease of the other side, in seconds.
BEAT: Final = 15.0
#: Programs that fail sooner than this after the start have not started, in seconds.
EARLY: Final = 30.0
#: How long programs may take to end beyond their own patience, in seconds.
GRACE: Final = 3.0
#: How long a file may take on its way, in seconds.
COPYING: Final = 600.0
PASSED_ON: Final = ("SIGINT", "SIGHUP", "SIGQUIT", "SIGUSR1", "SIGUSR2", "SIGCONT", "SIGWINCH")
SIGNALLED: Final = 128
#: Exit codes by which a shell says that it has not found or cannot run a command.
NOT_FOUND: Final = frozenset({126, 127})
FAILED_TO_COPY: Final = 4


class Host:
    """One connection. Belongs to the carrier's thread."""

    def __init__(self, carrier: Carrier, wanted: Mapping[str, Any]) -> None:
        self.name: str = wanted["name"]
        self.code: int | None = None  #: of the program, or of ssh where there was none
        self._carrier = carrier
        self._wanted = wanted
        self._heard = {"out": b"", "err": b""}
        self._text = ""  #: output of the program since its last line end
        self._is_here = False
        self._runs = False
        self._exited: int | None = None
        self.process = subprocess.Popen(
            wanted["ssh"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, bufsize=0
        )
        for stream, kind in ((self.process.stdout, "out"), (self.process.stderr, "err")):
            assert stream is not None
            carrier.listen(stream, partial(self._read, stream, kind))
        source = Path(__file__).with_name("remote_side.py").read_bytes()
        self._send(b"%08d" % len(source) + source)
        self.wish("order", **wanted["order"])

    def wish(self, what: str, **more: Any) -> None:
        """Tell the other side what is wanted."""
        self._send((json.dumps({"do": what, **more}) + "\n").encode())

    @property
    def broke(self) -> bool:
        """Whether the connection ended while the program ran, and not the program."""
        return self._runs and self._exited is None

    def hang_up(self) -> None:
        """End the connection, whatever the other side does."""
        if self.process.poll() is None:
            self.process.kill()

    def _send(self, data: bytes) -> None:
        assert self.process.stdin is not None
        with contextlib.suppress(OSError):  # its end is noticed where its output is read
            self.process.stdin.write(data)

    def _read(self, stream: IO[bytes], kind: str) -> None:
        piece = os.read(stream.fileno(), 65536)
        if not piece:
            self._carrier.forget(stream)
            stream.close()
            if all(each is None or each.closed for each in (self.process.stdout, self.process.stderr)):
                self._ended()
            return
        *lines, self._heard[kind] = (self._heard[kind] + piece).split(b"\n")
        for line in lines:
            self._line(line.decode("utf-8", "replace"), kind)

    def _line(self, line: str, kind: str) -> None:
        before, mark, event = line.partition(MARK)
        if kind == "err" or not mark:
            self._say(line)  # ssh itself, or a login shell
            return
        if before:
            self._say(before)
        try:
            told = json.loads(event)
        except ValueError:
            self._say(line)
            return
        self._hear(told)

    def _hear(self, told: Mapping[str, Any]) -> None:
        match told.get("event"):
            case "here":
                self._is_here = True
                self._say(f"Python {told['python']} ({told['path']}) on {told['host']}")
                if self._copy("send"):
                    self.wish("start")
            case "started":
                self._runs = True
                self._say(f"{told['command']} runs there as process {told['pid']}")
            case "failed":
                self._say(f"could not start: {told['what']}")
            case "output":
                *lines, self._text = (self._text + told["text"]).split("\n")
                for line in lines:
                    self._say(line)
            case "ready":
                if self._copy("fetch"):
                    sys.stdout.write(told["line"])
                    sys.stdout.flush()
            case "exited":
                self._exited = told["code"]

    def _copy(self, which: str) -> bool:
        """Copy the files to be sent or fetched; whether that went well."""
        for command in self._wanted[which]:
            try:
                done = subprocess.run(command, capture_output=True, text=True, timeout=COPYING, check=False)
            except (OSError, subprocess.TimeoutExpired) as error:
                said, code = str(error), FAILED_TO_COPY
            else:
                said, code = (done.stdout + done.stderr).strip(), done.returncode
            if code:
                self._say(f"`{' '.join(command)}` failed: {said}")
                self._exited = FAILED_TO_COPY
                self.wish("stop")
                return False
        return True

    def _ended(self) -> None:
        code = self.process.wait()
        for rest in (*(each.decode("utf-8", "replace") for each in self._heard.values()), self._text):
            if rest:
                self._say(rest)
        self.code = self._exited if self._exited is not None else code
        if self.code < 0:
            self.code = SIGNALLED - self.code
        if not self._is_here and not self._carrier.stopping:
            command = " ".join(self._wanted["ssh"][:-1])
            if code in NOT_FOUND:
                self._say(
                    f"there is no Python {self._wanted['python']!r} (exit code {code}). "
                    "Say which one to use there: SSHLauncher.remote_python."
                )
            else:
                self._say(f"`{command}` ended with exit code {code} before anything ran there.")
        assert self.process.stdin is not None
        with contextlib.suppress(OSError):
            self.process.stdin.close()
        self._carrier.ended(self)

    def _say(self, line: str) -> None:
        sys.stderr.write(f"[{self.name}] {line}\n")
        if "No module named 'enginery'" in line or "No module named enginery" in line:
            sys.stderr.write(
                f"[{self.name}] enginery is not installed for that Python. Install it there, or say which one has it: "
                "SSHLauncher.remote_python.\n"
            )
        sys.stderr.flush()


class Carrier:
    """All connections of one launcher. Made and run once, in the main thread."""

    def __init__(self, order: Mapping[str, Any]) -> None:
        self.stopping = ""
        self._order = order
        self._selector = selectors.DefaultSelector()
        self._hosts: list[Host] = []
        self._code = 0
        self._began = time.monotonic()
        self._kill_at = float("inf")
        self._reader, self._writer = os.pipe()
        for descriptor in (self._reader, self._writer):
            os.set_blocking(descriptor, False)
        signal.set_wakeup_fd(self._writer)
        for name in ("SIGTERM", *PASSED_ON):
            signal.signal(getattr(signal, name), lambda *_: None)
        self._selector.register(self._reader, selectors.EVENT_READ, self._signalled)

    def run(self) -> int:
        """Connect, and stay until all programs have ended; returns the exit code."""
        self._watch_owner(int(self._order["owner"]))
        for wanted in self._order["hosts"]:
            if not self.stopping:
                self._hosts.append(Host(self, wanted))
        beat = time.monotonic() + BEAT
        while any(host.code is None for host in self._hosts):
            now = time.monotonic()
            for key, _ in self._selector.select(max(0.0, min(beat, self._kill_at) - now)):
                key.data()
            now = time.monotonic()
            if now >= beat:
                beat = now + BEAT
                for host in self._there():
                    host.wish("beat")
            if now >= self._kill_at:
                for host in self._there():
                    host.hang_up()
        return self._code

    def listen(self, stream: IO[bytes], read: Callable[[], None]) -> None:
        """Have ``read`` called when there is something on ``stream``."""
        self._selector.register(stream, selectors.EVENT_READ, read)

    def forget(self, stream: IO[bytes]) -> None:
        """Listen no longer."""
        self._selector.unregister(stream)

    def ended(self, host: Host) -> None:
        """A connection has ended."""
        if host.code and not self.stopping:
            self._code = self._code or host.code
            if time.monotonic() - self._began < EARLY and not host.broke and self._there():
                self.stop(f"{host.name} failed at the start")

    def stop(self, reason: str) -> None:
        """Have all programs stopped."""
        if self.stopping:
            return
        self.stopping = reason
        for host in self._there():
            host.wish("stop")
        patience = max((each["order"]["patience"] for each in self._order["hosts"]), default=0.0)
        self._kill_at = time.monotonic() + patience + GRACE

    def _there(self) -> list[Host]:
        return [host for host in self._hosts if host.code is None]

    def _signalled(self) -> None:
        for number in os.read(self._reader, 4096):
            if number == signal.SIGTERM:
                self.stop("it was asked to")
                continue
            for host in self._there():
                host.wish("signal", number=number)

    def _watch_owner(self, owner: int) -> None:
        if not owner:
            return
        try:
            watch = os.pidfd_open(owner)
        except (AttributeError, ProcessLookupError):
            # Systems without pidfds notice it by the controller's end.
            if not os.path.exists(f"/proc/{owner}"):  # noqa: PTH110  # the same question everywhere
                self._owner_ended()
            return
        self._selector.register(watch, selectors.EVENT_READ, lambda: self._owner_gone(watch))

    def _owner_gone(self, watch: int) -> None:
        self._selector.unregister(watch)
        os.close(watch)
        self._owner_ended()

    def _owner_ended(self) -> None:
        self.stop("its owner is gone")
        for path in self._order["owner_files"]:
            with contextlib.suppress(OSError):
                Path(path).unlink()


def main(argv: Sequence[str]) -> int:
    """Read the order from standard input and run it."""
    del argv
    order = json.loads(sys.stdin.read())
    return Carrier(order).run()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
