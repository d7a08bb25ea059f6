"""Client: views, memory, waiting, engines."""

from __future__ import annotations

import gc
import threading

import pytest

from enginery.client.broadcast import BroadcastView
from enginery.client.client import Client
from enginery.client.connect import find_connection
from enginery.client.direct import DirectView
from enginery.client.log import LENGTH
from enginery.errors import ConnectionFileError, ConnectionLost, EngineError, TaskAborted
from enginery.net.connection_file import ConnectionInfo
from enginery.net.profile_paths import find_connection_file


def test_engines(client):
    assert client.ids == [0, 1]
    assert len(client) == 2
    assert [view.targets for view in client] == [0, 1]
    assert isinstance(client[0], DirectView)
    assert client[::-1].targets == [1, 0]
    assert client[range(2)].targets == client[(0, 1)].targets == [0, 1]
    with pytest.raises(TypeError, match="indexed by"):
        client["a"]
    assert repr(client) == "<Client engines=2 outstanding=0>"


def test_broadcast_view(client):
    view = client.broadcast_view(is_coalescing=True)
    assert isinstance(view, BroadcastView)
    ar = view.apply_async(abs, -1)
    assert ar.get() == [1, 1]
    assert ar.is_broadcast == ar.is_coalescing == [True, True]
    assert view.map_sync(abs, [-1, -2, -3]) == [1, 2, 3]
    assert view.with_flags(is_coalescing=False).execute("1").is_coalescing == [False, False]


def test_history_and_lookups(client, lview):
    a, b = lview.apply_async(abs, 1), client[:].apply_async(abs, 2)
    assert client.history == ["s0_0", "s0_1", "s0_2"]
    assert lview.history == ["s0_0"]
    assert client.outstanding == {"s0_0", "s0_1", "s0_2"}
    assert lview.outstanding == {"s0_0"}
    assert client.wait()
    assert client.outstanding == set()
    assert client.results["s0_0"] == 1
    assert client.results["s0_2"] == 2
    assert client.metadata["s0_1"].engine_id == 0
    assert sorted(client.results) == client.history
    assert len(client.metadata) == 3
    assert client.get_result("s0_0") is a
    assert client.get_result(-1).get() == 2
    assert client.get_result() is b.split()[1]
    assert client.get_result(b) is b
    assert client.get_result(["s0_0", "s0_1"]).get() == [1, 2]
    assert client.get_result("s0_0", block=True) == 1
    assert lview.get_result() is a
    with pytest.raises(KeyError, match="no record of .*other_5"):
        client.get_result("other_5")
    with pytest.raises(KeyError, match="no record of .*s0_99"):
        client.get_result("s0_99")
    with pytest.raises(IndexError, match="no request 77"):
        client.get_result(77)
    with pytest.raises(TypeError):
        client.get_result(1.5)
    with pytest.raises(IndexError, match="not asked"):
        client[0].get_result()


def test_results_nobody_holds_are_forgotten(client, lview):
    lview.apply_async(abs, 1).get()
    gc.collect()
    assert client.history == ["s0_0"]
    assert client.log.results() == []
    with pytest.raises(KeyError):
        client.results["s0_0"]


def test_memory_is_bounded(client, lview, link):
    for _ in range(LENGTH + 10):
        lview.apply_async(abs, 1)
    link.run()
    assert len(client.history) == LENGTH
    assert client.history[-1] == f"s0_{LENGTH + 9}"
    lview.map(abs, range(LENGTH * 2)).get()
    assert len(client.history) == LENGTH


def test_wait(client, lview, link):
    link.held = True
    results = [lview.apply_async(abs, 1) for _ in range(3)]
    assert not client.wait(results, 0)
    assert not lview.wait(timeout=0)
    assert not client.wait(timeout=0)
    link.run()
    assert client.wait(results)
    assert client.wait([*results[0].msg_ids, results[1], 0])
    assert lview.wait()
    assert client.wait_interactive(results)


def test_wait_takes_foreign_futures(client):
    from concurrent.futures import Future

    future = Future()
    assert not client.wait(future, 0.01)
    future.set_result(1)
    assert client.wait([future])


def test_abort(client, lview, link):
    link.held = True
    a, b, c = lview.apply_async(abs, 1), client[0].apply_async(abs, 1), client[1].apply_async(abs, 1)
    client.abort(targets=1)
    assert [ar.done() for ar in (a, b, c)] == [False, False, True]
    lview.abort()
    assert a.done()
    client.abort(block=True)
    for ar in (a, b, c):
        assert isinstance(ar.exception(), TaskAborted)
    client.abort()


def test_questions_and_orders(client, link):
    assert client.queue_status()["unassigned"] == 0
    assert client.queue_status(1) == {"queue": 0, "tasks": 0, "completed": 0}
    assert set(client[:].queue_status()) == {0, 1, "unassigned"}
    client.send_signal("SIGINT", 0)
    assert link.asked[-1] == ("signal", [0], "SIGINT")
    client.clear(block=True)
    client.shutdown(0, block=True)
    assert client.ids == [1]
    client.shutdown(hub=True)
    assert link.asked[-1] == ("shutdown", [1], False, True)
    assert repr(client) == "<Client closed>"


def test_closing(client, lview, link):
    link.held = True
    ar = lview.apply_async(abs, 1)
    client.close()
    with pytest.raises(ConnectionLost):
        ar.get()
    with pytest.raises(ConnectionLost):
        lview.apply_async(abs, 1)


def test_wait_for_engines(client, link):
    client.wait_for_engines(2)
    with pytest.raises(TimeoutError, match=r"2 of 3 engines are there after 0\.01 s"):
        client.wait_for_engines(3, timeout=0.01)
    with pytest.raises(TypeError, match="needs a number"):
        client.wait_for_engines()
    timer = threading.Timer(0.01, link.join, [2])
    timer.start()
    client.wait_for_engines(3, timeout=10)
    timer.join()
    future = client.wait_for_engines(4, block=False, timeout=10)
    link.join(3)
    assert future.result(10) is None
    timer = threading.Timer(0.01, link.leave, [2], {"reason": "killed by SIGKILL"})
    timer.start()
    with pytest.raises(EngineError, match=r"Engine 2 left .* SIGKILL"):
        client.wait_for_engines(9, timeout=10)
    timer.join()
    client.wait_for_engines(2, interactive=True)


def test_wait_for_engines_with_a_bar(client, link, capsys, monkeypatch):
    wait = link.wait_for

    def join_and_wait(predicate, timeout=None):
        if 2 not in link.engines:  # not before the wait has begun, or there would be no bar
            link.join(2)
        return wait(predicate, timeout)

    monkeypatch.setattr(link, "wait_for", join_and_wait)
    client.wait_for_engines(3, timeout=10, interactive=True)
    assert "3/3" in capsys.readouterr().err


def test_an_engine_that_left_is_still_known(client, link):
    link.leave(1)
    assert client.engine_info(1, "apply")["engine_uuid"] == "uuid-1"
    assert client.engine_info(-1, "apply")["engine_id"] is None


# --- finding the controller ---------------------------------------------------------------------------------------


def find(connection_info=None, **kwargs):
    defaults = {"profile": None, "profile_dir": None, "ipython_dir": None, "cluster_id": None, "timeout": 0.01}
    return find_connection(connection_info, **defaults | kwargs)


def test_nothing_there(tmp_path):
    with pytest.raises(FileNotFoundError, match="nowhere"):
        Client(tmp_path / "nowhere.json")
    with pytest.raises(ValueError, match="is a URL"):
        Client("tcp://127.0.0.1:1234")
    with pytest.raises(FileNotFoundError, match="ipcluster start"):
        Client(profile_dir=tmp_path, timeout=0.01)
    with pytest.raises(TypeError, match="profil="):
        Client(profil="x")


def test_files_and_mappings(tmp_path):
    info = ConnectionInfo("client", "tcp://127.0.0.1:1")
    path = info.save(find_connection_file("client", profile_dir=tmp_path))
    assert find(profile_dir=tmp_path)[0] == info
    assert find(str(path))[0] == info
    assert find(info.to_dict())[0] == info
    assert find(info)[0] is info
    with pytest.raises(ConnectionFileError, match="for engines"):
        find(ConnectionInfo("engine", "tcp://127.0.0.1:1"))
    path.write_text("{")
    with pytest.raises(ConnectionFileError, match="JSON"):
        find(path)
