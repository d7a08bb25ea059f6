"""A durable controller that is killed and started again: what was accepted is done once, and everybody is told."""

from __future__ import annotations

import contextlib
import os
import sqlite3
import subprocess
import sys
import threading
import time
from datetime import UTC, datetime, timedelta

import pytest

from enginery.client.client import Client
from enginery.controller.log_file import LogFile
from enginery.controller.options import ControllerOptions
from enginery.core.logbook import Began
from integration.test_reconnecting import marker, marks
from integration.test_tcp import House
from waiting import wait_until

PATIENCE = 30
ROUNDS = 3
pytestmark = pytest.mark.slow


class DurableHouse(House):
    """A house whose controller remembers."""

    def __init__(self, folder, *arguments) -> None:
        self.arguments = ("--restore", *arguments)
        super().__init__(folder, *self.arguments)

    def kill_controller(self):
        self.controller.kill()
        self.controller.wait()

    def restart_controller(self):
        self.controller = self.start("controller", "--ip=127.0.0.1", *self.arguments)


@pytest.fixture
def house(tmp_path):
    house = DurableHouse(tmp_path)
    yield house
    house.stop()


@pytest.fixture
def archive(tmp_path):
    """A house with a database."""
    house = DurableHouse(tmp_path, "--sqlitedb")
    yield house
    house.stop()


def completed(path):
    """What a database says to be completed."""
    with contextlib.closing(sqlite3.connect(path)) as db:
        found = db.execute(
            # Two that are submitted at once have one time, and are written in the order in which they end.
            'SELECT msg_id FROM "ipython-tasks" WHERE completed IS NOT NULL ORDER BY submitted, length(msg_id), msg_id'
        )
        return [msg_id for (msg_id,) in found]


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


def test_values_that_are_kept_outlive_the_controller(house):
    with house.connect() as rc:
        rc.wait_for_engines(2, timeout=PATIENCE)
        kept = rc[0].with_flags(keep=True).apply_sync(bytes, 1000)
        gone = rc[1].with_flags(keep=True).apply_sync(bytes, 10)
        house.kill_controller()
        del gone
        waiting = rc[1].apply_async(len, kept)
        house.restart_controller()
        assert waiting.get(PATIENCE) == 1000
        assert kept.get(PATIENCE) == bytes(1000)
        assert 0 in kept.where()
        assert rc.load_balanced_view().apply_async(len, kept).get(PATIENCE) == 1000
        assert rc[1].apply_async(len, kept).get(PATIENCE) == 1000


def test_records_of_tasks_of_a_client_that_does_not_come_back(house):
    with house.connect(session="night") as rc:
        rc.wait_for_engines(2, timeout=PATIENCE)
        session = rc.session
        begun = rc[0].apply_async(time.sleep, 1.5)
        behind = rc[0].apply_async(abs, -2)
        assert begun.wait_for_acceptance(PATIENCE)
        assert behind.wait_for_acceptance(PATIENCE)
        names = [begun.msg_id, behind.msg_id]
    house.kill_controller()
    before = datetime.now(UTC)
    house.restart_controller()
    with house.connect(session="night") as rc:
        assert rc.hub_history() == names
        again = rc.attach()
        assert [each.msg_id for each in again] == names
        result = rc.get_result(names)
        assert [each.get(PATIENCE) for each in again] == [None, 2]
        assert result.get(PATIENCE) == [None, 2]
        records = rc.db_query({"msg_id": {"$in": names}})
        assert [record["client_uuid"] for record in records] == [session] * 2
        assert [record["queue"] for record in records] == ["mux"] * 2
        assert [record["engine_id"] for record in records] == [0, 0]
        assert all(before - timedelta(seconds=PATIENCE) < record["submitted"] < before for record in records)


def test_what_has_not_ended_stands_in_the_logbook_and_is_found(archive, tmp_path):
    with archive.connect() as rc:
        rc.wait_for_engines(2, timeout=PATIENCE)
        lv = rc.load_balanced_view()
        done = lv.apply_async(abs, -1)
        assert done.get(PATIENCE) == 1
        with lv.temp_flags(after=lv.apply_async(time.sleep, 2.0), label="later"):
            waiting = lv.apply_async(abs, -2)
        assert waiting.wait_for_acceptance(PATIENCE)
        for _ in range(2):
            assert rc.hub_history()[:1] == done.msg_ids
            assert rc.hub_history()[2:] == waiting.msg_ids
            assert rc.db_query({"label": "later", "completed": None}, "msg_id") == [{"msg_id": waiting.msg_id}]
            assert waiting.msg_id not in completed(tmp_path / "tasks.db")
            archive.kill_controller()
            archive.restart_controller()
        assert waiting.get(PATIENCE) == 2
        wait_until(lambda: waiting.msg_id in completed(tmp_path / "tasks.db"))
        assert rc.hub_history()[2:] == waiting.msg_ids
        assert rc.resubmit(waiting).get(PATIENCE) == 2


def test_finished_tasks_stand_in_the_database(archive, tmp_path):
    with archive.connect() as rc:
        rc.wait_for_engines(2, timeout=PATIENCE)
        done = [rc[0].apply_async(abs, -1), rc.load_balanced_view().apply_async(abs, -2)]
        assert [each.get(PATIENCE) for each in done] == [1, 2]
        names = [each.msg_id for each in done]
        wait_until(lambda: completed(tmp_path / "tasks.db") == names)  # without that anybody asks for them
        archive.kill_controller()
        archive.restart_controller()
        assert rc[0].apply_async(abs, -3).get(PATIENCE) == 3
    archive.kill_controller()
    archive.restart_controller()
    with archive.connect() as rc:
        assert rc.hub_history()[:2] == names
        assert rc.get_result(names).get(PATIENCE) == [1, 2]
        assert rc.result_status(names)["completed"] == names


def test_who_asks_while_the_controller_is_killed_is_answered_by_the_next_one(house):
    with house.connect() as owner, house.connect() as other:
        owner.wait_for_engines(2, timeout=PATIENCE)
        running = owner[0].apply_async(time.sleep, 1.0)
        behind = owner[0].apply_async(abs, -2)
        assert behind.wait_for_acceptance(PATIENCE)
        found = other.get_result([running.msg_id, behind.msg_id])
        house.kill_controller()
        answers = []
        asker = threading.Thread(target=lambda: answers.append(other.queue_status([0])))
        asker.start()
        house.restart_controller()
        assert found.get(PATIENCE) == [None, 2]
        asker.join(PATIENCE)
        assert answers
        assert behind.get(PATIENCE) == 2


def test_what_its_client_had_and_the_database_had_not_is_in_the_history(archive, tmp_path):
    logbook = ControllerOptions(tmp_path, restore=True).logbook_path
    with contextlib.closing(sqlite3.connect(tmp_path / "tasks.db", isolation_level=None)) as other:
        with archive.connect() as rc:
            rc.wait_for_engines(2, timeout=PATIENCE)
            other.execute("BEGIN IMMEDIATE")  # nobody else writes meanwhile
            told = rc[0].apply_async(print, "hello")
            done = rc.load_balanced_view().map_async(abs, range(-99, 0), chunksize=1)
            assert told.get(PATIENCE) is None
            assert done.get(PATIENCE) == list(range(99, 0, -1))
            names = [*told.msg_ids, *done.msg_ids]
        wait_until(lambda: b"gone" in logbook.read_bytes())
        archive.kill_controller()
        other.execute("ROLLBACK")
        assert completed(tmp_path / "tasks.db") == []
    archive.restart_controller()
    with archive.connect() as rc:
        records = rc.db_query({"msg_id": {"$in": names}}, ["stdout", "status", "queue", "engine_id"])
        assert sorted(record["msg_id"] for record in records) == sorted(names)
        assert {record["status"] for record in records} == {"ok"}
        assert [(each["stdout"], each["queue"]) for each in records if each["msg_id"] == names[0]] == [
            ("hello\n", "mux")
        ]
        assert rc.get_result(names[-5:]).get(PATIENCE) == [5, 4, 3, 2, 1]
        rc.purge_hub_results(names[:1])
        archive.kill_controller()
        archive.restart_controller()
        assert set(names) & set(rc.hub_history()) == set(names[1:])
        assert rc.resubmit(names[-2:]).get(PATIENCE) == [2, 1]
