"""Fuzz by coverage: ``python tests/fuzz/run.py TARGET [RUNS [OPTIONS OF LIBFUZZER]]``. Needs atheris (in the extra ``fuzz``).

Inputs that reach something new are added to a folder below build/fuzz; what fails is written beside it, and belongs into
tests/fuzz/corpus once it is mended.
"""

from __future__ import annotations

import logging
import sys
from pathlib import Path

import atheris

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))
with atheris.instrument_imports(include=["enginery", "fuzz"]):
    from fuzz import targets

RUNS = 100_000
SECONDS = 25  #: longest time for one input


def main() -> None:
    name, *rest = sys.argv[1:] or [""]
    if name not in targets.TARGETS:
        sys.exit(f"usage: run.py {'|'.join(targets.TARGETS)} [runs]")
    found = HERE.parents[1] / "build" / "fuzz" / name
    found.mkdir(parents=True, exist_ok=True)
    logging.disable()  # a line for each refusal would be all that is seen
    arguments = [
        f"-atheris_runs={int(rest[0]) if rest else RUNS}",
        f"-max_len={targets.LONGEST.get(name, 600)}",
        f"-timeout={SECONDS}",
        "-rss_limit_mb=1024",
        "-print_final_stats=1",
        *rest[1:],
        f"-artifact_prefix={found}-failed-",
        str(found),
        str(HERE / "corpus" / name),
    ]
    atheris.Setup([sys.argv[0], *arguments], targets.TARGETS[name])
    atheris.Fuzz()


if __name__ == "__main__":
    main()
