"""The short form of the chaos run: a minute of kills, stops and cuts, after which nothing is lost and nothing doubled."""

from __future__ import annotations

import faulthandler
import json
import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = Path(__file__).parents[2] / "bench" / "chaos.py"
SECONDS = 60
TASKS = 600


@pytest.mark.minute
@pytest.mark.slow
@pytest.mark.timeout(5 * SECONDS)
def test_a_minute_of_mishaps_loses_nothing_and_doubles_nothing(tmp_path):
    faulthandler.cancel_dump_traceback_later()  # this one takes longer than the others may
    command = [sys.executable, str(PROGRAM), f"--seconds={SECONDS}", f"--tasks={TASKS}", "--engines=2"]
    run = subprocess.run(
        [*command, f"--folder={tmp_path / 'bed'}"], check=False, capture_output=True, text=True, timeout=4 * SECONDS
    )
    seed, _, told = run.stdout.partition("\n")
    assert told, run.stderr
    report = json.loads(told)
    assert report["wrong"] == [], f"{seed}\n{told}"
    assert run.returncode == 0
    assert report["tasks"] == report["accepted"] == TASKS
    assert report["unresolved"] == report["lost"] == report["doubled replies"] == 0
    assert sum(report["mishaps"].values()) >= SECONDS // 8
