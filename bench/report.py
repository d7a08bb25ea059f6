"""Figures to medians, medians to ratios, ratios to a Markdown table. No I/O."""

from __future__ import annotations

import statistics
from typing import NamedTuple

#: workload -> system -> measurement -> one figure for each round
Figures = dict[str, dict[str, dict[str, list[float]]]]


class Row(NamedTuple):
    """A line of the table: where its figures come from and how they are read."""

    title: str
    workload: str
    measurement: str
    unit: str
    more_is_better: bool = False


ROWS = (
    Row("no-op tasks, one `apply_async` each", "tasks", "apply", "/s", True),
    Row("`map`, one item per task", "tasks", "map", "/s", True),
    Row("idle round trip, any engine: median", "round_trip", "balanced", "ms"),
    Row("… 99th percentile", "round_trip", "balanced_p99", "ms"),
    Row("idle round trip, a certain engine: median", "round_trip", "one", "ms"),
    Row("… 99th percentile", "round_trip", "one_p99", "ms"),
    Row("idle round trip, both engines: median", "round_trip", "all", "ms"),
    Row("… 99th percentile", "round_trip", "all_p99", "ms"),
    Row("cluster to first result, 2 engines", "start_2", "start_2", "s"),
    Row("cluster to first result, 4 engines", "start_4", "start_4", "s"),
    Row("cluster to first result, 32 engines", "start_32", "start_32", "s"),
    Row("stop until all processes are gone, 2 engines", "start_2", "stop_2", "s"),
    Row("stop until all processes are gone, 4 engines", "start_4", "stop_4", "s"),
    Row("stop until all processes are gone, 32 engines", "start_32", "stop_32", "s"),
    Row("import", "import_time", "import", "s"),
    Row("import with the classes first used", "import_time", "import_used", "s"),
    Row("100 MB array to an engine", "arrays", "100MB_to", "MB/s", True),
    Row("… and back", "arrays", "100MB_back", "MB/s", True),
    Row("1 MB arrays × 100 to an engine", "arrays", "1MBx100_to", "MB/s", True),
    Row("… and back", "arrays", "1MBx100_back", "MB/s", True),
    Row("50 MB to two engines", "spread", "broadcast", "s"),
    Row("100 MB scattered over two engines", "spread", "scatter", "s"),
    Row("… and gathered", "spread", "gather", "s"),
    Row("50 MB to four engines", "spread_4", "broadcast", "s"),
    Row("1 GB to four engines: copies of it that the machine makes", "copies", "copies", ""),
    Row("400 heavy-tailed sleeps on four engines: makespan ÷ ideal", "sleeps", "makespan", ""),
    Row("… ÷ an ideal queue", "sleeps", "greedy", ""),
    Row("graph of 2,000 tasks with two dependencies each", "dag", "graph", "/s", True),
    Row("chain of dependent tasks, per hop", "dag", "chain", "ms"),
    Row("no-op tasks beside 50,000 that wait: slower by", "waiting", "slowdown", ""),
    Row("one task of a client while another has a million queued: median", "fairness", "median", "ms"),
    Row("… 99th percentile", "fairness", "p99", "ms"),
    Row("killed engine: its task runs elsewhere after", "retried", "resumed", "s"),
    Row("killed engine: its task's error after", "killed", "noticed", "s"),
    Row("memory of the controller (PSS)", "memory", "controller", "MB"),
    Row("memory of each further engine (PSS)", "memory", "engine", "MB"),
    Row("durable: no-op tasks, one `apply_async` each", "durable", "rate_memory", "/s", True),
    Row("… processor time of the controller for each", "durable", "cost_memory", "µs"),
    Row("… with records in SQLite", "durable", "rate", "/s", True),
    Row("… processor time of the controller for each", "durable", "cost", "µs"),
    Row("… controller killed with 100,000 queued: back after", "durable", "back", "s"),
    Row("a million tasks, controller limited to 512 MB: most resident", "capped", "resident", "MB"),
    Row("… most mapped", "capped", "mapped", "MB"),
    Row("growth of the controller, 100,000 to 1,000,000 tasks", "million", "controller_growth", "MB"),
    Row("growth of the client", "million", "client_growth", "MB"),
    Row("growth of both engines", "million", "engines_growth", "MB"),
)


def advantage(ours: float, theirs: float, *, more_is_better: bool) -> float:
    """How many times better ``ours`` is than ``theirs``; below 1, it is worse."""
    better, worse = (ours, theirs) if more_is_better else (theirs, ours)
    return better / worse if worse else float("inf")


def number(value: float) -> str:
    """Three digits that matter, thousands apart."""
    if value >= 100:
        return f"{value:,.0f}"
    return f"{value:.3g}" if abs(value) >= 0.01 else f"{value:.1g}"


def cell(row: Row, system: str, figures: Figures, first: str) -> str:
    """The median of one measurement for one system, and how many times better the first system's is."""
    measured = figures.get(row.workload, {})
    values = measured.get(system, {}).get(row.measurement, [])
    if not values:
        return ""
    text = f"{number(statistics.median(values))} {row.unit}".replace(" /s", "/s").rstrip()
    ours = measured.get(first, {}).get(row.measurement, [])
    if system == first or not ours:
        return text
    ratio = advantage(statistics.median(ours), statistics.median(values), more_is_better=row.more_is_better)
    return f"{text} ({number(ratio)}×)"


def table(figures: Figures, systems: list[str], titles: dict[str, str]) -> str:
    """Return the Markdown table: a row per measurement, a column per system, the first of which is compared."""
    lines = [
        "| | " + " | ".join(titles[system] for system in systems) + " |",
        "|---|" + "---:|" * len(systems),
    ]
    for row in ROWS:
        cells = [cell(row, system, figures, systems[0]) for system in systems]
        if any(cells):
            lines.append(f"| {row.title} | " + " | ".join(cells) + " |")
    return "\n".join(lines)
