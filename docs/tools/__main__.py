"""Makes the reference pages and the site: ``python docs/tools`` writes both, ``--check`` only says what is wrong.

With ``--check`` nothing is written; the exit code is 1 if a reference page is stale or a link leads nowhere.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import api
import commands
import protocol
import scopes
import website

ROOT = Path(__file__).resolve().parents[2]
GENERATED = {"api": api.render, "commands": commands.render, "protocol": protocol.render, "scopes": scopes.render}


def main() -> int:
    """Run the command line."""
    parser = argparse.ArgumentParser(description="Make the documentation.")
    parser.add_argument("--check", action="store_true", help="write nothing; fail if something is stale or broken")
    parser.add_argument("--output", type=Path, default=ROOT / "build" / "docs", help="folder of the site")
    arguments = parser.parse_args()
    faults = [fault for name in GENERATED for fault in _reference(name, check=arguments.check)]
    site = website.Website(ROOT)
    faults += site.faults()
    for fault in faults:
        print(fault, file=sys.stderr)
    if not (faults or arguments.check):
        site.write(arguments.output)
        print(f"{arguments.output / 'index.html'}")
    return 1 if faults else 0


def _reference(name: str, *, check: bool) -> list[str]:
    """Write one reference page, or say whether it is stale."""
    path = ROOT / "docs" / "reference" / f"{name}.md"
    text = GENERATED[name]()
    if not check:
        path.write_text(text, encoding="utf-8")
    elif not path.exists() or path.read_text(encoding="utf-8") != text:
        return [f"{path.relative_to(ROOT)} is stale: what it is made from has changed. Run `make docs`."]
    return []


if __name__ == "__main__":
    sys.exit(main())
