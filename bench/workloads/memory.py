"""Memory of the controller and of each further engine, as proportional set size."""

from __future__ import annotations

import psutil

from harness import Figures, perform, processes_of_run, pss
from payload import nothing
from systems import Ipp, system


def memory(name: str, few: int, many: int) -> Figures:
    """Measure with ``few`` and with ``many`` engines that have all run something; in MB."""
    under_test = system(name)
    figures: Figures = {}
    totals = []
    for n in (few, many):
        with under_test.running(n):
            if isinstance(under_test, Ipp):
                under_test.call("all", nothing)
            else:
                under_test.map(nothing_with, range(20 * n))
            processes = processes_of_run()
            totals.append(sum(pss(process.pid) for process in processes))
            controller = [process for process in processes if is_controller(process)]
            if controller and n == few:
                figures["controller"] = sum(pss(process.pid) for process in controller)
    figures["engine"] = (totals[1] - totals[0]) / (many - few)
    figures[f"all_{few}"] = totals[0]
    return figures


def nothing_with(_item: int) -> None:
    """Do nothing."""


def is_controller(process: psutil.Process) -> bool:
    """Whether this is a controller, or one of its helpers."""
    lines = [" ".join(each.cmdline()) for each in (process, *process.parents())]
    return any(f"{name}.controller" in line for name in ("enginery", "ipyparallel") for line in lines)


if __name__ == "__main__":
    perform(memory)
