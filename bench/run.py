"""Measure enginery beside other systems: interleaved rounds, medians and ratios as a Markdown table, one JSON file.

    python bench/run.py                        a short form, two minutes or so
    python bench/run.py --full                 everything, several rounds
    python bench/run.py --systems enginery,executor --workloads tasks

Each figure comes from a fresh process of the system's own environment. Within a round, all systems do one workload
before the next workload begins, so that a busy minute of the machine hits them alike.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

import psutil

from environments import HERE, interpreter, version
from report import Figures, table

#: Columns of the table, from left to right. zmq is what the machine allows, not a rival.
SYSTEMS = {
    "enginery": "enginery",
    "ipyparallel": "ipyparallel",
    "executor": "ProcessPoolExecutor",
    "dask": "dask.distributed",
    "ray": "Ray",
    "mpi4py": "mpi4py.futures",
    "zmq": "bare zmq broker",
}
#: These take seconds to start a cluster: the short form measures them in its first round only.
SLOW = {"ipyparallel", "dask", "ray", "mpi4py"}
RIVALS = ("enginery", "ipyparallel", "executor", "dask")
#: Those who are good at moving data, and of them those that are installed when asked for by ``--full`` or by name only.
LARGE = {"ray", "mpi4py"}
CARRIERS = (*RIVALS, "ray", "mpi4py")
SHARERS = ("enginery", "ipyparallel", "dask", "ray")
#: Where a system needs another file than the workload's.
FILES = {("round_trip", "zmq"): "broker.py"}
#: What Open MPI wants before it starts workers for root, and more of them than there are cores; without, it waits in silence.
VARIABLES = {
    "mpi4py": dict.fromkeys(
        ("OMPI_ALLOW_RUN_AS_ROOT", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM", "OMPI_MCA_rmaps_base_oversubscribe"), "1"
    )
}
RUN_MARK = "ENGINERY_BENCH_RUN"
MARK = "FIGURES "
TIME_LIMIT = 180.0


class Workload(NamedTuple):
    """A file of workloads/, its options in both forms (None: not in the short form), and who takes part."""

    file: str
    full: dict[str, float]
    short: dict[str, float] | None
    systems: tuple[str, ...] = RIVALS


WORKLOADS = {
    "tasks": Workload("tasks.py", {"seconds": 2.0}, {"seconds": 0.7}),
    "round_trip": Workload("round_trip.py", {"seconds": 3.0}, {"seconds": 0.7}, (*RIVALS, "zmq")),
    "start_2": Workload("start.py", {"n": 2}, None),
    "start_4": Workload("start.py", {"n": 4}, {"n": 4}),
    "start_32": Workload("start.py", {"n": 32}, None),
    "import_time": Workload("import_time.py", {}, {}),
    "arrays": Workload("arrays.py", {"repeats": 5}, {"repeats": 2}, CARRIERS),
    "killed": Workload("killed.py", {}, {}),
    "spread": Workload("spread.py", {"repeats": 5, "n": 2}, None, SHARERS),
    "spread_4": Workload("spread.py", {"repeats": 5, "n": 4}, None, SHARERS),
    "copies": Workload("copies.py", {"n": 4, "megabytes": 1000}, None, ("enginery", "ipyparallel", "ray")),
    "sleeps": Workload("sleeps.py", {"seed": 7}, None),
    "dag": Workload("dag.py", {"tasks": 2000, "hops": 1000, "seed": 7}, None, ("enginery", "ipyparallel")),
    "waiting": Workload("waiting.py", {"tasks": 50_000, "seconds": 2.0}, None, ("enginery",)),
    "fairness": Workload("fairness.py", {"seconds": 4.0}, None, ("enginery",)),
    "retried": Workload("retried.py", {}, None, ("enginery", "ipyparallel")),
    "million": Workload("million.py", {"warm": 100_000, "tasks": 1_000_000}, None, ("enginery",)),
    "capped": Workload("capped.py", {"tasks": 1_000_000, "megabytes": 512}, None, ("enginery",)),
    "durable": Workload("durable.py", {"seconds": 4.0, "queued": 100_000}, None, ("enginery",)),
    "memory": Workload("memory.py", {"few": 2, "many": 6}, None),
}


def main() -> int:
    """Measure what the command line asks for; return 1 if something could not be measured."""
    options = parse_arguments()
    plan = {name: WORKLOADS[name] for name in options.workloads}
    needed = [name for name in SYSTEMS if name in options.systems and any(name in w.systems for w in plan.values())]
    for system in needed:
        interpreter(system)
    figures: Figures = {}
    faults: list[str] = []
    for turn in range(options.rounds):
        for name, workload in plan.items():
            systems = [system for system in needed if system in workload.systems]
            if turn and not options.full:
                systems = [system for system in systems if system not in SLOW]
            # Another one begins each round, so that nobody always comes after the same neighbour.
            for system in systems[turn % len(systems) :] + systems[: turn % len(systems)]:
                settings = workload.full if options.full or workload.short is None else workload.short
                began = time.perf_counter()
                try:
                    measured = measure(system, FILES.get((name, system), workload.file), settings)
                except MeasurementError as error:
                    faults.append(f"{name} of {system}, round {turn + 1}: {error}")
                    progress(turn, name, system, "FAILED")
                    continue
                progress(turn, name, system, f"{time.perf_counter() - began:.1f} s")
                for measurement, value in measured.items():
                    of_system = figures.setdefault(name, {}).setdefault(system, {})
                    of_system.setdefault(measurement, []).append(value)
    titles = {system: f"{SYSTEMS[system]} {version(system)}" for system in needed}
    save(options, figures, faults, titles)
    print(headline(options))
    print(table(figures, needed, titles))
    print(f"\nMedians; in brackets, how many times better {SYSTEMS[needed[0]]} is. All figures: {options.json}")
    for fault in faults:
        print(f"\nNOT MEASURED: {fault}", file=sys.stderr)
    return 1 if faults else 0


def parse_arguments() -> argparse.Namespace:
    """Return the options of this run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--full", action="store_true", help="everything, several rounds")
    parser.add_argument("--rounds", type=int, help="default: 3, with --full 5")
    parser.add_argument("--systems", type=names_of(SYSTEMS), help=", ".join(SYSTEMS))
    parser.add_argument("--workloads", type=names_of(WORKLOADS), help=", ".join(WORKLOADS))
    parser.add_argument("--json", type=Path, default=HERE / "results.json", help="where the figures go")
    options = parser.parse_args()
    options.rounds = options.rounds or (5 if options.full else 3)
    if options.systems is None:
        options.systems = [name for name in SYSTEMS if options.full or name not in LARGE]
    if options.workloads is None:
        options.workloads = [name for name, each in WORKLOADS.items() if options.full or each.short is not None]
    return options


def names_of(known: dict[str, object]) -> object:
    """Return a parser of comma-separated names that are all in ``known``."""

    def parse(text: str) -> list[str]:
        names = text.split(",")
        if unknown := [name for name in names if name not in known]:
            message = f"unknown: {', '.join(unknown)}; known are {', '.join(known)}"
            raise argparse.ArgumentTypeError(message)
        return names

    return parse


class MeasurementError(Exception):
    """A workload that gave no figures, and what it said instead."""


def measure(system: str, file: str, settings: dict[str, float]) -> dict[str, float]:
    """Run one workload in the system's own interpreter; return its figures."""
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        environment = os.environ | VARIABLES.get(system, {})
        environment |= {
            "IPYTHONDIR": folder,
            "PYTHONPATH": str(HERE / "workloads"),
            "OMP_NUM_THREADS": "1",
            RUN_MARK: folder,
        }
        command = [str(interpreter(system)), str(HERE / "workloads" / file), system, json.dumps(settings)]
        try:
            done = subprocess.run(
                command, check=False, env=environment, cwd=folder, capture_output=True, text=True, timeout=TIME_LIMIT
            )
        except subprocess.TimeoutExpired:
            message = f"still running after {TIME_LIMIT:.0f} s"
            raise MeasurementError(message) from None
        finally:
            kill_strays(folder)
    for line in done.stdout.splitlines():
        if line.startswith(MARK):
            return json.loads(line.removeprefix(MARK))
    message = f"exit code {done.returncode}\n{done.stdout[-1500:]}{done.stderr[-3000:]}"
    raise MeasurementError(message)


def kill_strays(mark: str) -> None:
    """Kill what a workload left running: it must not burden the next one."""
    for process in psutil.process_iter(["environ"]):
        if (process.info["environ"] or {}).get(RUN_MARK) == mark:
            try:
                process.kill()
            except psutil.NoSuchProcess:
                continue


def progress(turn: int, workload: str, system: str, outcome: str) -> None:
    """Tell who waits how far it is."""
    print(f"round {turn + 1}: {workload:<12} {system:<12} {outcome}", file=sys.stderr, flush=True)


def headline(options: argparse.Namespace) -> str:
    """Say where and how this was measured."""
    rounds = f"{options.rounds} rounds" + ("" if options.full else f" ({', '.join(sorted(SLOW))}: one)")
    return f"{rounds}; Python {platform.python_version()}, {os.cpu_count()} cores, {platform.system()}; two engines\n"


def save(options: argparse.Namespace, figures: Figures, faults: list[str], titles: dict[str, str]) -> None:
    """Write everything that was measured to one file."""
    content = {
        "when": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        "full": options.full,
        "rounds": options.rounds,
        "python": sys.version,
        "platform": platform.platform(),
        "cores": os.cpu_count(),
        "load": os.getloadavg(),
        "systems": titles,
        "figures": figures,
        "faults": faults,
    }
    options.json.write_text(json.dumps(content, indent=1) + "\n")


if __name__ == "__main__":
    sys.exit(main())
