"""What it costs that nothing is lost: no-op tasks a second, and how soon the controller is back with many tasks queued.

The controller saves what it accepts (``durable=True``) and keeps records in SQLite (``--sqlitedb``).
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from typing import Any

import psutil

from harness import Figures, perform, rate
from payload import nothing
from systems import system

SQLITE = ["--sqlitedb"]
#: Tasks of which the controller's processor time is measured.
COUNT = 50_000


def durable(name: str, seconds: float, queued: int) -> Figures:
    """Measure the rate with two engines, for about ``seconds``; then kill the controller with ``queued`` tasks in it."""
    under_test = system(name)
    figures: Figures = {}

    def run(count: int) -> None:
        under_test.finish([under_test.submit(nothing) for _ in range(count)])

    with under_test.running(2, durable=True):
        figures["rate_memory"] = rate(run, seconds)
        figures["cost_memory"] = cost(under_test, run)
    with under_test.running(2, durable=True, controller_args=SQLITE):
        figures["rate"] = rate(run, seconds)
        figures["cost"] = cost(under_test, run)
    with under_test.module.Cluster(n=0, durable=True, controller_args=SQLITE) as client:
        view = client.load_balanced_view()
        tasks = [view.apply_async(nothing) for _ in range(queued)]
        assert tasks[-1].wait_for_acceptance(60)
        until_written(client)
        began = time.perf_counter()
        os.kill(client.cluster.controller.pid, signal.SIGKILL)
        unfinished = statistics(client)["unfinished"]
        figures["back"] = time.perf_counter() - began
        assert unfinished == queued, "nothing is lost"
        client.cluster.start_engines_sync(2)
        assert under_test.finish(tasks) == [None] * queued
        figures["drained"] = time.perf_counter() - began
    return figures


def cost(under_test: Any, run: Callable[[int], None]) -> float:
    """How many microseconds of processor time a task takes the controller, until its record is written."""
    client = under_test.client
    controller = psutil.Process(client.cluster.controller.pid)
    until_written(client)
    before = controller.cpu_times()
    run(COUNT)
    until_written(client)
    after = controller.cpu_times()
    return (after.user + after.system - before.user - before.system) / COUNT * 1e6


def until_written(client: object) -> None:
    """Wait until no record waits to be written."""
    while statistics(client).get("records_waiting"):
        time.sleep(0.01)


def statistics(client: object) -> dict[str, int]:
    """What the controller says of itself; the next one, if this one is killed meanwhile."""
    return client.link.ask("statistics")


if __name__ == "__main__":
    perform(durable)
