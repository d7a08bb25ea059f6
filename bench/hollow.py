"""Hollow engines: sockets and protocol without Python work, hundreds in one process, to load a controller.

    python bench/hollow.py 8 1000        with so many engines each: controller time per no-op task, and how long it takes
                                         until all have joined, one broadcast, and until all have left that end at once

Engines differ from real ones in that they run nothing: every task ends at once, with None. What is measured is the
processor time that the controller spends per task, which must not depend on how many engines there are.
"""

from __future__ import annotations

import selectors
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import psutil

import enginery
from enginery.net import connection_file
from enginery.net.channel import ChannelClosed
from enginery.net.sockets import dial, key_for
from enginery.wire import messages as m
from enginery.wire.serialize import NONE

#: Tasks in one measurement, and how often it is repeated; where others use the machine, few of them are undisturbed.
TASKS = 100_000
RUNS = 12
#: Broadcasts.
REPEATS = 3
#: Seconds that a task pretends to have taken.
SPENT = 1e-6


class HollowEngine:
    """One connection that answers like an engine."""

    def __init__(self, info: connection_file.ConnectionInfo, number: int) -> None:
        self.channel = dial(info)
        self.functions: set[bytes] = set()
        hello = m.EngineHello(m.VERSION, f"hollow-{number}", number, "hollow")
        hello.key = key_for(info, self.channel)
        self.channel.send(m.encode(hello), [])

    def hear(self) -> None:
        """Answer what has come in."""
        results: list[m.Result] = []
        for header, _ in self.channel.receive():
            message = m.decode_to_engine(header)
            if type(message) is m.Assign:
                now = time.time()
                results += [m.Result(task.id, m.Status.OK, NONE, 0, now - SPENT, now) for task in message.tasks]
            elif type(message) is m.Ping:
                self.channel.send(m.encode(m.Pong(message.number)), [])
            elif type(message) is m.Return:
                self.channel.send(m.encode(m.Returned([])), [])
            elif type(message) is m.Bye:
                raise ChannelClosed
        if results:
            self.channel.send(m.encode(m.Done(results)), [])


def be_engines(path: str, count: int) -> None:
    """Be ``count`` engines until the controller leaves."""
    info = connection_file.load(path)
    selector = selectors.DefaultSelector()
    for number in range(count):
        engine = HollowEngine(info, number)
        selector.register(engine.channel.fileno(), selectors.EVENT_READ, engine)
    beat = 2.0
    next_beat = time.monotonic() + beat
    while True:
        ready = selector.select(max(0.0, next_beat - time.monotonic()))
        try:
            for key, _ in ready:
                key.data.hear()
            if time.monotonic() >= next_beat:
                next_beat += beat
                for key in list(selector.get_map().values()):
                    key.data.channel.send(m.encode(m.Ping(0)), [])
        except ChannelClosed:
            return
        for key in [key for key, _ in ready if key.data.channel.wants_write]:
            key.data.channel.write()


class Measured(NamedTuple):
    """Processor time of the controller per task in microseconds; all else in seconds."""

    cost: float
    joined: float
    broadcast: float
    left: float


def measure(engines: int) -> Measured:
    """Return the figures for so many engines: the least cost of a few runs, the median of a few broadcasts."""
    with tempfile.TemporaryDirectory(prefix="hollow-") as folder, enginery.Cluster(n=0, profile_dir=folder) as client:
        (path,) = Path(folder, "security").glob("*-engine.json")
        command = [sys.executable, __file__, "--be-engines", str(path), str(engines)]
        with subprocess.Popen(command) as process:
            # From the first that joins: its process has to import enginery before.
            client.wait_for_engines(1, timeout=60)
            began = time.perf_counter()
            client.wait_for_engines(engines, timeout=60)
            joined = time.perf_counter() - began
            controller = psutil.Process(client.link.info.pid)
            view = client.load_balanced_view()
            view.map_sync(abs, range(20_000))
            best = float("inf")
            for _ in range(RUNS):
                before = controller.cpu_times()
                view.map_sync(abs, range(TASKS))
                after = controller.cpu_times()
                spent = after.user + after.system - before.user - before.system
                best = min(best, spent / TASKS * 1e6)
            broadcasts = [timed(lambda: client[:].apply_sync(abs, -1)) for _ in range(REPEATS)]
            process.kill()
            left = timed(lambda: client.link.wait_for(lambda: not len(client), 60))
            client.shutdown(hub=True)
            process.wait(10)
    return Measured(best, joined, statistics.median(broadcasts), left)


def timed(run: Callable[[], object]) -> float:
    """Return how long it takes, in seconds."""
    began = time.perf_counter()
    run()
    return time.perf_counter() - began


def main() -> None:
    """Print the cost for each number of engines on the command line, as a multiple of the first."""
    if sys.argv[1:2] == ["--be-engines"]:
        be_engines(sys.argv[2], int(sys.argv[3]))
        return
    first = 0.0
    for engines in map(int, sys.argv[1:] or ["8", "1000"]):
        cost, joined, broadcast, left = measure(engines)
        first = first or cost
        print(
            f"{engines:>6} engines: {cost:6.2f} µs per task, {cost / first:.2f} ×; joined within {joined:.2f} s, "
            f"one broadcast {broadcast:.3f} s, all left within {left:.2f} s",
            flush=True,
        )


if __name__ == "__main__":
    main()
