"""How long the import takes in a new interpreter: of the package alone, and of the classes a session begins with."""

from __future__ import annotations

import importlib
import sys
import time

NAMES = {
    "enginery": ("enginery", ["Client", "Cluster"]),
    "ipyparallel": ("ipyparallel", ["Client", "Cluster"]),
    "dask": ("distributed", ["Client", "LocalCluster"]),
    "executor": ("concurrent.futures", ["ProcessPoolExecutor"]),
}


def main() -> None:
    """Measure before anything else is imported, then report, in seconds."""
    module, names = NAMES[sys.argv[1]]
    began = time.perf_counter()
    package = importlib.import_module(module)
    alone = time.perf_counter() - began
    for name in names:
        getattr(package, name)
    ready = time.perf_counter() - began
    # Only now: the harness imports much itself.
    from harness import perform

    perform(lambda _name: {"import": alone, "import_used": ready})


if __name__ == "__main__":
    main()
