"""DirectView: targets, data, source text."""

from __future__ import annotations

import builtins

import pytest

from enginery.client import active
from enginery.client.map_result import AsyncMapResult
from enginery.errors import NoEnginesRegistered, RemoteError, SerializationError


def test_shape_of_results_follows_targets(client):
    assert client[0].apply_sync(abs, -1) == 1
    assert client[-1].apply_sync(abs, -1) == 1
    assert client[[1]].apply_sync(abs, -1) == [1]
    assert client[:].apply_sync(abs, -1) == [1, 1]
    assert client.direct_view("all").apply_sync(abs, -1) == [1, 1]
    assert client[0].apply_sync(lambda **kw: kw, f=3) == {"f": 3}


def test_all_is_looked_up_at_each_call(client, link):
    everybody, frozen = client.direct_view(), client[:]
    link.join(7)
    assert len(everybody.apply_sync(abs, -1)) == 3
    assert len(frozen.apply_sync(abs, -1)) == 2
    link.leave(0)
    with pytest.raises(IndexError, match=r"no engine 0. Registered engines: \[1, 7\]"):
        frozen.apply_sync(abs, -1)


def test_targets_that_are_not_there(client, link):
    with pytest.raises(IndexError, match=r"no engine 9\. Registered engines: \[0, 1\]"):
        client[9]
    with pytest.raises(IndexError, match="-3"):
        client[-3]
    with pytest.raises(TypeError, match="'everything'"):
        client.direct_view("everything")
    link.leave(0, 1)
    with pytest.raises(NoEnginesRegistered, match="wait_for_engines"):
        client.direct_view().apply_async(abs, -1)
    with pytest.raises(NoEnginesRegistered):
        client[0]


def test_push_pull_and_the_mapping(client, dview):
    dview.push({"a": 5, "b": [1]}, block=True)
    assert dview.pull("a", block=True) == [5, 5]
    assert client[1].pull(["a", "b"], block=True) == [5, [1]]
    assert dview.pull("a + 1", targets=0, block=True) == 6
    dview["c"] = "x"
    assert dview["c"] == ["x", "x"]
    assert dview.get(("a", "c")) == [[5, "x"], [5, "x"]]
    dview.update({"a": 6}).wait()
    assert client[0]["a"] == 6
    dview.clear(block=True)
    with pytest.raises(RemoteError, match="NameError"):
        dview["a"]
    with pytest.raises(TypeError, match="dict"):
        dview.push([1])
    with pytest.raises(TypeError, match="strings"):
        dview.push({1: 2})
    with pytest.raises(TypeError, match="strings"):
        dview.pull([1])
    with pytest.raises(TypeError, match="cannot be asked"):
        "a" in dview  # noqa: B015
    with pytest.raises(TypeError):
        iter(dview)


def test_execute_and_run(client, dview, tmp_path):
    ar = dview.execute("x = 6 * 7", block=True)
    assert ar.done()
    assert [reply.execution_count for reply in ar.get()] == [7, 7]
    assert ar[0]["source"] == ar[0].source == "x = 6 * 7"
    assert ar[0].engine_id == 0
    assert ar[0].status == "ok"
    with pytest.raises(AttributeError):
        ar[0].nothing
    assert repr(ar[0]) == "<ExecuteReply[7]: no output>"
    assert "data" in ar[0].keys()  # noqa: SIM118
    assert dview["x"] == [42, 42]
    script = tmp_path / "script.py"
    script.write_text("y = x + 1")
    client[0].run(script, block=True)
    assert client[0]["y"] == 43
    with pytest.raises(RemoteError, match="ZeroDivisionError"):
        client[0].execute("1 / 0", block=True)
    assert client[0].execute("1 / 0").metadata.msg_id
    with pytest.raises(OSError, match="nowhere"):
        dview.run(tmp_path / "nowhere.py")


@pytest.mark.parametrize("dist", ["b", "r"])
def test_scatter_and_gather(client, dview, dist):
    dview.scatter("part", list(range(5)), dist=dist, block=True)
    assert dview["part"] == ([[0, 1, 2], [3, 4]] if dist == "b" else [[0, 2, 4], [1, 3]])
    gathered = dview.gather("part", dist=dist)
    assert isinstance(gathered, AsyncMapResult)
    assert gathered.get() == [0, 1, 2, 3, 4]
    assert sorted(gathered) == [0, 1, 2, 3, 4]
    dview.scatter("rank", client.ids, flatten=True, block=True)
    assert dview["rank"] == [0, 1]
    assert dview.gather("rank", block=True) == [0, 1]
    dview.scatter("part", "abc", targets=1, block=True)
    assert client[1]["part"] == "abc"


def test_scatter_of_arrays(dview):
    numpy = pytest.importorskip("numpy")
    array = numpy.arange(20_000.0).reshape(10_000, 2)
    dview.scatter("part", array, block=True)
    assert dview.apply_sync(lambda: part.shape) == [(5000, 2)] * 2  # noqa: F821 - on the engines
    assert numpy.array_equal(dview.gather("part", block=True), array)


def test_map_is_one_share_per_engine(dview, link):
    ar = dview.map(lambda n: n * n, range(5))
    assert len(link.submitted) == 2
    assert len(ar) == 5
    assert ar.get() == [0, 1, 4, 9, 16]
    assert ar.progress == 5
    assert dview.map_sync(pow, iter([2, 3]), [2, 2, 2]) == [4, 9]
    assert dview.map_sync(abs, [-1]) == [1]
    assert dview.map_sync(abs, []) == []
    assert list(dview.imap(abs, range(-3, 0))) == [3, 2, 1]


def test_block_flag(client):
    view = client.direct_view(block=True)
    assert view.apply(abs, -1) == [1, 1]
    assert view.map(abs, [-1, -2]) == [1, 2]
    assert view.push({"a": 1}) == [None, None]
    assert view.pull("a") == [1, 1]
    assert view.apply_async(abs, -1) is not None
    assert client[:].apply(abs, -1).get() == [1, 1]


def test_what_cannot_be_sent_is_said_at_once(dview, link):
    import threading

    with pytest.raises(SerializationError, match="argument 1"):
        dview.apply_async(print, threading.Lock())
    assert not link.submitted


def test_labels(dview):
    ar = dview.execute("1", label="cell")
    ar.wait()
    assert ar.label == ["cell", "cell"]


def test_imports_are_mirrored(dview, capsys):
    original = builtins.__import__
    with dview.sync_imports():
        import colorsys  # noqa: F401 - what is imported here is looked for there
        from fractions import Fraction  # noqa: F401
    assert builtins.__import__ is original
    assert (
        capsys.readouterr().out == "importing colorsys on engine(s)\nimporting Fraction from fractions on engine(s)\n"
    )
    assert dview.pull("colorsys.__name__, Fraction.__name__", block=True) == [("colorsys", "Fraction")] * 2
    with dview.importer:
        pass
    with pytest.raises(ValueError, match="local"):
        dview.sync_imports(local=False)


def test_activate(client, dview):
    dview.activate("_test")
    assert active.views["_test"] is dview
    assert client.activate(0, "_test").block
    del active.views["_test"]
    with pytest.raises(TypeError):
        dview.activate(3)
