"""A durable controller that is killed and started again: what was accepted is done once, and everybody is told."""

from __future__ import annotations

import os
import subprocess
import sys
import time

import pytest

from enginery.client.client import Client
from enginery.controller.log_file import LogFile
from enginery.controller.options import ControllerOptions
from enginery.core.logbook import Began
from integration.test_reconnecting import marker, marks
from integration.test_tcp import House

PATIENCE = 30
ROUNDS = 3
pytestmark = pytest.mark.slow


class DurableHouse(House):
    """A house whose controller remembers."""

    def __init__(self, folder) -> None:
        super().__init__(folder, "--restore")

    def kill_controller(self):
        self.controller.kill()
        self.controller.wait()

    def restart_controller(self):
        self.controller = self.start("controller", "--ip=127.0.0.1", "--restore")


@pytest.fixture
def house(tmp_path):
    house = DurableHouse(tmp_path)
    yield house
    house.stop()


def test_killed_with_work_at_hand(house, tmp_path):
    with house.connect() as far, Client(house.path("client"), timeout=PATIENCE) as near:
        clients = (far, near)
        for rc in clients:
            rc.wait_for_engines(2, timeout=PATIENCE)
        far[:].push({"a": 7})
        pids = far[:].apply_sync(os.getpid)
        leave_mark = marker()
        results = []
        for round_ in range(ROUNDS):
            for at, rc in enumerate(clients):
                lv, first = rc.load_balanced_view(), 200 * round_ + 100 * at
                results += [lv.apply_async(leave_mark, str(tmp_path), first + number) for number in range(100)]
            results[-50].get(PATIENCE)
            house.kill_controller()
            behind = [rc[0].apply_async(abs, -1) for rc in clients]
            house.restart_controller()
            assert [result.get(PATIENCE) for result in behind] == [1, 1]
        assert [result.get(PATIENCE) for result in results] == list(range(200 * ROUNDS))
        assert marks(tmp_path) == list(range(200 * ROUNDS))
        for rc in clients:
            assert rc.ids == [0, 1]
            assert rc[:]["a"] == [7, 7]
            assert rc[:].apply_sync(os.getpid) == pids


def test_what_runs_runs_on(house):
    with house.connect() as rc:
        rc.wait_for_engines(2, timeout=PATIENCE)
        running = rc[0].apply_async(time.sleep, 1.5)
        assert running.wait_for_acceptance(PATIENCE)
        assert running.accepted
        assert not running.done()
        behind = rc[0].apply_async(os.getpid)
        chained = rc.load_balanced_view().apply_async(abs, -3)
        assert chained.get(PATIENCE) == 3
        house.kill_controller()
        house.restart_controller()
        assert running.get(PATIENCE) is None
        assert isinstance(behind.get(PATIENCE), int)
    second = house.start("controller", "--ip=127.0.0.1", "--restore")
    assert second.wait(PATIENCE) != 0, "one at a time"
    assert house.controller.poll() is None


def test_a_damaged_logbook_is_refused_with_its_name(tmp_path):
    path = ControllerOptions(tmp_path, restore=True).logbook_path
    command = [sys.executable, "-m", "enginery.controller", f"--profile-dir={tmp_path}", "--restore"]
    path.parent.mkdir(parents=True)
    logbook = LogFile(path)
    logbook.start()
    for epoch in (1, 2):
        logbook.put([(Began(epoch), [])])
    logbook.close()
    data = bytearray(path.read_bytes())
    data[data.index(b"epoch")] ^= 1
    path.write_bytes(data)
    run = subprocess.run(command, check=False, capture_output=True, text=True, timeout=PATIENCE)
    assert run.returncode == 1
    assert f"{str(path)!r} is damaged at byte" in run.stderr
    assert path.read_bytes() == data
