"""The main job of the README, on few files: it agrees with itself, and says so."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

SCRIPT = Path(__file__).parents[2] / "examples" / "source_census.py"


def test_the_census_runs_on_two_engines_and_agrees():
    done = subprocess.run(
        [sys.executable, str(SCRIPT), "--engines", "2", "--limit", "40"],
        capture_output=True,
        text=True,
        check=False,
        timeout=50,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "40 files; 2 engines" in done.stdout
    assert "Both runs agree on every file." in done.stdout
