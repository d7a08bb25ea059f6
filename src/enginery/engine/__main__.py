"""``python -m enginery.engine``: the command ipengine."""

from __future__ import annotations

from enginery.cli.ipengine import main

if __name__ == "__main__":
    main()
