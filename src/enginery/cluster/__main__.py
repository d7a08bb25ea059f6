"""``python -m enginery.cluster``: the command ipcluster."""

from __future__ import annotations

from enginery.cli.process import run_program

if __name__ == "__main__":
    run_program("enginery.cli.ipcluster")
