"""``python -m enginery.controller``: the command ipcontroller."""

from __future__ import annotations

from enginery.cli.ipcontroller import main

if __name__ == "__main__":
    main()
