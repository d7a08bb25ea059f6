"""What encryption costs: the same work over tcp on this host, encrypted, signed, and with nothing, in one run.

    python bench/encryption.py [rounds]

In each round every way has its turn, and another one begins, so that a busy minute of the machine hits all alike. What is
printed are medians over rounds, and how they compare with tcp that nothing protects. Processor time is that of client,
controller and engines together: it says the same on a machine that is busy otherwise.
"""

from __future__ import annotations

import contextlib
import json
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import psutil

import enginery

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE / "workloads"))

from harness import median_time, rate, time_each  # noqa: E402 - of that folder
from payload import held, last_byte, nothing  # noqa: E402

#: How a controller is told to protect what passes between hosts.
WAYS = {"encrypted": [], "signed": ["--no-curve"], "nothing": ["--no-secure"]}
ROUNDS = 5
SECONDS = 1.5  #: for each figure
TASKS = 20_000  #: for the processor time of one
LARGE = 100_000_000
REPEATS = 3
TITLES = {
    "tasks": ("no-op tasks, one `apply_async` each, /s", True),
    "task_cpu": ("… processor time of one, µs", False),
    "trip": ("idle round trip, ms", False),
    "to": ("100 MB array to an engine, MB/s", True),
    "back": ("… and back, MB/s", True),
    "array_cpu": ("… processor time of both, ms", False),
}


@contextlib.contextmanager
def cluster(arguments: list[str]) -> Iterator[enginery.Client]:
    """A controller on loopback and two engines, who speak over tcp only, and a client of the same kind."""
    with tempfile.TemporaryDirectory(prefix="bench-") as folder, contextlib.ExitStack() as processes:

        def start(what: str, *more: str) -> subprocess.Popen[str]:
            command = [sys.executable, "-m", f"enginery.{what}", f"--profile-dir={folder}", *more]
            process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, cwd=HERE / "workloads")
            processes.callback(process.wait)
            processes.callback(process.terminate)
            return process

        controller = start("controller", "--ip=127.0.0.1", *arguments)
        assert controller.stderr is not None
        for line in controller.stderr:
            if "Scheduler started" in line:  # after both files were written
                break
        infos = {}
        for kind in ("client", "engine"):
            info = json.loads((Path(folder) / "security" / f"ipcontroller-{kind}.json").read_text())
            infos[kind] = info | {"urls": [url for url in info["urls"] if url.startswith("tcp:")]}
        path = Path(folder) / "tcp-engine.json"
        path.touch(0o600)
        path.write_text(json.dumps(infos["engine"]))
        start("engine", "--n=2", f"--file={path}")
        with enginery.Client(infos["client"]) as client:
            client.wait_for_engines(2)
            yield client


def processor_time(client: enginery.Client, run: Callable[[], object]) -> float:
    """Seconds that client, controller and engines need for ``run``, which was done before."""
    pids = [client.link.info.pid, *(info.pid for info in client.link.engines.values())]
    processes = [psutil.Process(), *map(psutil.Process, pids)]

    def spent() -> float:
        return sum(sum(process.cpu_times()[:2]) for process in processes)

    run()
    before = spent()
    run()
    return spent() - before


def measure(client: enginery.Client) -> dict[str, float]:
    """All figures of one way."""
    balanced, one = client.load_balanced_view(), client[0]
    array = np.ones(LARGE, np.uint8)

    def run(count: int = TASKS) -> None:
        for handle in [balanced.apply_async(nothing) for _ in range(count)]:
            handle.get()

    def send() -> None:
        assert one.apply_sync(last_byte, array) == 1

    def fetch() -> None:
        assert one.apply_sync(held, LARGE)[-1] == 1

    client[:].apply_sync(nothing)  # both engines have imported it
    trips = time_each(lambda: balanced.apply_sync(nothing), SECONDS)
    return {
        "tasks": rate(run, SECONDS),
        "task_cpu": processor_time(client, run) / TASKS * 1e6,
        "trip": trips[len(trips) // 2] * 1e3,
        "to": LARGE / 1e6 / median_time(send, REPEATS),
        "back": LARGE / 1e6 / median_time(fetch, REPEATS),
        "array_cpu": processor_time(client, lambda: (send(), fetch())) * 1e3,
    }


def main() -> None:
    """Measure and print."""
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else ROUNDS
    figures: dict[str, list[dict[str, float]]] = {way: [] for way in WAYS}
    ways = list(WAYS)
    for turn in range(rounds):
        for way in ways[turn % 3 :] + ways[: turn % 3]:
            with cluster(WAYS[way]) as client:
                figures[way].append(measure(client))
            print(f"round {turn + 1}: {way}", file=sys.stderr, flush=True)
    print("| over tcp | " + " | ".join(ways) + " |\n|---|" + "---:|" * len(ways))
    for name, (title, more_is_better) in TITLES.items():
        medians = {way: statistics.median(each[name] for each in figures[way]) for way in ways}
        plain = medians["nothing"]
        shares = {way: value / plain if more_is_better else plain / value for way, value in medians.items()}
        print(f"| {title} | " + " | ".join(f"{medians[way]:,.4g} ({shares[way]:.2f}×)" for way in ways) + " |")


if __name__ == "__main__":
    main()
