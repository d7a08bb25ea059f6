"""What every test gets: its own profile folder, reported seeds, and a watch on processes left behind."""

from __future__ import annotations

import gc
import os
import random
import secrets
import shutil
import tempfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import hypothesis
import psutil
import pytest

from clusters import quick_starts
from commands import warm
from seeds.rows import summary

__all__ = ["quick_starts", "warm"]

#: In the environment of every process a test starts, so that an orphan can be told from a stranger.
RUN_MARK = "ENGINERY_TEST_RUN"
#: How long a process may take to end after the test that started it, in seconds.
GRACE = 5.0

hypothesis.settings.register_profile("enginery", deadline=None, print_blob=True)
hypothesis.settings.load_profile("enginery")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--seed", type=int, default=None, help="seed of the random generators (default: a new one)")


def pytest_configure(config: pytest.Config) -> None:
    """Point everything that knows of the user's home at a private, short-named folder of this run."""
    if config.getoption("seed") is None:
        config.option.seed = int(os.environ.get("ENGINERY_SEED") or secrets.randbelow(2**32))
    # Not below pytest's own temporary folder: paths of ipc sockets may have about 100 bytes.
    home = Path(tempfile.mkdtemp(prefix="eng-"))
    config.add_cleanup(lambda: shutil.rmtree(home, ignore_errors=True))
    for name in ("ipython", "run"):
        (home / name).mkdir(mode=0o700)
    os.environ["IPYTHONDIR"] = str(home / "ipython")
    os.environ["XDG_RUNTIME_DIR"] = str(home / "run")
    os.environ[RUN_MARK] = home.name
    # Hundreds of processes are started: without this, each of them would compile all that it imports.
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)


def pytest_report_header(config: pytest.Config) -> str:
    return f"random seed: {config.getoption('seed')} (repeat with --seed or ENGINERY_SEED)"


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Leave tests against real services to `make services`, which installs these first and names the folder."""
    is_services = collection_path == Path(__file__).parent / "services"
    return True if is_services and not any("services" in argument for argument in config.args) else None


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with what mostly waits for a minute, lest everybody waits for it in the end; then the files with most slow tests.

    What is left for the end is short, so that all processes come to it at the same time.
    """
    sizes = Counter(item.path for item in items if item.get_closest_marker("slow"))
    items.sort(key=lambda item: (item.get_closest_marker("minute") is None, -sizes[item.path], item.path))


class Rotated(pytest.Dir):
    """A folder that each process begins to collect at another place."""

    def collect(self) -> Iterator[pytest.Item | pytest.Collector]:
        found = list(super().collect())
        number, count = int(os.environ["PYTEST_XDIST_WORKER"][2:]), int(os.environ["PYTEST_XDIST_WORKER_COUNT"])
        first = len(found) * number // count
        return iter(found[first:] + found[:first])


def pytest_collect_directory(path: Path, parent: pytest.Collector) -> pytest.Collector | None:
    """Where several processes collect the same files, have each compile another part, and find what others have compiled."""
    return Rotated.from_parent(parent, path=path) if "PYTEST_XDIST_WORKER" in os.environ else None


def pytest_collection_finish(session: pytest.Session) -> None:
    """What was collected stays until the end: leave it out of garbage collections, some of which tests ask for."""
    gc.collect()
    gc.freeze()


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say how much of the interface's list is covered."""
    terminalreporter.write_line(summary())


@pytest.fixture
def seed(request: pytest.FixtureRequest) -> int:
    """The seed of this run; the header of the run names it."""
    return request.config.getoption("seed")


@pytest.fixture(autouse=True)
def seeded_random(request: pytest.FixtureRequest) -> None:
    random.seed(request.config.getoption("seed"))


@pytest.fixture(autouse=True)
def no_process_left_behind() -> Iterator[None]:
    """Fail the test that started a process and did not end it.

    Processes of fixtures of a wider scope are there before the test begins and are not counted.
    """
    before = _children()
    yield
    left = [process for pid in _children() - before if (process := _process(pid))]
    _end(left, "left behind by this test")


@pytest.fixture(autouse=True, scope="module")
def no_orphan_left_behind() -> Iterator[None]:
    """Fail if processes started by this file's tests outlived their parents.

    Looked for once per file, not per test, because it means to look at all processes of the machine.
    """
    yield
    mine = {process.pid for process in psutil.Process().children(recursive=True)} | {os.getpid()}
    orphans = [
        process
        for process in psutil.process_iter(["environ"])
        if process.pid not in mine and (process.info["environ"] or {}).get(RUN_MARK) == os.environ[RUN_MARK]
    ]
    _end(orphans, "orphaned by tests of this file")


def _children() -> set[int]:
    """Direct children of this process. Read from /proc where possible: 50 times cheaper than asking psutil."""
    try:
        lists = [(task / "children").read_text() for task in Path("/proc/self/task").iterdir()]
    except OSError:
        return {child.pid for child in psutil.Process().children()}
    return {int(pid) for text in lists for pid in text.split()}


def _process(pid: int) -> psutil.Process | None:
    try:
        return psutil.Process(pid)
    except psutil.NoSuchProcess:
        return None


def _end(processes: list[psutil.Process], fault: str) -> None:
    """Wait for ``processes``, kill those that stay, and fail if there were any."""
    _, alive = psutil.wait_procs(processes, timeout=GRACE)
    if not alive:
        return
    lines = []
    for process in alive:
        try:
            lines.append(f"  pid {process.pid} ({process.status()}): {' '.join(process.cmdline())}")
            process.kill()
        except psutil.NoSuchProcess:
            continue
    psutil.wait_procs(alive, timeout=GRACE)
    pytest.fail(f"{len(alive)} process(es) {fault}:\n" + "\n".join(lines), pytrace=False)
