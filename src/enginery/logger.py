"""``python -m enginery.logger``: the command iplogger."""

from __future__ import annotations

from enginery.cli.iplogger import main

if __name__ == "__main__":
    main()
