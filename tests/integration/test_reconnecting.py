"""Connections that break and controllers that are started anew: clients and engines come back by themselves."""

from __future__ import annotations

import json
import os
import time
from dataclasses import replace

import pytest

from enginery.client.client import Client
from enginery.errors import ConnectionLost
from enginery.net.addresses import split_tcp
from enginery.net.curve import has_curve
from enginery.testing.relay import Relay
from integration.test_tcp import House

PATIENCE = 30
pytestmark = [pytest.mark.slow, pytest.mark.skipif(not has_curve(), reason="this libzmq has no CURVE")]


class FarHouse(House):
    """A house whose peers reach the controller through relays, which can be cut."""

    def over_tcp(self, kind):
        info = super().over_tcp(kind)
        self.relays[kind] = relay = Relay(split_tcp(info.url)[1])
        url = f"tcp://127.0.0.1:{relay.port}"
        return replace(info, url=url, urls=(url,))

    def __init__(self, folder, *arguments) -> None:
        self.relays = {}
        super().__init__(folder, *arguments)

    def stop(self):
        super().stop()
        for relay in self.relays.values():
            relay.close()


@pytest.fixture(scope="module")
def far(tmp_path_factory):
    house = FarHouse(tmp_path_factory.mktemp("far"))
    yield house
    house.stop()


LEAVE_MARK = """
def leave_mark(folder, number):
    import os, time
    with open(os.path.join(folder, "marks"), "a") as file:
        file.write(f"{number}\\n")
    time.sleep(0.001)
    return number
"""


def marker():
    """A function that leaves a mark each time it is run; of no module, for engines cannot import this one."""
    scope = {"__name__": "__main__"}
    exec(LEAVE_MARK, scope)
    return scope["leave_mark"]


def marks(folder):
    return sorted(int(line) for line in (folder / "marks").read_text().split())


@pytest.mark.parametrize("kind", ["client", "engine"])
def test_cut_again_and_again(far, kind, tmp_path):
    with far.connect() as rc:
        rc.wait_for_engines(2, timeout=PATIENCE)
        lv, leave_mark = rc.load_balanced_view(), marker()
        results = []
        for round_ in range(4):
            before = far.relays[kind].accepted
            results += [lv.apply_async(leave_mark, str(tmp_path), 100 * round_ + at) for at in range(100)]
            results[-50].get(PATIENCE)
            far.relays[kind].cut()
            deadline = time.monotonic() + PATIENCE
            while far.relays[kind].accepted == before:
                assert time.monotonic() < deadline
                time.sleep(0.01)
        assert [result.get(PATIENCE) for result in results] == list(range(400))
        assert marks(tmp_path) == list(range(400))
        assert rc.ids == [0, 1]
        assert rc[:].apply_sync(os.getpid) == rc[:].apply_sync(os.getpid)


def test_a_cut_is_told_at_once_and_asked_for_in_words(far, caplog):
    with far.connect() as rc:
        rc.wait_for_engines(2, timeout=PATIENCE)
        result = rc[0].apply_async(time.sleep, 1)
        far.relays["client"].target = 9  # where nobody listens
        far.relays["client"].cut()
        deadline = time.monotonic() + PATIENCE
        while not rc.link.trouble():
            assert time.monotonic() < deadline
            time.sleep(0.01)
        assert "is lost" in caplog.text
        assert "waited for" in result.why()
        far.relays["client"].target = split_tcp(House.over_tcp(far, "client").url)[1]
        assert result.get(PATIENCE) is None
        assert not rc.link.trouble()


def test_a_restarted_controller(tmp_path):
    house = House(tmp_path, "--reuse")
    try:
        with house.connect() as far, Client(house.path("client"), timeout=PATIENCE) as near:
            clients = (far, near)
            for rc in clients:
                rc.wait_for_engines(2, timeout=PATIENCE)
            far[:].push({"a": 7})
            pids = far[:].apply_sync(os.getpid)
            pending = [rc[0].apply_async(time.sleep, 0.5) for rc in clients]
            house.controller.kill()
            house.controller.wait()
            house.controller = house.start("controller", "--ip=127.0.0.1", "--reuse")
            for rc, result in zip(clients, pending, strict=True):
                with pytest.raises(ConnectionLost, match="restarted"):
                    result.get(PATIENCE)
                rc.wait_for_engines(2, timeout=PATIENCE)
                assert rc.ids == [0, 1]
                assert rc[:].apply_sync(os.getpid) == pids
                assert rc[:]["a"] == [7, 7]
                assert rc.load_balanced_view().map_sync(abs, range(-100, 0)) == list(range(100, 0, -1))
            assert house.host.poll() is None
        assert json.loads(house.path("client").read_text())["epoch"] == 2
    finally:
        house.stop()


def test_a_controller_that_does_not_come_back(tmp_path):
    house = House(tmp_path, "--reuse", "--reconnect=1")
    try:
        with house.connect() as rc:
            rc.wait_for_engines(2, timeout=PATIENCE)
            pending = rc[0].apply_async(time.sleep, PATIENCE)
            house.controller.kill()
            house.controller.wait()
            with pytest.raises(ConnectionLost, match="did not come back"):
                pending.get(PATIENCE)
            assert house.host.wait(PATIENCE) is not None
    finally:
        house.stop()


def test_where_no_other_can_come_nobody_waits(tmp_path):
    house = House(tmp_path)
    try:
        with house.connect() as rc:
            rc.wait_for_engines(2, timeout=PATIENCE)
            pending = rc[0].apply_async(time.sleep, PATIENCE)
            house.controller.kill()
            house.controller.wait()
            with pytest.raises(ConnectionLost, match="gone"):
                pending.get(PATIENCE / 2)
            assert house.host.wait(PATIENCE) is not None
    finally:
        house.stop()
