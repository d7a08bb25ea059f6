"""Rows of IPython 0.10: its two clients and the styles of work that its texts name."""

from __future__ import annotations

import os

import pytest

from enginery.compat import client as clients

pytestmark = pytest.mark.slow


@pytest.fixture
def mec(cluster, monkeypatch):
    monkeypatch.setenv("IPYTHONDIR", str(cluster.home))
    mec = clients.MultiEngineClient()
    mec.client.wait_for_engines(2, timeout=30)
    mec.reset()
    yield mec
    mec.client.close()


@pytest.fixture
def tc(cluster, monkeypatch):
    monkeypatch.setenv("IPYTHONDIR", str(cluster.home))
    tc = clients.TaskClient()
    yield tc
    tc.client.close()


@pytest.mark.row(100)
def test_row_100_the_packages(former, cluster):
    """``from IPython.kernel import client`` and ``IPython.parallel`` with today's package in their place."""
    code = """
import {0} as package
rc = package.Client()
rc.wait_for_engines(2, timeout=30)
print(rc[:].apply_sync(abs, -1))
rc.close()
"""
    former.environment["IPYTHONDIR"] = str(cluster.home)
    for package in ("enginery", "ipyparallel"):
        assert former.run_code(code.format(package)).stdout == "[1, 1]\n"
    done = former.run_code("from enginery.compat import client\nprint(len(client.MultiEngineClient().get_ids()))")
    assert done.stdout == "2\n", done.stderr


@pytest.mark.row(101, 102)
def test_row_101_a_client_of_all_engines(mec, cluster):
    assert mec.get_ids() == [0, 1]
    furl = cluster.profile() / "security" / "ipcontroller-mec.furl"
    again = clients.MultiEngineClient(str(furl))
    assert again.get_ids() == [0, 1]
    again.client.close()
    with pytest.raises(OSError, match="ipcontroller-client.json"):
        clients.MultiEngineClient("/nowhere/ipcontroller-mec.furl")


@pytest.mark.row(103)
def test_row_103_what_execute_shows(mec):
    numbers = [row["number"] for row in mec.execute("pass")]
    shown = repr(mec.execute('print("Hello World")'))
    assert shown.split("\n") == [
        "<Results List>",
        f'[0] In [{numbers[0] + 1}]: print("Hello World")',
        f"[0] Out[{numbers[0] + 1}]: Hello World",
        "",
        f'[1] In [{numbers[1] + 1}]: print("Hello World")',
        f"[1] Out[{numbers[1] + 1}]: Hello World",
    ]


@pytest.mark.row(104)
def test_row_104_a_client_of_tasks(tc, cluster):
    again = clients.TaskClient(str(cluster.profile() / "security" / "ipcontroller-tc.furl"))
    task = again.run(clients.StringTask("b = a * 2", push={"a": 21}, pull="b"))
    assert again.get_task_result(task, block=True).ns.b == 42
    again.client.close()
    assert tc.map(abs, range(-5, 0)) == [5, 4, 3, 2, 1]


@pytest.mark.row(105)
def test_row_105_engines_block_and_clients_do_not(mec, tc, tmp_path):
    gate = tmp_path / "gate"
    os.mkfifo(gate)
    first = mec.execute(f"gate = open({str(gate)!r}).read()", targets=0, block=False)
    queued = [mec.execute(f"a = {number}", targets=0, block=False) for number in range(5)]
    task = tc.run(clients.MapTask(os.getpid))  # by the other interface, to the engine that is free
    writing = os.open(gate, os.O_WRONLY)
    assert tc.get_task_result(task, block=True) in mec.pull("__import__('os').getpid()", targets=1)
    assert mec.pull("1 + 1", targets=1) == [2]
    assert queued[-1].get_result(block=False) is None
    os.close(writing)
    mec.barrier([first, *queued])
    assert mec.pull("a", targets=0) == [4]


@pytest.mark.row(106)
def test_row_106_styles(mec, tc, connect, cluster):
    mec.execute("rank = engine_id; part = rank + 1")  # one program, several data
    assert mec.pull("part") == [1, 2]
    mec.execute("role = 'reader'", targets=0)  # several programs
    mec.execute("role = 'writer'", targets=1)
    assert mec["role"] == ["reader", "writer"]
    mec.scatter("data", range(10))  # data parallel
    mec.execute("total = sum(data)")
    assert sum(mec["total"]) == 45
    assert sorted(tc.map(lambda x: x * 2, range(4))) == [0, 2, 4, 6]  # a farm
    collaborator = connect(cluster.profile() / "security" / "ipcontroller-client.json")
    assert collaborator[:].pull("total", block=True) == mec["total"]  # who joins a running job sees its data
