"""How long one client's single task takes while another client has a million queued.

Run as a script with the path of a connection file, it is that one client: it says how long its tasks took.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

from harness import Figures, median_and_p99, perform, time_each
from payload import nothing
from systems import system

#: Enough for a million tasks to be queued, where otherwise the client would be slowed.
WINDOW = 1 << 30
QUEUED = 1_000_000


def fairness(name: str, seconds: float) -> Figures:
    """Measure with two engines; milliseconds."""
    under_test = system(name)
    with under_test.running(2, controller_args=[f"--window={WINDOW}"]):
        view = under_test.views["balanced"]
        under_test.map(nothing_of, range(1000))
        stop = threading.Event()
        enough = threading.Event()

        def flood() -> None:
            while not stop.is_set():
                for _ in range(1000):
                    view.apply_async(nothing)
                if under_test.client.link.outstanding > QUEUED:
                    enough.set()
                    stop.wait(0.05)

        flooder = threading.Thread(target=flood)
        flooder.start()
        enough.wait(60)
        with tempfile.TemporaryDirectory() as folder:
            file = under_test.client.link.info.save(Path(folder) / "client.json")
            command = [sys.executable, __file__, "--other", name, str(file), str(seconds)]
            done = subprocess.run(command, check=True, capture_output=True, text=True)
        stop.set()
        flooder.join()
        under_test.client.abort()
    return json.loads(done.stdout)


def nothing_of(_: object) -> None:
    """Do nothing."""


def other(name: str, file: str, seconds: float) -> None:
    """Be the other client."""
    with system(name).module.Client(file) as client:
        view = client.load_balanced_view()
        times = time_each(lambda: view.apply_sync(nothing), seconds, warm=5)
    median, p99 = median_and_p99(times)
    print(json.dumps({"median": median * 1000, "p99": p99 * 1000, "worst": times[-1] * 1000}))


if __name__ == "__main__":
    if sys.argv[1] == "--other":
        other(sys.argv[2], sys.argv[3], float(sys.argv[4]))
    else:
        perform(fairness)
