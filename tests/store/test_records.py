"""Records are made from the messages that travelled."""

from __future__ import annotations

from enginery.store.records import KEYS, Entry, Origin, record_of, size_of
from enginery.wire.messages import CLIENT_SHIFT, Action, Dependency, EngineInfo, Fault, Options, Output, Result, Task

ORIGIN = Origin(3, "c0ffee", "ada")
ID = (3 << CLIENT_SHIFT) | 17
ENGINE = EngineInfo(2, "engine-uuid", 4711, "node7")


def test_a_task_that_has_not_ended():
    options = Options(targets=[1], after=Dependency([ID - 1]), retries=2, timeout=1.5, label="sweep")
    task = Task(ID, Action.APPLY, b"\xab\xcd", b"arguments", options=options)
    record = record_of(Entry(ORIGIN, task, submitted=1000.5, buffers=[b"arguments"]))
    assert record["msg_id"] == "c0ffee_17"
    assert record["submitted"].timestamp() == 1000.5
    assert record["client_uuid"] == record["header"]["session"] == "c0ffee"
    assert record["header"]["username"] == "ada"
    assert record["header"]["msg_type"] == "apply_request"
    assert record["content"] == {"action": "apply", "function": "abcd"}
    assert record["metadata"] == {
        "after": ["c0ffee_16"], "priority": 0, "retries": 2, "targets": [1], "timeout": 1.5,
    }  # fmt: skip
    assert (record["label"], record["queue"], record["status"]) == ("sweep", "task", None)
    assert record["completed"] is None
    assert record["result_buffers"] is None
    assert record.keys() | {"resubmitted"} == set(KEYS)


def test_a_task_that_ended_well():
    task = Task(ID, Action.EXECUTE, b"", b"code")
    result = Result(ID, 0, b"value", started=1001.0, finished=1002.0)
    said = [
        Output(ID, "stdout", "one "),
        Output(ID, "stderr", "err"),
        Output(ID, "stdout", "two"),
        Output(ID, "display", "", b"\x80"),
        Output(ID, "result", "", b"\x81\xa4data\x01"),
    ]
    entry = Entry(ORIGIN, task, True, ENGINE, result, 1000.0, 1002.5, [b"code"], [b"value"], said)
    record = record_of(entry)
    assert record["queue"] == "mux"
    assert record["header"]["msg_type"] == "execute_request"
    assert (record["engine_id"], record["engine_uuid"]) == (2, "engine-uuid")
    assert [record[key].timestamp() for key in ("started", "completed", "received")] == [1001.0, 1002.0, 1002.5]
    assert (record["status"], record["error"], record["result_content"]) == ("ok", None, {"status": "ok"})
    assert (record["stdout"], record["stderr"]) == ("one two", "err")
    assert record["outputs"] == [["display", b"\x80"], ["result", b"\x81\xa4data\x01"]]
    assert record["execute_result"] == {"data": 1}
    assert record["result_buffers"] == [b"value"]


def test_a_task_that_failed_and_one_that_never_ran():
    fault = Fault("remote", "ValueError", "no", "Traceback ...")
    task = Task(ID, Action.APPLY, b"", b"")
    failed = record_of(Entry(ORIGIN, task, engine=ENGINE, result=Result(ID, 1, b"", fault=fault), received=5.0))
    assert (failed["status"], failed["error"]) == ("error", "ValueError: no")
    assert failed["result_content"] == {
        "status": "error", "ename": "ValueError", "evalue": "no", "traceback": "Traceback ...", "kind": "remote",
    }  # fmt: skip
    never = record_of(Entry(ORIGIN, task, result=Result(ID, 2, b""), received=5.0))
    assert (never["status"], never["started"], never["engine_id"]) == ("aborted", None, None)
    assert never["completed"].timestamp() == 5.0


def test_times_that_no_calendar_has():
    result = Result(ID, 0, b"", started=1e300, finished=float("nan"))
    record = record_of(Entry(ORIGIN, Task(ID, Action.APPLY, b"", b""), result=result))
    assert record["started"] is None


def test_output_that_is_no_message():
    entry = Entry(
        ORIGIN, Task(ID, 0, b"", b""), result=Result(ID, 0, b""), said=[Output(ID, "result", "", b"\xff\xc1")]
    )
    assert record_of(entry)["execute_result"] in {None, -1}


def test_the_size_counts_what_is_large():
    record = record_of(Entry(ORIGIN, Task(ID, 0, b"", b""), buffers=[bytes(5000)]))
    assert 5000 < size_of(record) < 8000
    assert size_of({**record, "stdout": "x" * 9000}) > 14_000
