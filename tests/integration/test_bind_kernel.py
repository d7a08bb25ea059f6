"""An engine as a Jupyter kernel."""

from __future__ import annotations

import json
import os
import stat
from pathlib import Path

import pytest

from enginery.cluster.cluster import Cluster
from enginery.engine.kernel import bind_kernel
from enginery.errors import RemoteError

jupyter_client = pytest.importorskip("jupyter_client")

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore::DeprecationWarning")]
PATIENCE = 30


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("kernel")


@pytest.fixture(scope="module")
def bound(cluster, folder):
    path = cluster.client[0].apply_sync(bind_kernel, connection_file=str(folder / "kernel.json"))
    front = jupyter_client.BlockingKernelClient(connection_file=path)
    front.load_connection_file()
    front.start_channels()
    front.wait_for_ready(timeout=PATIENCE)
    yield front, path
    front.stop_channels()


@pytest.fixture
def front(bound):
    return bound[0]


def run(front, code, **options):
    """The reply, and what was said: pairs of type and content."""
    said = []
    reply = front.execute_interactive(
        code,
        output_hook=lambda message: said.append((message["msg_type"], message["content"])),
        timeout=PATIENCE,
        **options,
    )
    return reply["content"], [each for each in said if each[0] != "status"]


def test_the_file_is_for_its_owner_only(bound):
    path = bound[1]
    assert stat.S_IMODE(os.stat(path).st_mode) == 0o600
    assert json.loads(Path(path).read_text())["transport"] == "tcp"


def test_the_namespace_is_shared(rc, front):
    rc[0]["a"] = 5
    reply, said = run(front, "b = a + 1\nprint(a)\ndisplay(b)\na * 2")
    assert reply["status"] == "ok"
    assert [kind for kind, _ in said] == ["execute_input", "stream", "display_data", "execute_result"]
    assert said[1][1] == {"name": "stdout", "text": "5\n"}
    assert said[3][1]["data"] == {"text/plain": "10"}
    assert said[3][1]["execution_count"] == reply["execution_count"]
    assert rc[0]["b"] == 6


def test_errors_are_told(front):
    reply, said = run(front, "1 / 0")
    assert (reply["status"], reply["ename"]) == ("error", "ZeroDivisionError")
    assert any("1 / 0" in line for line in reply["traceback"])
    assert said[-1][0] == "error"
    assert run(front, "2")[0]["status"] == "ok"


def test_output_goes_to_who_asked(rc, front):
    ran = rc[0].apply_async(print, "for the client")
    ran.get(PATIENCE)
    assert ran.stdout == "for the client\n"
    assert run(front, "!echo for the console")[1][1][1]["text"].strip() == "for the console"
    assert ran.stdout == "for the client\n"


def test_cells_and_tasks_take_turns(rc, front):
    results = [rc[0].apply_async(int) for _ in range(200)]
    reply, _ = run(front, "x = 1")
    assert reply["status"] == "ok"
    assert [result.get(PATIENCE) for result in results] == [0] * 200


def test_front_ends_get_answers(front):
    assert "engine_id" in front.complete("engine_i", reply=True, timeout=PATIENCE)["content"]["matches"]
    assert front.inspect("len", reply=True, timeout=PATIENCE)["content"]["found"]
    assert front.history(reply=True, timeout=PATIENCE)["content"]["history"] == []
    assert front.comm_info(reply=True, timeout=PATIENCE)["content"]["comms"] == {}
    front.is_complete("for x in y:")
    assert front.get_shell_msg(timeout=PATIENCE)["content"]["status"] == "incomplete"


def test_interrupts_end_the_cell(rc, front):
    number = front.execute("print('go')\nimport time; time.sleep(600)")
    while True:
        message = front.get_iopub_msg(timeout=PATIENCE)
        if message["msg_type"] == "stream" and message["parent_header"]["msg_id"] == number:
            break
    front.control_channel.send(front.session.msg("interrupt_request", {}))
    reply = front.get_shell_msg(timeout=PATIENCE)["content"]
    assert (reply["status"], reply["ename"]) == ("error", "KeyboardInterrupt")
    assert rc[0].apply_sync(int) == 0


def test_strangers_are_not_heard(rc, bound):
    stranger = jupyter_client.BlockingKernelClient(connection_file=bound[1])
    stranger.load_connection_file()
    stranger.session.key = b"another"
    stranger.start_channels(hb=False)
    stranger.execute("stolen = 1")
    stranger.stop_channels()
    assert run(bound[0], "1")[0]["status"] == "ok"
    with pytest.raises(RemoteError, match="stolen"):
        rc[0].pull("stolen", block=True)


def test_binding_again_is_binding_once(rc, bound):
    assert rc[0].apply_sync(bind_kernel) == bound[1]


def test_it_works_on_engines_only():
    with pytest.raises(RuntimeError, match="on an engine only"):
        bind_kernel()


def test_when_the_front_end_leaves_the_engine_stays(tmp_path):
    with Cluster(n=1, profile_dir=str(tmp_path / "profile_x")) as rc:
        path = rc[0].apply_sync(bind_kernel, connection_file=str(tmp_path / "k.json"), transport="ipc")
        front = jupyter_client.BlockingKernelClient(connection_file=path)
        front.load_connection_file()
        front.start_channels()
        front.wait_for_ready(timeout=PATIENCE)
        assert front.shutdown(reply=True, timeout=PATIENCE)["content"]["status"] == "ok"
        front.stop_channels()
        assert rc[0].apply_sync(int) == 0
        again = rc[0].apply_sync(bind_kernel, connection_file=str(tmp_path / "again.json"))
        assert again != path  # and all of them go with the engine
    assert sorted(each.name for each in tmp_path.iterdir()) == ["profile_x"]
