"""Commands as users run them: real processes in a private IPython folder, read line by line, and gone at the end."""

from __future__ import annotations

import os
import queue
import signal
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import pytest

from waiting import PATIENCE
from warm import Warm

ROOT = Path(__file__).parents[1]


class Commands:
    """Runs the commands of one IPython folder. ``program`` is ``cluster``, ``controller``, ``engine``, ``logger``.

    Those of enginery are forked from ``warm``, if it is given, instead of started from nothing.
    """

    def __init__(self, home, warm=None, **variables):
        self.home = Path(home)
        self.warm = warm
        plain = {name: value for name, value in os.environ.items() if not name.startswith("IPP_")}
        # Engines import the modules of tests, for functions that come from there.
        paths = [*filter(None, [variables.pop("PYTHONPATH", ""), plain.get("PYTHONPATH", "")]), str(ROOT / "tests")]
        self.environment = {
            **plain,
            "IPYTHONDIR": str(home),
            "PYTHONUNBUFFERED": "1",
            "PYTHONPATH": os.pathsep.join(paths),
            **variables,
        }
        self.started = []

    def run(self, program, *argv, **variables):
        """Run a command to its end."""
        with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as err:
            process = self._begin(program, argv, variables, out, err)
            try:
                process.wait(PATIENCE)
            except subprocess.TimeoutExpired:
                process.send_signal(signal.SIGKILL)
                process.wait()
                raise
            for file in (out, err):
                file.seek(0)
            return subprocess.CompletedProcess(argv, process.returncode, out.read(), err.read())

    def _begin(self, program, argv, variables, out, err):
        environment = {**self.environment, **variables}
        return begin(self.warm, module(program), list(map(str, argv)), environment, out=out.fileno(), err=err.fileno())

    def run_code(self, code, given=""):
        """Run a Python program to its end; it may read what it is ``given``."""
        return subprocess.run(
            [sys.executable, "-c", code],
            env=self.environment,
            input=given,
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            check=False,
        )

    def start(self, program, *argv, until="", **variables):
        """Start a command, and return once it has said ``until``."""
        said, says = os.pipe()
        with open(says, "w") as pipe:
            process = self._begin(program, argv, variables, pipe, pipe)
        running = Running(process, open(said))  # noqa: SIM115 - closed at its end
        self.started.append(running)
        running.said = running.read_until(until) if until else ""
        return running

    def controller(self, *argv, **variables):
        """Start a controller, and return once its connection files are there."""
        return self.start("controller", *argv, until="Scheduler started", **variables)

    def profile(self, name="default"):
        """The folder of a profile."""
        return self.home / f"profile_{name}"

    def configure(self, command, text, profile="default"):
        """Write a configuration file of a profile."""
        folder = self.profile(profile)
        folder.mkdir(exist_ok=True)
        (folder / f"{command}_config.py").write_text(f"c = get_config()\n{text}\n")

    def files(self):
        """Every file there is."""
        return sorted(str(path.relative_to(self.home)) for path in self.home.rglob("*") if not path.is_dir())

    def end(self):
        """Make everything that was started leave, the last one first."""
        for running in reversed(self.started):
            running.end()


class Running:
    """A command that runs. What it says, on either stream, is read by a thread."""

    def __init__(self, process, said):
        self.process = process
        self.pid = process.pid
        self._said = said
        self._lines = queue.SimpleQueue()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self):
        for line in self._said:
            self._lines.put(line)
        self._lines.put("")

    def read_until(self, *wanted):
        """What it says, up to the line that completes all that is ``wanted``."""
        seen, left, deadline = [], set(wanted), time.monotonic() + PATIENCE
        while left:
            try:
                line = self._lines.get(timeout=max(0.0, deadline - time.monotonic()))
            except queue.Empty:
                raise AssertionError(f"{left} not said within {PATIENCE} s: {''.join(seen)}") from None
            assert line, f"it ended with {self.process.wait(PATIENCE)}, {left} not said: {''.join(seen)}"
            seen.append(line)
            left -= {word for word in left if word in line}
        return "".join(seen)

    def signal(self, number):
        self.process.send_signal(number)

    def wait(self):
        """Its exit code, once it has ended."""
        return self.process.wait(PATIENCE)

    def rest(self):
        """What else it says until it ends."""
        self._reader.join(PATIENCE)
        lines = []
        while line := self._lines.get(timeout=PATIENCE):
            lines.append(line)
        self._lines.put("")
        return "".join(lines)

    def end(self):
        if self.process.poll() is None:
            self.signal(signal.SIGTERM)
        self.wait()
        self._reader.join(PATIENCE)
        self._said.close()


def module(program):
    """What follows ``-m``: of enginery, unless it is a whole name."""
    return program if "." in program or program == "IPython" else f"enginery.{program}"


def begin(warm, name, argv, environment, *, out, err):
    """Begin ``python -m name``, whose output goes to descriptors: a process, of which ``Child`` says what it can."""
    if warm is not None and name.startswith("enginery."):  # and not a name of former times
        with open(os.devnull) as null:
            return warm.start(name, argv, environment, {0: null.fileno(), 1: out, 2: err})
    command = [sys.executable, "-m", name, *argv]
    return subprocess.Popen(command, env=environment, stdin=subprocess.DEVNULL, stdout=out, stderr=err)


@pytest.fixture(scope="session")
def warm():
    """The process that has imported all commands; None where processes cannot be adopted."""
    if sys.platform != "linux":
        yield None
        return
    started = Warm()
    yield started
    started.stop()
