"""``python -m enginery.cluster``: the command ipcluster."""

from __future__ import annotations

from enginery.cli.ipcluster import main

if __name__ == "__main__":
    main()
