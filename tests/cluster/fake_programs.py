"""Programs that behave like a controller or an engine host as far as launchers can tell.

Run as ``python fake_programs.py <behaviour> <arguments of the real program>``.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from pathlib import Path

KIND = {"kind": "client", "url": "tcp://127.0.0.1:5"}


def argument(name: str) -> str:
    return next((each.partition("=")[2] for each in sys.argv if each.startswith(f"--{name}=")), "")


def say_ready() -> None:
    infos = {kind: {"kind": kind, "url": "tcp://127.0.0.1:5", "pid": os.getpid()} for kind in ("client", "engine")}
    with open(int(argument("ready-fd")), "w", encoding="utf-8") as ready:
        ready.write(json.dumps(infos) + "\n")


def controller() -> None:
    """Be ready, and leave on SIGTERM."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    say_ready()
    signal.pause()


def broken_controller() -> None:
    print("loading the flux capacitor")
    sys.exit("it is missing")


def mute_controller() -> None:
    """Never be ready."""
    signal.pause()


def stubborn_controller() -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    say_ready()
    while True:
        signal.pause()


def engines() -> None:
    """Tell what came through standard input, and leave on SIGTERM or if nothing came."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    text = sys.stdin.read()
    print(json.dumps({"argv": sys.argv[2:], "info": json.loads(text) if text else None}), flush=True)
    Path(os.environ["FAKE_MARK"]).write_text("here", encoding="utf-8")
    if text:
        signal.pause()


def steady_engines() -> None:
    """Leave on SIGTERM, whatever came."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    signal.pause()


def broken_engines() -> None:
    sys.exit("no numpy here")


def mpiexec() -> None:
    """Run the program once, and tell it of how many ranks it is one."""
    ranks, program = sys.argv[sys.argv.index("-n") + 1], sys.argv[sys.argv.index("-n") + 2 :]
    os.environ["FAKE_RANKS"] = ranks
    os.execv(program[0], program)


def broken_mpiexec() -> None:
    print("There are not enough slots available in the system", file=sys.stderr)
    sys.exit(213)


def rank() -> None:
    """Tell what it was told, and leave on SIGTERM."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    print(json.dumps({"argv": sys.argv[2:], "ranks": os.environ["FAKE_RANKS"]}), flush=True)
    Path(os.environ["FAKE_MARK"]).write_text("here", encoding="utf-8")
    signal.pause()


def remote_engines() -> None:
    """Tell what it was told, leave on SIGTERM, and say so on SIGUSR1."""

    def react(number: int, _frame: object) -> None:
        print("got SIGUSR1", flush=True)
        sys.exit(11)

    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    signal.signal(signal.SIGUSR1, react)
    info = os.environ.get("IPP_CONNECTION_INFO")
    told = {
        "argv": sys.argv[2:],
        "info": json.loads(info) if info else None,
        "owner": next((each for each in sys.argv if each.startswith("--owner-pid=")), ""),
        "pid": os.getpid(),
        "parent": os.getppid(),
        "folder": os.getcwd(),
    }
    part = Path(os.environ["FAKE_MARK"]).with_suffix(".part")
    part.write_text(json.dumps(told), encoding="utf-8")
    part.rename(os.environ["FAKE_MARK"])
    signal.pause()


globals()[sys.argv[1]]()
