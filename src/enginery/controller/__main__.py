"""``python -m enginery.controller``: the command ipcontroller."""

from __future__ import annotations

from enginery.cli.process import run_program

if __name__ == "__main__":
    run_program("enginery.cli.ipcontroller")
