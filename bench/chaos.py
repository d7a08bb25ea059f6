"""Kills, stops and cuts at random while tasks with side effects run; then a checker reads what became of each of them.

    python bench/chaos.py                          five minutes, 10,000 tasks
    python bench/chaos.py --seconds 60 --tasks 2000 --seed 4711
    python bench/chaos.py --folder /tmp/chaos      keeps what the programs wrote, to be looked at

Every one to five seconds something happens to one process or connection, drawn from the seed: the durable controller or
an engine is killed (SIGKILL) or stopped for a while (SIGSTOP, SIGCONT), or all connections of the client or of the engines
are cut. What must hold in the end: every task that was accepted has ended in one reply; what has begun more often than
once was allowed to by its retries; what was answered has begun. Exits with 1 if anything else is found.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import random
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final

import psutil

from enginery.client.client import Client
from enginery.client.result import AsyncResult
from enginery.errors import EngineError
from enginery.net import connection_file
from enginery.net.addresses import split_tcp
from enginery.net.connection_file import ConnectionInfo
from enginery.testing.relay import Relay

#: Seconds until the next mishap, at least and at most; and those for which a process is stopped.
PAUSE = (1.0, 5.0)
STOPPED = (0.2, 3.0)
#: Seconds until everything has to be over once nothing goes wrong any more, or for a program to start.
PATIENCE = 120.0
#: Seconds before and after the beginnings of a task with which something is wrong, from which all mishaps are told.
NEAR: Final = 10.0
#: How long a task takes at most, in seconds.
LONGEST = 0.05

MARK = '''
def mark(folder, number, seconds):
    """Leave a mark that outlives this process, then take some time."""
    import os, time
    handle = os.open(os.path.join(folder, "marks"), os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    os.write(handle, b"%d %d %.3f\\n" % (number, os.getpid(), time.time()))
    os.close(handle)
    time.sleep(seconds)
    return number
'''


@dataclass
class Tally:
    """What was seen."""

    mishaps: list[tuple[float, str]] = field(default_factory=list)  #: when, by the time of day, and what
    recoveries: list[float] = field(default_factory=list)
    replies: Counter[int] = field(default_factory=Counter)


class Bed:
    """A durable controller and engines on the far side of relays, and one client."""

    def __init__(self, folder: Path, engines: int) -> None:
        self.folder = folder
        self.controller = self._start("controller", "--ip=127.0.0.1", "--restore", "--reconnect=60")
        self.relays: dict[str, Relay] = {}
        infos = {kind: self._through_relay(kind) for kind in ("client", "engine")}
        path = folder / "far-engine.json"
        infos["engine"].save(path)
        self.host = self._start("engine", f"--n={engines}", f"--file={path}", "--restart", f"--work-dir={folder}")
        self.client = Client(infos["client"], timeout=PATIENCE)
        self.client.wait_for_engines(engines, timeout=PATIENCE)

    def _start(self, what: str, *arguments: str) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", f"enginery.{what}", f"--profile-dir={self.folder}", *arguments]
        with (self.folder / f"{what}.log").open("ab") as log:
            return subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT)

    def _through_relay(self, kind: str) -> ConnectionInfo:
        path = self.folder / "security" / f"ipcontroller-{kind}.json"
        deadline = time.monotonic() + PATIENCE
        while not path.exists():
            assert time.monotonic() < deadline, (self.folder / "controller.log").read_text()
            time.sleep(0.01)
        info = connection_file.load(path)
        (url,) = [each for each in info.urls if each.startswith("tcp://")]
        relay = self.relays[kind] = Relay(split_tcp(url)[1])
        here = f"tcp://127.0.0.1:{relay.port}"
        return replace(info, url=here, urls=(here,))

    def kill_controller(self) -> None:
        """And start another one in its place."""
        self.controller.kill()
        self.controller.wait()
        self.controller = self._start("controller", "--ip=127.0.0.1", "--restore", "--reconnect=60")

    def engines(self) -> list[int]:
        """Process ids of the engines that are registered."""
        return [info.pid for info in self.client.link.engines.values()]

    def close(self) -> None:
        """End everything."""
        with contextlib.suppress(Exception):
            self.client.close()
        for process in (self.host, self.controller):
            process.send_signal(signal.SIGCONT)
            process.terminate()
        for process in (self.host, self.controller):
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        for relay in self.relays.values():
            relay.close()


class Mishaps:
    """What goes wrong, one thing at a time."""

    def __init__(self, bed: Bed, chance: random.Random, tally: Tally) -> None:
        self._bed, self._chance, self._tally = bed, chance, tally
        self._all = (
            self.kill_controller, self.kill_controller, self.stop_controller, self.kill_engine, self.stop_engine,
            self.cut_client, self.cut_engines,
        )  # fmt: skip

    def strike(self) -> None:
        """Let one of them happen."""
        mishap = self._chance.choice(self._all)
        self._note(mishap.__name__)
        mishap()

    def _note(self, what: str) -> None:
        self._tally.mishaps.append((time.time(), what))

    def kill_controller(self) -> None:
        """SIGKILL; another one is started at once. Measures the time until the client hears it."""
        began = time.monotonic()
        self._bed.kill_controller()
        with contextlib.suppress(ValueError):  # asked before the end was seen, and told so by the next one
            self._bed.client.link.ask("statistics", timeout=PATIENCE)
        self._tally.recoveries.append(time.monotonic() - began)

    def stop_controller(self) -> None:
        """SIGSTOP for a while."""
        self._stop(self._bed.controller.pid)

    def kill_engine(self) -> None:
        """SIGKILL; its host starts another one."""
        if engines := self._bed.engines():
            with contextlib.suppress(ProcessLookupError):
                os.kill(self._chance.choice(engines), signal.SIGKILL)

    def stop_engine(self) -> None:
        """SIGSTOP for a while."""
        if engines := self._bed.engines():
            self._stop(self._chance.choice(engines))

    def cut_client(self) -> None:
        """Break the client's connections."""
        self._bed.relays["client"].cut()

    def cut_engines(self) -> None:
        """Break all connections of engines and their nanny."""
        self._bed.relays["engine"].cut()

    def _stop(self, pid: int) -> None:
        with contextlib.suppress(psutil.NoSuchProcess):
            process = psutil.Process(pid)
            process.suspend()
            time.sleep(self._chance.uniform(*STOPPED))
            process.resume()


def run(bed: Bed, *, seconds: float, tasks: int, chance: random.Random, tally: Tally) -> list[tuple[AsyncResult, int]]:
    """Submit tasks all the while, let things go wrong, and wait for the end. Returns results and their retries."""
    scope: dict[str, object] = {"__name__": "__main__"}
    exec(MARK, scope)  # noqa: S102 - a function of no module, so that engines need not be able to import this one
    mark, mishaps = scope["mark"], Mishaps(bed, chance, tally)
    view = bed.client.load_balanced_view()
    results: list[tuple[AsyncResult, int]] = []
    began = time.monotonic()
    next_mishap = began + chance.uniform(*PAUSE)
    while (now := time.monotonic()) < began + seconds or len(results) < tasks:
        due = min(tasks, int(tasks * (now - began) / seconds) + 1)
        for number in range(len(results), due):
            retries = chance.choice([0, 0, 1, 5])
            with view.temp_flags(retries=retries):
                result = view.apply_async(mark, str(bed.folder), number, chance.uniform(0, LONGEST))
            result.add_done_callback(lambda _result, number=number: tally.replies.update([number]))
            results.append((result, retries))
        if now >= next_mishap:
            mishaps.strike()
            next_mishap = time.monotonic() + chance.uniform(*PAUSE)
        time.sleep(0.01)
    return results


Beginnings = dict[int, list[tuple[float, int]]]


def beginnings(folder: Path) -> Beginnings:
    """When each task has begun, by the time of day, and in which process."""
    begun: Beginnings = {}
    for line in (folder / "marks").read_text().splitlines():
        number, pid, when = line.split()
        begun.setdefault(int(number), []).append((float(when), int(pid)))
    return begun


def judge(number: int, result: AsyncResult, retries: int, times: int, tally: Tally) -> list[str]:
    """What is wrong with one task that has begun so many times."""
    if not result.done():
        return [f"unresolved: {result.why()}"]
    wrong = []
    error = result.exception()
    if error is not None and not isinstance(error, EngineError):
        wrong.append(f"lost: ended in {error!r}")
    if error is None and (result.get() != number or not times):
        wrong.append(f"lost: gave {result.get()!r} and has begun {times} times")
    if times > 1 + retries:
        wrong.append(f"begun {times} times with {retries} retries")
    if tally.replies[number] > 1:
        wrong.append(f"{tally.replies[number]} replies")
    return wrong


def check(folder: Path, results: list[tuple[AsyncResult, int]], tally: Tally) -> dict[str, object]:
    """Read what became of each task. What is listed under ``wrong`` must not be."""
    deadline = time.monotonic() + PATIENCE
    for result, _ in results:
        result.wait(max(0.0, deadline - time.monotonic()))
    begun = beginnings(folder)
    wrong: list[str] = []
    for number, (result, retries) in enumerate(results):
        times = begun.get(number, [])
        found = judge(number, result, retries, len(times), tally)
        if found:
            around = [each for each in tally.mishaps if any(abs(each[0] - when) < NEAR for when, _ in times)]
            wrong += [
                f"task {number}: {each}; begun {times}, ended {result.metadata}, around {around}" for each in found
            ]
    recoveries = tally.recoveries or [0.0]
    return {
        "tasks": len(results),
        "accepted": sum(result.accepted for result, _ in results),
        "unresolved": sum(": unresolved" in each for each in wrong),
        "lost": sum(": lost" in each for each in wrong),
        "doubled replies": sum(count > 1 for count in tally.replies.values()),
        "failed with their engine": sum(result.done() and result.exception() is not None for result, _ in results),
        "begun again": sum(len(times) > 1 for times in begun.values()),
        "mishaps": Counter(what for _, what in tally.mishaps),
        "back after": {"median": round(statistics.median(recoveries), 2), "longest": round(max(recoveries), 2)},
        "wrong": wrong,
    }


def main() -> int:
    """Run it as the command line says."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=300.0)
    parser.add_argument("--tasks", type=int, default=10_000)
    parser.add_argument("--engines", type=int, default=4)
    parser.add_argument("--seed", type=int, default=random.randrange(1 << 31))
    parser.add_argument("--folder", type=Path, help="of the run, to be kept; default: one that is removed")
    chosen = parser.parse_args()
    print(f"seed {chosen.seed}", flush=True)
    tally, chance = Tally(), random.Random(chosen.seed)
    with tempfile.TemporaryDirectory(prefix="enginery-chaos-") as name:
        folder = chosen.folder or Path(name)
        folder.mkdir(parents=True, exist_ok=True)
        bed = Bed(folder, chosen.engines)
        try:
            results = run(bed, seconds=chosen.seconds, tasks=chosen.tasks, chance=chance, tally=tally)
            report = check(folder, results, tally)
        finally:
            bed.close()
    print(json.dumps(report, indent=2))
    return 1 if report["wrong"] else 0


if __name__ == "__main__":
    sys.exit(main())
