"""A durable controller that is killed and started again: what was accepted is done once, and everybody is told."""

from __future__ import annotations

import os
import time

import pytest

from enginery.client.client import Client
from enginery.controller.log_file import LogFile
from enginery.controller.options import ControllerOptions
from integration.test_reconnecting import marker, marks
from integration.test_tcp import House

PATIENCE = 30
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


@pytest.mark.parametrize("is_far", [True, False])
def test_killed_with_work_at_hand(house, tmp_path, is_far):
    with Client(house.info["client"] if is_far else house.path("client"), timeout=PATIENCE) as rc:
        rc.wait_for_engines(2, timeout=PATIENCE)
        rc[:].push({"a": 7})
        lv, leave_mark = rc.load_balanced_view(), marker()
        results = []
        for round_ in range(4):
            results += [lv.apply_async(leave_mark, str(tmp_path), 200 * round_ + at) for at in range(200)]
            results[-100].get(PATIENCE)
            house.kill_controller()
            results += [rc[0].apply_async(abs, -1)]
            house.restart_controller()
        wanted = [number for round_ in range(4) for number in (*range(200 * round_, 200 * round_ + 200), 1)]
        assert [result.get(PATIENCE) for result in results] == wanted
        assert marks(tmp_path) == list(range(800))
        assert rc.ids == [0, 1]
        assert rc[:]["a"] == [7, 7]
        assert rc[:].apply_sync(os.getpid) == rc[:].apply_sync(os.getpid)


def test_what_runs_runs_on(house):
    with house.connect() as rc:
        rc.wait_for_engines(2, timeout=PATIENCE)
        running = rc[0].apply_async(time.sleep, 1.5)
        behind = rc[0].apply_async(os.getpid)
        chained = rc.load_balanced_view().apply_async(abs, -3)
        assert chained.get(PATIENCE) == 3
        house.kill_controller()
        time.sleep(0.2)
        house.restart_controller()
        assert running.get(PATIENCE) is None
        assert isinstance(behind.get(PATIENCE), int)


def test_a_second_controller_is_refused(house):
    second = house.start("controller", "--ip=127.0.0.1", "--restore")
    assert second.wait(PATIENCE) != 0
    assert house.controller.poll() is None


def test_a_damaged_logbook_is_refused_with_its_name(house, tmp_path):
    with house.connect() as rc:
        rc.wait_for_engines(2, timeout=PATIENCE)
        rc[:].apply_sync(abs, -1)
        house.kill_controller()
        path = ControllerOptions(tmp_path, restore=True).logbook_path
        data = bytearray(path.read_bytes())
        data[60] ^= 1
        path.write_bytes(data)
        house.restart_controller()
        assert house.controller.wait(PATIENCE) == 1
        assert f"{path}" in (tmp_path / "controller.log").read_text()
        assert "is damaged at byte" in (tmp_path / "controller.log").read_text()


def test_the_logbook_is_free_when_the_controller_has_left(house, tmp_path):
    house.stop()
    LogFile(ControllerOptions(tmp_path, restore=True).logbook_path).close()
