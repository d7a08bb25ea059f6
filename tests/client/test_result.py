"""AsyncResult: values, errors, metadata, timing, parts."""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import FIRST_COMPLETED, FIRST_EXCEPTION
from datetime import timedelta

import fake_link
import pytest

from enginery.client.metadata import KEYS
from enginery.client.result import AsyncResult
from enginery.errors import CompositeError, EngineError, RemoteError, TaskAborted
from enginery.wire.messages import Fault, Result, Status
from enginery.wire.serialize import pack


def test_one_value_for_everybody(lview):
    ar = lview.apply_async(list, "ab")
    assert ar.get() == ["a", "b"]
    assert ar.get() is ar.get() is ar.result() is ar.r


def test_all_threads_get_the_same_object(lview, link):
    link.held = True
    for _ in range(10):
        ar = lview.apply_async(list, range(100))
        link.run()
        found = []
        threads = [threading.Thread(target=lambda ar=ar, to=found: to.append(ar.get())) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert all(each is found[0] for each in found)


def test_packed_form_is_let_go(lview, dview):
    ar = lview.apply_async(bytes, 100)
    ar.get()
    assert ar._arrived.result.payload == b""


def test_remote_errors_name_engine_and_method(lview):
    ar = lview.apply_async(int, "x")
    with pytest.raises(RemoteError, match="invalid literal") as caught:
        ar.get()
    assert caught.value.ename == "ValueError"
    assert caught.value.engine_info["engine_id"] in {0, 1}
    assert caught.value.engine_info["engine_uuid"].startswith("uuid-")
    assert caught.value.engine_info["method"] == "apply"
    assert ar.exception() is caught.value
    assert not ar.successful()
    assert ar.status == "error"
    assert "invalid literal" in ar.error
    assert ar.get(return_exceptions=True) is caught.value


def test_errors_of_several_engines_come_together(client):
    ar = client[:].apply_async(int, "x")
    with pytest.raises(CompositeError) as caught:
        ar.get()
    assert len(caught.value.elist) == 2
    assert [type(each) for each in ar.get(return_exceptions=True)] == [RemoteError, RemoteError]


def test_faults_of_the_system_are_their_own_classes(lview, link):
    link.held = True
    ar = lview.apply_async(abs, 1)
    engine, task, _, sink, _ = link.queue.popleft()
    fault = Fault("EngineError", "EngineError", "Engine 0 (pid 1000 on fakehost) left: killed by SIGKILL.")
    link.deliver(sink, Result(task.id, Status.LOST, b"", fault=fault), engine)
    with pytest.raises(EngineError, match="SIGKILL") as caught:
        ar.get()
    assert caught.value.engine_id == engine
    assert caught.value.pid == 1000 + engine


def test_a_value_that_cannot_be_unpacked_here_is_an_error(lview, link):
    link.held = True
    ar = lview.apply_async(abs, 1)
    link.deliver(link.queue.popleft()[3], Result(ar._first, Status.OK, b"garbage"), 0)
    with pytest.raises(Exception) as caught:
        ar.get()
    assert "on the client" in caught.value.__notes__[0]


def test_late_results_of_a_done_request_are_dropped(client, link):
    link.held = True
    ar = client[:].apply_async(abs, -1)
    link.run()
    assert ar.get() == [1, 1]
    assert not ar.arrived(Result(ar._first, Status.OK, pack(7)[0]), 0, [], 1.0)
    assert ar.get() == [1, 1]


def test_ready_and_successful(lview, link):
    link.held = True
    ar = lview.apply_async(abs, -1)
    assert not ar.ready()
    with pytest.raises(RuntimeError, match="not ready"):
        ar.successful()
    assert not ar.wait(0)
    link.held = False
    assert ar.wait()
    assert ar.ready()
    assert ar.successful()


def test_get_dict(client, lview):
    assert client[:].apply_async(abs, -1).get_dict() == {0: 1, 1: 1}
    assert client[1].apply_async(abs, -1).result_dict == {1: 1}
    twice = AsyncResult.join(client[0].apply_async(abs, 1), client[0].apply_async(abs, 2))
    with pytest.raises(ValueError, match="Engine 0 ran more than one"):
        twice.get_dict()


def test_metadata(client, lview):
    ar = lview.with_flags(label="mine").apply_async(abs, -1)
    assert ar.started is None
    assert ar["status"] is None
    ar.get()
    md = ar.metadata
    assert set(md) == KEYS
    assert md.msg_id == ar.msg_ids[0] == ar.msg_id == "s0_0"
    assert md.label == ar.label == "mine"
    assert md["status"] == "ok"
    assert md.completed - md.started == timedelta(seconds=0.5)
    assert md.started.utcoffset() == timedelta(0)
    assert ar.engine_id in {0, 1}
    both = client[:].apply_async(abs, -1)
    both.get()
    assert both.engine_id == both["engine_id"] == [0, 1]
    assert [each.engine_uuid for each in both.metadata] == ["uuid-0", "uuid-1"]
    with pytest.raises(AttributeError):
        ar.no_such_key
    with pytest.raises(KeyError, match="no_such_key"):
        ar["no_such_key"]
    with pytest.raises(KeyError):
        md["no_such_key"] = 1
    with pytest.raises(AttributeError):
        md.no_such_key
    with pytest.raises(AttributeError):
        md.no_such_key = 1


def test_indexing(client, link):
    link.held = True
    ar = client[:].apply_async(abs, -1)
    with pytest.raises(TimeoutError, match="not ready"):
        ar[0]
    link.run()
    assert ar[0] == 1
    assert ar[0:2] == [1, 1]
    assert client[0].apply_async(abs, -1)
    with pytest.raises(TypeError):
        ar[1.5]


def test_iteration_yields_as_they_come(client, link):
    link.held = True
    ar = client[:].apply_async(abs, -1)
    link.run(1)
    values = iter(ar)
    assert next(values) == 1
    link.held = False
    assert next(values) == 1
    assert len(ar) == 2
    with pytest.raises(TypeError, match="one result"):
        iter(client[0].apply_async(abs, -1))


def test_async_iteration(client, link):
    link.held = True

    async def main():
        ar = client[:].apply_async(abs, -1)
        asyncio.get_running_loop().call_later(0.01, link.run)
        values = [value async for value in ar]
        assert not ar._wakers
        return values

    assert asyncio.run(main()) == [1, 1]


def test_timing(lview, client, link):
    link.held = True
    ar = client[:].apply_async(abs, -1)
    assert ar.elapsed >= 0
    assert ar.progress == 0
    with pytest.raises(TimeoutError):
        ar.serial_time
    with pytest.raises(TimeoutError):
        ar.wall_time
    link.run(1)
    assert ar.progress == 1
    link.run()
    assert ar.progress == 2
    assert ar.serial_time == pytest.approx(1.0)
    assert ar.wall_time == ar.elapsed == ar.elapsed
    assert ar.timedelta(ar.started, ar.metadata[1].completed) == pytest.approx(1.5)


def test_wait_return_when(client, link):
    link.held = True
    ar = client[:].apply_async(abs, -1)
    link.run(1)
    done, pending = ar.wait(return_when=FIRST_COMPLETED)
    assert (len(done), len(pending)) == (1, 1)
    with pytest.raises(ValueError, match="return_when"):
        ar.wait(return_when="LAST")
    link.run()
    assert ar.wait(return_when=FIRST_EXCEPTION)[1] == set()


def test_get_can_raise_at_the_first_error(client, link):
    link.held = True
    client[0].push({"bad": True})
    ar = client[:].execute("1 / 0 if 'bad' in globals() else None")
    link.run(2)
    with pytest.raises(CompositeError, match="ZeroDivisionError"):
        ar.get(return_when=FIRST_EXCEPTION)
    assert not ar.done()


def test_split_and_join(client, link):
    link.held = True
    ar = client[:].apply_async(abs, -1)
    first, second = parts = ar.split()
    assert parts == ar.split()
    seen = []
    first.add_done_callback(seen.append)
    link.run(1)
    assert seen == [first]
    assert first.get() == 1
    assert first.engine_id == 0
    assert not second.done()
    again = AsyncResult.join(*parts)
    link.run()
    assert again.done()
    assert again.get() == [1, 1]
    assert again.msg_ids == ar.msg_ids
    assert [each.engine_id for each in again.metadata] == [0, 1]
    assert first.get() is ar.get()[0]
    with pytest.raises(ValueError, match="at least one"):
        AsyncResult.join()
    single = client[0].apply_async(abs, -1)
    assert single.split() == [single]


def test_parts_of_a_done_result_are_done(client):
    ar = client[:].apply_async(int, "x")
    ar.wait()
    for part in ar.split():
        assert part.done()
        assert isinstance(part.exception(), RemoteError)


def test_parts_are_cancelled_with_the_whole(client, link):
    link.held = True
    ar = client[:].apply_async(abs, -1)
    parts = ar.split()
    ar.cancel()
    assert all(part.cancelled() for part in parts)


def test_abort(lview, link):
    link.held = True
    ar = lview.apply_async(abs, -1)
    ar.abort()
    with pytest.raises(TaskAborted, match="taken back"):
        ar.get()
    assert ar.status == "aborted"
    with pytest.raises(RuntimeError, match="done already"):
        ar.abort()


def test_why(client, link):
    link.held = True
    ar = client[:].apply_async(abs, -1)
    assert ar.why().splitlines() == [
        "2 of 2 requests are not done.",
        f"{ar.msg_ids[0]}: It runs on engine 0.",
        f"{ar.msg_ids[1]}: It runs on engine 0.",
    ]
    link.run()
    assert ar.why() == "It is done."


def speak(kind, *texts):
    for text in texts:
        fake_link.current.say(kind, text)


def test_output(client, capsys):
    ar = client[0].apply_async(speak, "stdout", "a\n", "b\n")
    ar.get()
    assert ar.stdout == "a\nb\n"
    assert ar.stderr == ""
    ar.display_outputs()
    assert capsys.readouterr().out == "[stdout:0]\na\nb\n"
    both = client[:].apply_async(speak, "stderr", "oops\n")
    both.get()
    assert both.stderr == ["oops\n", "oops\n"]
    both.display_outputs("engine")
    both.display_outputs("order")
    assert capsys.readouterr().err == "[stderr:0-1] oops\n" * 2
    with pytest.raises(ValueError, match="groupby"):
        both.display_outputs("colour")


def test_stream_output(client, link, capsys):
    link.held = True
    ar = client[:].apply_async(speak, "stdout", "hello\n")
    link.run(1)
    with ar.stream_output():
        link.run()
        ar.get()
    assert capsys.readouterr().out == "[stdout:0-1] hello\n"
    assert not ar._spoken.listeners


def test_repr(client, lview, link):
    link.held = True
    ar, both = lview.apply_async(abs, -1), client[:].apply_async(int, "x")
    assert repr(ar) == "<AsyncResult(abs): pending>"
    assert repr(both) == "<AsyncResult(int): 0 of 2 done>"
    link.run()
    assert repr(ar) == "<AsyncResult(abs): finished>"
    assert repr(both) == "<AsyncResult(int): failed>"
    link.held = True
    gone = lview.apply_async(abs, 1)
    gone.cancel()
    assert repr(gone) == "<AsyncResult(abs): cancelled>"


def test_wait_interactive_shows_a_bar(client, capsys):
    ar = client[:].map_async(abs, range(10))
    assert ar.wait_interactive()
    assert "10/10" in capsys.readouterr().err


def test_truth_is_not_emptiness(lview):
    assert lview.map_async(abs, [])
    assert len(lview.map_async(abs, [])) == 0
