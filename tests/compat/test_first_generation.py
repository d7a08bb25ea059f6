"""The examples of IPython 0.10, and what else its two clients do, on a real cluster."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from enginery.compat import client
from enginery.errors import CompositeError, RemoteError

pytestmark = pytest.mark.slow


@pytest.fixture
def mec(cluster):
    mec = client.MultiEngineClient(cluster.client)
    mec.reset()
    return mec


@pytest.fixture
def tc(cluster):
    return client.TaskClient(cluster.client)


def test_hello_world(mec):
    assert mec.get_ids() == [0, 1]
    shown = repr(mec.execute('print("Hello World")')).splitlines()
    assert shown[0] == "<Results List>"
    assert shown[1].startswith("[0] In [")
    assert shown[2].endswith("]: Hello World")


def test_furl_paths_lead_to_the_json_file_beside_them(cluster, tmp_path):
    (found,) = Path(cluster.profile_dir).glob("security/ipcontroller*-client.json")
    shutil.copy(found, tmp_path / "ipcontroller-client.json")  # with its mode: others may not read it
    for made in (client.MultiEngineClient, client.TaskClient):
        connected = made(str(tmp_path / "ipcontroller-mec.furl"))
        assert connected.client.ids == [0, 1]
        connected.client.close()


def test_names_on_engines(mec):
    mec["a"] = 5
    assert mec["a"] == [5, 5]
    mec.push({"b": 6}, targets=1)
    assert mec.pull("b", targets=1) == [6]
    assert mec.keys() == [["a"], ["a", "b"]]
    mec.push_function({"f": lambda x: x + 1})
    assert [f(1) for f in mec.pull_function("f")] == [2, 2]
    mec.scatter("part", range(4))
    assert list(mec.gather("part")) == [0, 1, 2, 3]
    assert mec.map(lambda x: x * 2, range(4)) == [0, 2, 4, 6]


def test_pending_results(mec):
    pending = mec.execute("3 + 4", block=False)
    mec.barrier([pending])
    assert [row["pyout"] for row in pending.r] == ["7", "7"]
    assert mec.get_result() == pending.get_result(block=False)
    with pytest.raises(CompositeError):
        mec.execute("1 / 0", block=False).get_result()
    assert [each for each, _ in mec.queue_status()] == [0, 1]


def test_tasks(tc):
    text = tc.run(client.StringTask("b = a * 2", push={"a": 21}, pull="b", clear_after=True))
    call = tc.run(client.MapTask(pow, (2, 3)))
    wrong = tc.run(client.MapTask(divmod, (1, 0), retries=1))
    tc.barrier()
    assert tc.get_task_result(text).ns.b == 42
    assert tc.get_task_result(call) == 8
    with pytest.raises(RemoteError):
        tc.get_task_result(wrong)
    assert tc.queue_status() == {"pending": 0, "succeeded": 2, "failed": 1}
    tc.clear()
    with pytest.raises(KeyError):
        tc.get_task_result(text)
    assert tc.map(abs, [-1, -2]) == [1, 2]
