"""Kills of every kind of process in the middle of transfers; then a checker reads what arrived and what is left.

    python bench/transfers.py                        200 kills
    python bench/transfers.py --kills 20 --seed 4711

Arrays go to engines and back, to one and to all, by shared memory or (for every other cluster) by tcp as between hosts.
Meanwhile a controller, an engine, a nanny, a host of engines or another client is killed (SIGKILL) at a random moment.
What must hold: every task is resolved, what arrived is what was sent (checksums), and nothing is left: no process and no
file of a cluster that is gone, and after one lease no segment of an owner that is gone. Exits with 1 if anything else is found.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
import zlib
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import psutil

from enginery.client.client import Client
from enginery.client.result import AsyncResult
from enginery.controller.sharing import GRACE
from enginery.errors import CompositeError, ConnectionLost, EngineError, NoEnginesRegistered
from enginery.net import connection_file
from enginery.net.addresses import segments_base

#: Seconds until a kill, at most; and until everything has to be resolved, or gone, or up.
SOON = 0.3
PATIENCE = 60.0
#: Bytes of an array, at least and at most, and how many transfers are under way when something is killed.
SIZES = (100_000, 8_000_000)
TRANSFERS = 12
ENGINES = 3
KINDS = ("controller", "engine", "nanny", "host", "client")
#: Those after whose death the cluster goes on.
SURVIVED = {"engine", "host", "client"}


class Bed:
    """A controller and a host of engines, over tcp only if ``far``, and a client."""

    def __init__(self, folder: Path, *, far: bool) -> None:
        self.folder = folder
        self.far = far
        self.controller = self._start("controller", "--nodb", *(["--ip=127.0.0.1", "--reconnect=3"] if far else []))
        self.files = {kind: self._file(kind) for kind in ("client", "engine")}
        self.host = self._start_host()
        self.client = Client(self.files["client"], timeout=PATIENCE)
        self.client.wait_for_engines(ENGINES, timeout=PATIENCE)
        with Client(folder / "security" / "ipcontroller-client.json", timeout=PATIENCE) as local:
            self.places = [Path(local.link._requests.welcome.runtime)]  # noqa: SLF001 - not said anywhere else
        self.pids: set[psutil.Process] = set()
        self.note()

    def _start(self, what: str, *arguments: str) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", f"enginery.{what}", f"--profile-dir={self.folder}", *arguments]
        with (self.folder / f"{what}.log").open("ab") as log:
            return subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT)

    def _start_host(self) -> subprocess.Popen[bytes]:
        arguments = [f"--n={ENGINES}", f"--file={self.files['engine']}", "--restart", f"--work-dir={self.folder}"]
        return self._start("engine", *arguments)

    def revive(self) -> None:
        """Start another host if there is none, so that tasks which wait for engines go on."""
        if self.host.poll() is not None:
            self.host = self._start_host()

    def wait_for_engines(self) -> None:
        """Wait until there are as many as at first."""
        wait_until(lambda: len(self.engines()) == ENGINES, "the engines are back")

    def _file(self, kind: str) -> Path:
        path = self.folder / "security" / f"ipcontroller-{kind}.json"
        wait_until(path.exists, "the controller writes its files")
        if not self.far:
            return path
        info = connection_file.load(path)
        (url,) = [each for each in info.urls if each.startswith("tcp://")]
        far = self.folder / f"far-{kind}.json"
        replace(info, url=url, urls=(url,)).save(far)
        return far

    def note(self) -> None:
        """Remember what there is, to see later that it is gone."""
        self.places += [path for path in _folders_of(self.host.pid) if path not in self.places]
        with contextlib.suppress(psutil.NoSuchProcess):
            self.pids |= {psutil.Process(self.controller.pid), *psutil.Process(self.host.pid).children(recursive=True)}

    def engines(self) -> list[int]:
        """Process ids of the engines that are registered."""
        return [info.pid for info in self.client.link.engines.values()]

    def pid_of(self, kind: str) -> int:
        """The process to be killed; 0 if there is none just now."""
        if kind in {"controller", "host"}:
            return (self.controller if kind == "controller" else self.host).pid
        engines = self.engines()
        if kind == "engine":
            return random.choice(engines) if engines else 0
        children = [each.pid for each in psutil.Process(self.host.pid).children()]
        return next((pid for pid in children if pid not in engines), 0)

    def close(self) -> list[str]:
        """End everything, and say what is left."""
        self.note()
        with contextlib.suppress(Exception):
            self.client.close()
        for process in (self.host, self.controller):
            process.terminate()
        wrong = []
        for process in (self.host, self.controller):
            try:
                process.wait(PATIENCE)
            except subprocess.TimeoutExpired:
                wrong.append(f"{process.args} did not leave")
                process.kill()
                process.wait()
        gone, alive = psutil.wait_procs(list(self.pids), PATIENCE)
        del gone
        return wrong + [f"{process} is left" for process in alive]


def _folders_of(pid: int) -> list[Path]:
    """Folders of shared memory that a process holds."""
    if not Path(f"/proc/{pid}/fd").exists():
        return []
    links = [str(path.readlink()) for path in Path(f"/proc/{pid}/fd").iterdir() if path.is_symlink()]
    return [Path(link).parent for link in links if link.endswith("/lock") and str(segments_base()) in link]


def wait_until(true: Callable[[], bool], what: str, patience: float = PATIENCE) -> None:
    """Wait until something is true. Raises TimeoutError."""
    deadline = time.monotonic() + patience
    while not true():
        if time.monotonic() > deadline:
            raise TimeoutError(f"{what}: not within {patience:.0f} s")
        time.sleep(0.01)


#: What a task does: the checksum of what came, and what came the other way round.
TURNED = "def turned(array):\n    import zlib\n    return zlib.crc32(array), array[::-1].copy()\n"


class Transfers:
    """Transfers under way, and what has to come of them."""

    def __init__(self, client: Client) -> None:
        self._client = client
        scope: dict[str, object] = {"__name__": "__main__"}
        exec(TURNED, scope)  # noqa: S102 - a function of no module, so that engines need not be able to import this one
        self._turned = scope["turned"]
        self._under_way: list[tuple[AsyncResult, np.ndarray, int]] = []

    def begin(self, seed: int) -> None:
        """Begin one of some kind. Does not wait."""
        chance = np.random.default_rng(seed)
        array = chance.integers(0, 256, int(chance.integers(*SIZES)), dtype="u1")
        crc = zlib.crc32(array)
        # Nobody is left to begin it, or not the one that was there a moment ago.
        with contextlib.suppress(ConnectionLost, EngineError, NoEnginesRegistered, IndexError):
            ids = self._client.ids
            match seed % 4:
                case 0:
                    result = self._client.load_balanced_view().apply_async(self._turned, array)
                case 1:
                    result = self._client[ids[seed % len(ids)] if ids else 0].apply_async(self._turned, array)
                case 2:
                    result = self._client[:].apply_async(self._turned, array)
                case _:
                    result = self._client.broadcast_view().apply_async(self._turned, array)
            self._under_way.append((result, array, crc))

    def check(self, tally: Counter[str]) -> list[str]:
        """Wait for all of them. Returns what is wrong."""
        wrong = []
        deadline = time.monotonic() + PATIENCE
        for result, array, crc in self._under_way:
            if not result.wait(max(0.1, deadline - time.monotonic())):
                wrong.append(f"unresolved: {result.why()}")
                continue
            error = result.exception()
            if error is not None:
                tally["failed"] += 1
                if not isinstance(error, EngineError | ConnectionLost | CompositeError):
                    wrong.append(f"ended in {error!r}")
                continue
            values = result.get()
            for seen, back in values if isinstance(values, list) else [values]:
                tally["arrived"] += 1
                if seen != crc or not np.array_equal(back, array[::-1]):
                    wrong.append(f"wrong bytes in {array.nbytes} bytes")
        self._under_way.clear()
        return wrong


def be_client(path: str) -> None:
    """Transfer until killed."""
    with Client(path, timeout=PATIENCE) as client:
        transfers, number = Transfers(client), 0
        print(client.link.number, flush=True)
        while True:
            for _ in range(TRANSFERS):
                number += 1
                transfers.begin(number)
            transfers.check(Counter())


def strike(bed: Bed, kind: str, chance: random.Random, tally: Counter[str]) -> list[str]:
    """Let one kill happen in the middle of transfers. Returns what is wrong."""
    victim = None
    if kind == "client":
        command = [sys.executable, __file__, "--be-client", str(bed.files["client"])]
        victim = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert victim.stdout is not None
        number = int(victim.stdout.readline())
    transfers = Transfers(bed.client)
    bed.note()
    due = time.monotonic() + chance.uniform(0.0, SOON)
    killed = False
    for at in range(TRANSFERS):
        transfers.begin(chance.randrange(1 << 30))
        if not killed and (time.monotonic() >= due or at == TRANSFERS - 1):
            time.sleep(max(0.0, due - time.monotonic()) if at == TRANSFERS - 1 else 0.0)
            pid = victim.pid if victim is not None else bed.pid_of(kind)
            if pid:
                os.kill(pid, signal.SIGKILL)
                tally[kind] += 1
                killed = True
    if kind == "host" and killed:
        bed.host.wait()
        bed.revive()
    wrong = transfers.check(tally)
    if victim is not None:
        victim.wait()
        assert victim.stdout is not None
        victim.stdout.close()
        mine = f"c{number}-"
        try:
            wait_until(lambda: not any(mine in path.name for path in bed.places[0].iterdir()), f"{mine} goes")
        except TimeoutError as error:
            wrong.append(str(error))
    return [f"{kind}{' (far)' if bed.far else ''}: {each}" for each in wrong]


def unowned(bed: Bed) -> list[str]:
    """Segments whose owners are not there any more, once a lease is over."""
    time.sleep(GRACE + 5)
    owners = {f"e{number}" for number in bed.client.ids} | {f"c{bed.client.link.number}", "lock"}
    return [f"{path} is left" for path in bed.places[0].iterdir() if path.name.partition("-")[0] not in owners]


def run(kills: int, chance: random.Random, tally: Counter[str]) -> list[str]:
    """Kill so often; a new cluster comes wherever one cannot go on. Returns what is wrong."""
    wrong: list[str] = []
    bed: Bed | None = None
    places: list[Path] = []
    with tempfile.TemporaryDirectory(prefix="enginery-transfers-") as name:
        for at in range(kills):
            if bed is None:
                folder = Path(name, str(at))
                folder.mkdir()
                bed = Bed(folder, far=tally["clusters"] % 2 == 1)
                tally["clusters"] += 1
                wrong += [f"{path} is left" for path in places if path.exists()]  # starting sweeps
                places = []
            kind = KINDS[at % len(KINDS)] if at < kills - 1 else "engine"
            wrong += strike(bed, kind, chance, tally)
            if kind in SURVIVED and at < kills - 1:
                bed.wait_for_engines()
                continue
            if at == kills - 1:
                wrong += unowned(bed)
            places += bed.places
            wrong += bed.close()
            bed = None
            if at % 20 < len(KINDS) or wrong:
                print(at + 1, dict(tally), wrong, flush=True)
    return wrong + [f"{path} is left" for path in places if path.exists()]


def main() -> int:
    """Run it as the command line says."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--seed", type=int, default=random.randrange(1 << 31))
    parser.add_argument("--be-client", default="", help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.be_client:
        be_client(chosen.be_client)
    print(f"seed {chosen.seed}", flush=True)
    random.seed(chosen.seed)
    tally: Counter[str] = Counter()
    began = time.monotonic()
    wrong = run(chosen.kills, random.Random(chosen.seed), tally)
    print(json.dumps({"seconds": round(time.monotonic() - began), **tally, "wrong": wrong}, indent=2))
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
