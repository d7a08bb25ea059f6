"""The benchmark table: medians, ratios in the right direction, nothing invented where nothing was measured."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

PATH = Path(__file__).parents[2] / "bench" / "report.py"


@pytest.fixture(scope="module")
def report():
    spec = importlib.util.spec_from_file_location("bench_report", PATH)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_medians_and_ratios(report):
    figures = {
        "tasks": {"ours": {"apply": [90.0, 100.0, 500.0]}, "theirs": {"apply": [10.0]}},
        "killed": {"ours": {"noticed": [0.5]}, "theirs": {"noticed": [0.25]}},
    }
    lines = report.table(figures, ["ours", "theirs"], {"ours": "Ours 1", "theirs": "Theirs 2"}).splitlines()
    assert lines[0] == "| | Ours 1 | Theirs 2 |"
    assert lines[2] == "| no-op tasks, one `apply_async` each | 100/s | 10/s (10×) |"
    assert lines[3] == "| killed engine: its task's error after | 0.5 s | 0.25 s (0.5×) |"
    assert len(lines) == 4


def test_a_system_without_a_figure_has_an_empty_cell(report):
    figures = {"tasks": {"ours": {"apply": [1.0]}, "theirs": {"map": [2000.0]}}}
    lines = report.table(figures, ["ours", "theirs"], {"ours": "o", "theirs": "t"}).splitlines()
    assert lines[2] == "| no-op tasks, one `apply_async` each | 1/s |  |"
    assert lines[3] == "| `map`, one item per task |  | 2,000/s |"
