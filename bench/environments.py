"""An environment of its own for each system under test, made when first needed."""

from __future__ import annotations

import subprocess
import sys
import venv
from pathlib import Path

HERE = Path(__file__).resolve().parent
ENVIRONMENTS = HERE / ".envs"

#: What each system needs. All get numpy and psutil: workloads use them.
REQUIREMENTS = {
    "enginery": [f"--editable={HERE.parent}"],
    "ipyparallel": ["ipyparallel>=9,<10"],
    "executor": [],
    "dask": ["distributed"],
    "ray": ["ray"],
    "mpi4py": ["mpi4py"],
    "zmq": ["pyzmq"],
}
COMMON = ["numpy", "psutil"]

#: The distribution whose version the report names.
DISTRIBUTIONS = {
    "enginery": "enginery",
    "ipyparallel": "ipyparallel",
    "dask": "distributed",
    "ray": "ray",
    "mpi4py": "mpi4py",
    "zmq": "pyzmq",
}


def interpreter(system: str) -> Path:
    """Return the interpreter of a system's environment; make the environment unless it is there already."""
    folder = ENVIRONMENTS / system
    python = folder / "bin" / "python"
    wanted = [*COMMON, *REQUIREMENTS[system]]
    stamp = folder / "requirements"
    if stamp.exists() and stamp.read_text() == "\n".join(wanted):
        return python
    print(f"installing {system} into {folder} …", file=sys.stderr, flush=True)
    venv.create(folder, with_pip=True, clear=True)
    command = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *wanted]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"could not install {system}:\n{' '.join(command)}\n{done.stdout}{done.stderr}")
    stamp.write_text("\n".join(wanted))
    return python


def version(system: str) -> str:
    """Return the version of a system as installed: of the interpreter, where the system is part of it."""
    if system not in DISTRIBUTIONS:
        return sys.version.split()[0]
    script = f"import importlib.metadata as m; print(m.version({DISTRIBUTIONS[system]!r}))"
    return subprocess.run(
        [str(interpreter(system)), "-c", script], check=True, capture_output=True, text=True
    ).stdout.strip()
