"""What clients ask of the controller's memory: results of others, queries, repetition, purging, across runs as well."""

from __future__ import annotations

import contextlib
import os
import signal
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest

import enginery as ipp
from enginery.cluster.cluster import Cluster

PATIENCE = 20.0


@pytest.fixture
def other(own_rc):
    """Another client than the one that asks for work."""
    return own_rc


@contextlib.contextmanager
def cluster_with(*args, folder, n=1):
    with Cluster(n=n, profile_dir=str(folder), controller_args=list(args)) as rc:
        yield rc


@ipp.interactive
def say_and_double(x):
    import sys

    print("doubling", x)
    print("careful", file=sys.stderr)
    return x * 2


@ipp.interactive
def wait_for_file(path, value):
    import os
    import time

    print("waiting")
    deadline = time.monotonic() + 20
    while not os.path.exists(path) and time.monotonic() < deadline:
        time.sleep(0.01)
    return value


# --- results of others ---------------------------------------------------------------------------------------------


def test_balanced_direct_and_broadcast_requests_of_another_client(rc, other, lv, dv):
    one = lv.apply(say_and_double, 21)
    two = dv.apply(say_and_double, 2)
    three = rc.broadcast_view().apply(say_and_double, 3)
    assert (one.get(), two.get(), three.get()) == (42, [4, 4], [6, 6])
    result = other.get_result(one.msg_ids[0])
    assert type(result) is ipp.AsyncHubResult
    assert (result.get(), result.stdout, result.stderr) == (42, "doubling 21\n", "careful\n")
    assert result.msg_ids == one.msg_ids
    for asked, values in ((two, [4, 4]), (three, [6, 6])):
        found = other.get_result(asked.msg_ids)
        assert found.get() == values
        assert found.msg_ids == asked.msg_ids
        assert found.engine_id == [0, 1]
        assert found.stdout == asked.stdout
    queues = [each["queue"] for each in other.db_query({"msg_id": {"$in": [*one.msg_ids, *two.msg_ids]}}, ["queue"])]
    assert sorted(queues) == ["mux", "mux", "task"]


def test_metadata_of_a_result_of_another_client(rc, other, lv):
    with lv.temp_flags(label="sweep 7"):
        asked = lv.apply(say_and_double, 1)
    asked.get()
    found = other.get_result(asked.msg_ids[0])
    assert (found.label, found.engine_uuid, found.status) == ("sweep 7", asked.engine_uuid, "ok")
    assert (found.started, found.completed) == (asked.started, asked.completed)
    assert abs(found.submitted - asked.submitted) < timedelta(seconds=5)
    assert other.db_query({"label": {"$glob": "sweep *"}}, ["label"]) == [
        {"msg_id": asked.msg_ids[0], "label": "sweep 7"}
    ]


def test_failures_and_cells_of_another_client(rc, other, lv, dv):
    failed = lv.apply(ipp.interactive(lambda: 1 / 0))
    failed.wait(PATIENCE)
    found = other.get_result(failed.msg_ids[0])
    with pytest.raises(ipp.RemoteError, match="ZeroDivisionError"):
        found.get(PATIENCE)
    assert "ZeroDivisionError: division by zero" in found.error
    cell = dv.execute("print('hello'); 6 * 7", silent=False)
    cell.get()
    found = other.get_result(cell.msg_ids)
    assert [reply.execute_result["data"]["text/plain"] for reply in found.get()] == ["42", "42"]
    assert found.stdout == ["hello\n", "hello\n"]
    shown = other.db_query({"msg_id": cell.msg_ids[0]}, ["execute_result"])[0]["execute_result"]
    assert shown["data"]["text/plain"] == "42"


def test_who_waits_for_the_task_of_another_is_told_when_it_ends(rc, other, lv, tmp_path):
    gate = tmp_path / "gate"
    asked = lv.apply(wait_for_file, str(gate), 5)
    rc.statistics()  # it has come to the controller by now
    found = other.get_result(asked.msg_ids[0])
    assert not found.done()
    assert "engine" in found.why()
    assert other.result_status(asked) == {"pending": asked.msg_ids, "completed": []}
    with pytest.raises(RuntimeError, match="another client"):
        found.abort()
    with pytest.raises(ValueError, match="not ended"):
        other.purge_hub_results(asked.msg_ids)
    gate.touch()
    assert found.get(PATIENCE) == 5
    assert found.stdout == "waiting\n"
    assert other.result_status(asked.msg_ids) == {"pending": [], "completed": asked.msg_ids}


def test_a_client_that_waits_for_another_and_leaves_harms_nobody(cluster, rc, lv, tmp_path):
    gate = tmp_path / "gate"
    asked = lv.apply(wait_for_file, str(gate), 5)
    rc.statistics()
    with cluster.connect_client_sync() as passer_by:
        waiting = passer_by.get_result(asked.msg_ids[0])
    with pytest.raises(ipp.ConnectionLost):
        waiting.get(PATIENCE)
    gate.touch()
    assert asked.get(PATIENCE) == 5
    assert rc.statistics()["rejected"] == 0


def test_known_and_unknown_requests_together(rc, other, lv):
    theirs = lv.apply(say_and_double, 1)
    theirs.get()
    mine = other.load_balanced_view().apply(say_and_double, 2)
    both = other.get_result([mine.msg_ids[0], theirs.msg_ids[0]])
    assert type(both) is ipp.AsyncHubResult
    assert both.get(PATIENCE) == [4, 2]
    assert both.msg_ids == mine.msg_ids + theirs.msg_ids
    assert other.get_result(-1) is mine


def test_later_tasks_may_depend_on_own_requests_found_again(rc, other, lv):
    asked = lv.apply(say_and_double, 1)
    asked.get()
    rc.purge_local_results(asked)
    found = rc.get_result(asked.msg_ids[0])
    with lv.temp_flags(after=[found], follow=found):
        assert lv.apply(say_and_double, 2).get(PATIENCE) == 4
    theirs = other.get_result(asked.msg_ids[0])
    view = other.load_balanced_view()
    with pytest.raises(ValueError, match="not a message id of this client"):
        view.set_flags(after=theirs)
        view.apply(say_and_double, 3)


def test_arrays_of_a_client_that_has_gone(cluster, rc, other):
    """Its result lay in shared memory, which engines use again: what was recorded stays what it was."""
    with cluster.connect_client_sync() as passer_by:
        view = passer_by.load_balanced_view()
        asked = view.apply(ipp.interactive(lambda a: a + 1), np.arange(200_000.0))
        assert asked.get().sum() == np.arange(1, 200_001.0).sum()
        for number in range(10):
            view.apply(ipp.interactive(lambda a: a * 0 - 1), np.full(200_000, float(number))).get()
    found = other.get_result(asked.msg_ids[0]).get(PATIENCE)
    assert np.array_equal(found, np.arange(1, 200_001.0))
    again = other.resubmit(asked.msg_ids[0])
    assert np.array_equal(again.get(PATIENCE), np.arange(1, 200_001.0))


def test_shared_memory_held_by_records_is_bounded_and_let_go(tmp_path):
    with cluster_with("--DictDB.size_limit=10000000", folder=tmp_path) as rc:
        folder = rc.link._requests.welcome.runtime

        def held():
            with open(f"/proc/{rc.link.info.pid}/maps") as maps:
                return sum(folder in line for line in maps)

        view = rc.load_balanced_view()
        for number in range(60):
            array = np.full(1_000_000, number, "u1")
            assert np.array_equal(view.apply(ipp.interactive(lambda a: a), array).get(PATIENCE), array)
        last = rc.db_query({}, ["buffers", "result_buffers"])[-1]
        assert (len(last["buffers"][1]), len(last["result_buffers"][1])) == (1_000_000, 1_000_000)
        assert 0 < held() <= 12
        assert len(os.listdir(folder)) <= 40
        rc.purge_hub_results("all")
        assert held() == 0


# --- running again -------------------------------------------------------------------------------------------------


def test_requests_are_run_again(rc, other, lv, dv):
    counter = ipp.interactive(lambda: globals().__setitem__("runs", globals().get("runs", 0) + 1) or runs)  # noqa: F821
    asked = dv.apply(counter)
    assert asked.get() == [1, 1]
    again = rc.resubmit(asked)
    assert type(again) is ipp.AsyncHubResult
    assert again.get(PATIENCE) == [2, 2]
    assert again.engine_id == [0, 1]
    assert set(again.msg_ids).isdisjoint(asked.msg_ids)
    assert rc.history[-2:] == again.msg_ids
    names = other.db_query({"msg_id": {"$in": asked.msg_ids}}, ["resubmitted"])
    assert [each["resubmitted"] for each in names] == again.msg_ids
    assert other.resubmit(again.msg_ids[0], block=True) == 3
    with lv.temp_flags(retries=2, label="again"):
        lv.apply(say_and_double, 1).get()
    repeated = rc.resubmit()
    assert (repeated.get(PATIENCE), repeated.stdout, repeated.status) == (2, "doubling 1\n", "ok")
    assert other.db_query({"msg_id": repeated.msg_ids[0], "metadata.retries": 2, "label": "again"}, ["status"])


def test_what_is_under_way_can_be_run_again(rc, lv, tmp_path):
    gate = tmp_path / "gate"
    asked = lv.apply(wait_for_file, str(gate), 5)
    rc.statistics()
    again = rc.resubmit(asked)
    gate.touch()
    assert asked.get(PATIENCE) == again.get(PATIENCE) == 5


def test_if_one_is_unknown_none_is_run_again(rc, other, lv):
    asked = lv.apply(say_and_double, 1)
    asked.get()
    before = rc.statistics()["submitted"]
    with pytest.raises(KeyError, match="no record of nobody_1"):
        other.resubmit([asked.msg_ids[0], "nobody_1"])
    assert rc.statistics()["submitted"] == before
    assert other.link.outstanding == 0


# --- looking -------------------------------------------------------------------------------------------------------


def test_records_are_found_by_anything(rc, other, lv, dv):
    start = datetime.now(UTC)
    with lv.temp_flags(label="first"):
        first = lv.apply(say_and_double, 1)
        first.get()
    failed = lv.apply(ipp.interactive(lambda: {}["x"]))
    failed.wait(PATIENCE)
    placed = rc[1].apply(say_and_double, 3)
    placed.get()
    asked = [*first.msg_ids, *failed.msg_ids, *placed.msg_ids]

    def found(**query):
        return [each["msg_id"] for each in other.db_query({"submitted": {"$gt": start}, **query}, [])]

    assert found() == [each for each in other.hub_history() if each in asked]
    assert set(found()) == set(asked)
    assert found(status="error") == failed.msg_ids
    assert found(error={"$glob": "KeyError*"}) == failed.msg_ids
    assert found(label=None, queue="task") == failed.msg_ids
    assert found(engine_id=1, queue="mux") == placed.msg_ids
    assert found(client_uuid=rc.session, label={"$in": ["first", "second"]}) == first.msg_ids
    assert set(found(completed={"$gte": start})) == set(asked)
    assert found(client_uuid=other.session) == []


def test_buffers_come_when_asked_for(other, lv):
    asked = lv.apply(say_and_double, 21)
    asked.get()
    (plain,) = other.db_query({"msg_id": asked.msg_ids[0]})
    assert "buffers" not in plain
    assert plain["stdout"] == "doubling 21\n"
    assert isinstance(plain["completed"], datetime)
    (whole,) = other.db_query({"msg_id": asked.msg_ids[0]}, ["buffers", "result_buffers"])
    assert whole.keys() == {"msg_id", "buffers", "result_buffers"}
    assert [type(each) for each in (*whole["buffers"], *whole["result_buffers"])] == [bytes, bytes]


@pytest.mark.parametrize(
    ("query", "words"),
    [
        ({"size": 1}, "no key 'size'"),
        ({"status": {"$near": 1}}, "no operator '$near'"),
        ({"status": {"$in": "ok"}}, "needs a list, not 'ok'"),
        ("everything", "A query is a dict"),
    ],
)
def test_queries_that_make_no_sense(rc, query, words):
    with pytest.raises(ValueError) as caught:
        rc.db_query(query)
    assert words in str(caught.value)
    with pytest.raises(ValueError, match="no key 'colour'"):
        rc.db_query({}, keys=["colour"])


def test_how_requests_stand(rc, other, lv, tmp_path):
    done = lv.apply(say_and_double, 4)
    done.get()
    gate = tmp_path / "gate"
    running = lv.apply(wait_for_file, str(gate), 5)
    rc.statistics()
    asked = [*done.msg_ids, *running.msg_ids]
    for client in (rc, other):
        assert client.result_status(asked) == {"pending": running.msg_ids, "completed": done.msg_ids}
    assert other.result_status(done.msg_ids, status_only=False)[done.msg_ids[0]] == 8
    with pytest.raises(ipp.NoRecord):
        other.result_status(["nobody_1"])
    status = other.queue_status(verbose=True)
    assert running.msg_ids == [each for engine in (0, 1) for each in status[engine]["tasks"]]
    assert done.msg_ids[0] in [each for engine in (0, 1) for each in status[engine]["completed"]]
    assert other.queue_status()["unassigned"] == 0
    gate.touch()
    running.get(PATIENCE)


def test_endings_other_than_results(cluster, rc, other, lv):
    """An engine that dies, and a task that is taken back."""
    with lv.temp_flags(targets=[0]):
        killer = lv.apply(ipp.interactive(lambda: __import__("time").sleep(20)))
        waiting = lv.apply(say_and_double, 1)
        rc.statistics()
        waiting.abort()
        with pytest.raises(ipp.TaskAborted):
            waiting.get(PATIENCE)
        killer.abort(interrupt=True)
        with pytest.raises(ipp.TaskAborted):
            killer.get(PATIENCE)
    for result in (killer, waiting):
        (record,) = other.db_query({"msg_id": result.msg_ids[0]}, ["status", "error"])
        assert record["status"] == "aborted"
        with pytest.raises(ipp.TaskAborted):
            other.get_result(result.msg_ids[0]).get(PATIENCE)


# --- forgetting ----------------------------------------------------------------------------------------------------


def test_results_are_forgotten_here_and_there(rc, other, lv):
    first, second = lv.apply(say_and_double, 1), lv.apply(say_and_double, 2)
    first.get(), second.get()
    rc.purge_local_results(first)
    assert type(rc.get_result(first.msg_ids[0])) is ipp.AsyncHubResult
    assert first.msg_ids[0] not in rc.history
    assert rc.get_result(second.msg_ids[0]) is second
    rc.purge_hub_results(first.msg_ids)
    with pytest.raises(ipp.NoRecord, match="either it was purged, or newer ones took its place: the newest 1,024"):
        rc.get_result(first.msg_ids[0])
    lv.purge_results(second)
    with pytest.raises(KeyError):
        other.get_result(second.msg_ids[0])
    assert second.get() == 4
    with pytest.raises(ipp.NoRecord):
        rc.purge_hub_results("nobody_1")
    for purge in (rc.purge_results, rc.purge_hub_results, rc.purge_local_results):
        with pytest.raises(ValueError, match="Name what to purge"):
            purge()


def test_results_are_forgotten_by_engine(rc, dv):
    asked = dv.apply(say_and_double, 1)
    asked.get()
    rc.purge_results(targets=[0])
    assert rc.get_result(asked.msg_ids[1]).get() == 2
    with pytest.raises(KeyError):
        rc.get_result(asked.msg_ids[0])
    assert asked.msg_ids[0] not in rc.history
    assert asked.msg_ids[1] in rc.history


def test_everything_is_forgotten_once_it_is_done(rc, lv, tmp_path):
    gate = tmp_path / "gate"
    running = lv.apply(wait_for_file, str(gate), 5)
    for purge in (rc.purge_everything, lambda: rc.purge_local_results(running), lambda: rc.purge_results("all")):
        with pytest.raises(RuntimeError, match="no result yet"):
            purge()
    gate.touch()
    running.get(PATIENCE)
    rc.purge_everything()
    assert rc.history == rc.hub_history() == []


# --- stores --------------------------------------------------------------------------------------------------------


def test_without_a_store_the_error_says_so(tmp_path):
    with cluster_with("--nodb", folder=tmp_path) as rc:
        asked = rc.load_balanced_view().apply(say_and_double, 1)
        assert asked.get() == 2
        assert rc.get_result(asked.msg_ids[0]) is asked
        assert rc.result_status(asked) == {"pending": [], "completed": asked.msg_ids}
        assert rc.queue_status(verbose=True)[0] == {"queue": [], "tasks": [], "completed": []}
        for question in (rc.hub_history, lambda: rc.db_query({}), lambda: rc.get_result("x_1"), rc.resubmit):
            with pytest.raises(ipp.NoRecord, match="keeps no records .--nodb.: .*--sqlitedb"):
                question()


def test_what_went_when_newer_ones_came_is_told_with_the_budget(tmp_path):
    args = ("--DictDB.record_limit=5", "--DictDB.size_limit=4000000")
    with cluster_with(*args, folder=tmp_path) as rc:
        view = rc.load_balanced_view()
        asked = [view.apply(say_and_double, number) for number in range(3000)]
        rc.wait(asked)
        assert len(rc.hub_history()) <= 5
        rc.purge_local_results("all")
        with pytest.raises(ipp.NoRecord, match=r"newest 5 finished tasks are kept, .*DictDB.record_limit"):
            rc.get_result(asked[0].msg_ids[0])
        assert rc.get_result(rc.hub_history()[-1]).get() in range(6000)
        large = view.apply(ipp.interactive(lambda: bytes(2_000_000)))
        assert len(large.get()) == 2_000_000
        rc.purge_local_results("all")
        with pytest.raises(ipp.NoRecord, match=r"not kept: .* a quarter of DictDB.size_limit"):
            rc.get_result(large.msg_ids[0]).get()
        assert rc.statistics()["record_bytes"] < 4_000_000


def test_a_database_carries_history_to_the_next_run(tmp_path):
    factor = 7

    @ipp.interactive
    def scaled(array):
        print("scaled by", factor)
        return array * factor

    with cluster_with("--sqlitedb", folder=tmp_path, n=2) as rc:
        asked = rc.load_balanced_view().apply(scaled, np.ones(100_000))
        small = rc[:].apply(say_and_double, 3)
        assert (asked.get().sum(), small.get()) == (700_000.0, [6, 6])
        hanging = rc.load_balanced_view().apply(wait_for_file, str(tmp_path / "never"), 1)
        history = rc.hub_history()
        assert history == [*asked.msg_ids, *small.msg_ids, *hanging.msg_ids]
        # Before the engines, whose end would be the end of their tasks.
        rc.cluster.stop_controller_sync()
    assert (tmp_path / "tasks.db").is_file()
    with cluster_with("--sqlitedb", folder=tmp_path, n=2) as rc:
        assert rc.hub_history() == history
        found = rc.get_result(asked.msg_ids[0])
        assert found.get(PATIENCE).sum() == 700_000.0
        assert (found.stdout, found.engine_uuid) == ("scaled by 7\n", asked.engine_uuid)
        assert rc.get_result(small.msg_ids).get(PATIENCE) == [6, 6]
        again = rc.resubmit(asked.msg_ids[0])
        assert again.get(PATIENCE).sum() == 700_000.0
        assert rc.resubmit(small.msg_ids).get(PATIENCE) == [6, 6]
        lost = rc.get_result(hanging.msg_ids[0])
        with pytest.raises(ipp.NoRecord, match="had not ended when its controller did"):
            lost.get(PATIENCE)
        rc.purge_hub_results("all")
        assert rc.hub_history() == hanging.msg_ids


def test_many_tasks_reach_the_database(tmp_path):
    with cluster_with("--sqlitedb", "--SQLiteDB.table=many", folder=tmp_path, n=2) as rc:
        asked = rc.load_balanced_view().map_async(ipp.interactive(lambda x: x + 1), range(20_000), chunksize=1)
        assert sum(asked.get()) == sum(range(1, 20_001))
        assert len(rc.hub_history()) == 20_000
        assert len(rc.db_query({"completed": {"$ne": None}}, ["msg_id"])) == 20_000
        last = rc.db_query({"msg_id": asked.msg_ids[-1]})[0]
        assert (last["status"], last["client_uuid"]) == ("ok", rc.session)


def test_a_killed_controller_leaves_a_database_that_opens(tmp_path):
    cluster = Cluster(n=1, profile_dir=str(tmp_path), controller_args=["--sqlitedb"])
    with contextlib.suppress(Exception), cluster as rc:
        asked = rc.load_balanced_view().apply(say_and_double, 3)
        asked.get()
        rc.hub_history()  # answered after everything before it was written
        os.kill(rc.link.info.pid, signal.SIGKILL)
        rc.link.wait_for(lambda: False, PATIENCE)
    with cluster_with("--sqlitedb", folder=tmp_path) as rc:
        assert rc.get_result(asked.msg_ids[0]).get(PATIENCE) == 6


# --- sessions --------------------------------------------------------------------------------------------------------


def test_a_session_goes_on_with_another_client(rc, tmp_path):
    flag = tmp_path / "flag"
    source = rc.link.info
    with ipp.Client(source, session="tuesday", timeout=PATIENCE) as first:
        ended = first.load_balanced_view().apply_async(say_and_double, 3)
        ended.get(PATIENCE)
        rest = first[0].apply_async(wait_for_file, str(flag), 7)
        assert rest.wait_for_acceptance(PATIENCE)
        names = [ended.msg_id, rest.msg_id]
    with ipp.Client(source, session="tuesday.2", timeout=PATIENCE) as other:
        other[0].apply_async(abs, -1)
        assert other.attach() == []
    with ipp.Client(source, session="tuesday", timeout=PATIENCE) as second:
        own = second[1].apply_async(abs, -2)
        found = second.attach()
        assert [each.msg_id for each in found] == names
        assert own.msg_id not in names
        assert (found[0].get(PATIENCE), found[0].stdout) == (6, "doubling 3\n")
        assert not found[1].done()
        flag.touch()
        assert (found[1].get(PATIENCE), found[1].stdout) == (7, "waiting\n")
    again = ipp.attach("tuesday", source, timeout=PATIENCE)
    with again[0].client:
        assert [each.get(PATIENCE) for each in again] == [6, 7, 2]


def test_a_session_without_a_name(rc):
    with pytest.raises(ValueError, match="tuesday"):
        rc.attach()
    with pytest.raises(ValueError, match="letters"):
        ipp.Client(session="a*b")
