"""The same over tcp with CURVE, as from another host: every basic operation, and the ends of both sides."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import psutil
import pytest

import enginery as ipp
from enginery.client.client import Client
from enginery.net.connection_file import ConnectionInfo
from enginery.net.curve import KeyPair, has_curve

PATIENCE = 30
pytestmark = [pytest.mark.slow, pytest.mark.skipif(not has_curve(), reason="this libzmq has no CURVE")]


class House:
    """A controller and two engines started by hand, who speak over tcp only."""

    def __init__(self, folder, *arguments) -> None:
        self.folder = folder
        self.controller = self.start("controller", "--ip=127.0.0.1", *arguments)
        for kind in ("client", "engine"):
            self.wait_for_file(kind)
        self.info = {kind: self.over_tcp(kind) for kind in ("client", "engine")}
        path = folder / "tcp-engine.json"
        self.info["engine"].save(path)
        self.host = self.start("engine", "--n=2", f"--file={path}", f"--work-dir={folder}")

    def start(self, what, *arguments):
        command = [sys.executable, "-m", f"enginery.{what}", f"--profile-dir={self.folder}", *arguments]
        with (self.folder / f"{what}.log").open("wb") as log:
            return subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT)

    def path(self, kind):
        return self.folder / "security" / f"ipcontroller-{kind}.json"

    def wait_for_file(self, kind):
        deadline = time.monotonic() + PATIENCE
        while not self.path(kind).exists():
            assert time.monotonic() < deadline, (self.folder / "controller.log").read_text()
            time.sleep(0.01)

    def over_tcp(self, kind):
        """What a peer on another host sees: it has no use for Unix sockets."""
        plain = json.loads(self.path(kind).read_text())
        (url,) = [url for url in plain["urls"] if url.startswith("tcp://")]
        return ConnectionInfo.from_dict({**plain, "url": url, "urls": [url]})

    def relayed(self):
        """Sizes of the segments that the nanny has written."""
        fds = Path(f"/proc/{self.host.pid}/fd").iterdir()
        (lock,) = [path for fd in fds if (path := Path(os.readlink(fd))).name == "lock"]
        return [path.stat().st_size for path in lock.parent.glob("h*")]

    def nanny(self, rc):
        """The process that watches the engines."""
        engines = rc[:].apply_sync(os.getpid)
        (nanny,) = [child for child in psutil.Process(self.host.pid).children() if child.pid not in engines]
        return nanny

    def connect(self, **kwargs):
        return Client(self.info["client"], timeout=PATIENCE, **kwargs)

    def log(self):
        return "\n".join(path.read_text() for path in self.folder.glob("*.log"))

    def stop(self):
        for process in (self.host, self.controller):
            if process.poll() is None:
                process.terminate()
        for process in (self.host, self.controller):
            try:
                process.wait(PATIENCE)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


@pytest.fixture(scope="module")
def house(tmp_path_factory):
    house = House(tmp_path_factory.mktemp("tcp"))
    yield house
    house.stop()


@pytest.fixture(scope="module")
def client(house):
    with house.connect() as client:
        client.wait_for_engines(2, timeout=PATIENCE)
        yield client


@pytest.fixture
def rc(client):
    yield client
    assert client.ids == [0, 1]
    client[:].clear(block=True)


class TestOperations:
    def test_it_is_tcp(self, house, rc):
        assert rc.link.info.url.startswith("tcp://127.0.0.1:")
        assert type(rc.link._line._channel).__name__ == "RoutedChannel"
        assert house.info["client"].server_key

    def test_direct(self, rc):
        dv = rc[:]
        dv.push({"a": 2}, block=True)
        assert dv.apply_sync(lambda b: a * b, 4) == [8, 8]  # noqa: F821 - pushed
        dv.execute("a += 1", block=True)
        assert dv["a"] == [3, 3]
        dv.scatter("part", range(5), block=True)
        assert dv.gather("part", block=True) == list(range(5))
        assert dv.map_sync(abs, [-1, 2, -3]) == [1, 2, 3]

    def test_balanced(self, rc):
        lv = rc.load_balanced_view()
        results = [lv.apply_async(pow, n, 2) for n in range(500)]
        assert [ar.get(PATIENCE) for ar in results] == [n * n for n in range(500)]
        assert lv.map_sync(abs, range(-50, 0), chunksize=7) == list(range(50, 0, -1))
        assert sorted(lv.map_async(abs, range(50), ordered=False)) == list(range(50))
        assert list(lv.imap(abs, range(100))) == list(range(100))

    def test_large_things_both_ways(self, rc):
        array = np.arange(1_000_000.0)
        for view in (rc[0], rc.load_balanced_view()):
            back = view.apply_sync(lambda x: x + 1, array)
            assert np.array_equal(back, array + 1)
            back[0] = 5
        rc[:].push({"array": array}, block=True)
        assert [float(each.sum()) for each in rc[:]["array"]] == [float(array.sum())] * 2
        many = [np.full(2000, n) for n in range(300)]
        assert rc[0].apply_sync(lambda *a: [int(x[0]) for x in a], *many) == list(range(300))
        assert rc[0].apply_sync(len, "t" * 5_000_000) == 5_000_000

    def test_output_and_errors(self, rc):
        result = rc[0].apply_async(print, "over tcp")
        result.get(PATIENCE)
        assert result.stdout == "over tcp\n"
        with pytest.raises(ipp.RemoteError, match="ZeroDivisionError"):
            rc[1].apply_sync(lambda: 1 / 0)

    def test_signals_and_aborts(self, rc):
        def begun():
            result = rc[0].execute(f"print('begun'); import time; time.sleep({PATIENCE})")
            assert rc.link.wait_for(lambda: "begun" in result.stdout, PATIENCE)
            return result

        result = begun()
        rc.send_signal("SIGINT", targets=0)
        assert "KeyboardInterrupt" in str(result.exception(PATIENCE))
        running = begun()
        running.abort(interrupt=True)
        with pytest.raises(ipp.TaskAborted):
            running.get(PATIENCE)

    def test_threads_and_callbacks(self, rc):
        lv = rc.load_balanced_view()
        called = threading.Event()
        first, second = lv.apply_async(time.sleep, 0.05), lv.apply_async(abs, -3)
        got = []
        first.add_done_callback(lambda _: (got.append(second.get(PATIENCE)), called.set()))
        threads = [threading.Thread(target=lambda n=n: got.append(lv.apply_sync(abs, n))) for n in range(10, 15)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(PATIENCE)
        assert called.wait(PATIENCE)
        assert sorted(got) == [3, *range(10, 15)]

    def test_queue_status(self, rc):
        assert set(rc.queue_status()) == {0, 1, "unassigned"}

    def test_idle_for_longer_than_nothing(self, rc):
        for _ in range(30):
            assert rc[0].apply_sync(int) == 0
            time.sleep(0.003)

    def test_several_clients(self, house, rc):
        with house.connect() as other, house.connect() as third:
            assert other[:].apply_sync(os.getpid) == third[:].apply_sync(os.getpid) == rc[:].apply_sync(os.getpid)

    def test_a_local_client_beside(self, house, rc):
        with Client(house.path("client")) as local:
            assert type(local.link._line._channel).__name__ == "Stream"
            array = np.arange(500_000.0)
            local[:].push({"mine": array}, block=True)
            assert np.array_equal(rc[0]["mine"], array)


@pytest.mark.skipif(sys.platform != "linux", reason="shared memory as files is Linux's")
class TestRelays:
    """What both engines are to get goes to their host once."""

    def test_engines_map_what_their_nanny_was_sent(self, house, rc):
        array = np.random.default_rng(1).random(700_000)
        rc[:].push({"array": array}, block=True)
        assert any(size >= array.nbytes for size in house.relayed())
        rc[0].execute("array[0] = -1", block=True)
        assert np.array_equal(rc[1]["array"], array)  # each has a copy of its own
        assert np.array_equal(rc[0]["array"][1:], array[1:])

    def test_from_a_client_beside_the_controller(self, house, rc):
        with Client(house.path("client")) as local:
            text = "".join(map(str, range(500_000)))
            arrays = [np.full(200_000, n, "u1") for n in range(3)]
            assert (
                local[:].apply_sync(lambda text, arrays: text[-3:] + str(arrays[2][-1]), text, arrays) == ["9992"] * 2
            )
            before = sum(house.relayed())
            local[0].push({"mine": arrays}, block=True)  # for one engine only
            assert sum(house.relayed()) <= before

    def test_memory_is_used_again(self, house, rc):
        before = len(house.relayed())
        for n in range(8):
            rc[:].push({"array": np.full(500_000, n)}, block=True)
            assert rc[:].apply_sync(lambda: int(array[-1])) == [n, n]  # noqa: F821 - pushed
        assert len(house.relayed()) <= before + 3

    def test_tasks_keep_their_order(self, house, rc):
        results = []
        for n in range(10):
            results.append(rc[:].push({"x": np.full(200_000, n)}, block=False))
            results.append(rc[:].apply_async(lambda: int(x[0])))  # noqa: F821 - pushed
        assert [each.get(PATIENCE) for each in results[1::2]] == [[n, n] for n in range(10)]

    def test_the_nanny_is_killed_meanwhile(self, house, rc):
        array = np.random.default_rng(2).random(500_000)
        nanny = house.nanny(rc)
        results = [rc[:].apply_async(lambda a: float(a.sum()), array) for _ in range(4)]
        nanny.kill()
        results += [rc[:].apply_async(lambda a: float(a.sum()), array) for _ in range(2)]
        assert [each.get(PATIENCE) for each in results] == [[float(array.sum())] * 2] * 6
        assert house.nanny(rc).pid != nanny.pid


class TestRefusals:
    def test_a_wrong_key(self, house, rc):
        other = KeyPair.make()
        plain = house.info["client"].to_dict() | {"public_key": other.public, "secret_key": other.secret}
        with pytest.raises((ConnectionError, TimeoutError), match="does not accept the keys"):
            Client(plain, timeout=PATIENCE)
        assert rc[:].apply_sync(int) == [0, 0]

    def test_the_key_of_engines(self, house, rc):
        engine = house.info["engine"]
        plain = house.info["client"].to_dict() | {"public_key": engine.public_key, "secret_key": engine.secret_key}
        with pytest.raises((ConnectionError, TimeoutError), match="does not accept the keys"):
            Client(plain, timeout=PATIENCE)

    def test_another_controller(self, house, rc):
        plain = house.info["client"].to_dict() | {"server_key": KeyPair.make().public}
        with pytest.raises((ConnectionError, TimeoutError)):
            Client(plain, timeout=1)
        assert rc[:].apply_sync(int) == [0, 0]

    def test_no_key(self, house, rc):
        plain = house.info["client"].to_dict() | {"server_key": "", "public_key": "", "secret_key": ""}
        with pytest.raises((ConnectionError, TimeoutError)):
            Client(plain, timeout=1)
        assert rc[:].apply_sync(int) == [0, 0]

    @pytest.mark.parametrize("kind", ["client", "engine"])
    @pytest.mark.parametrize(
        "data", [b"GET / HTTP/1.1\r\n\r\n", b"\xff" * 100, b"\xff" + bytes(8) + b"\x7f\x03\x00NULL" + bytes(60)]
    )
    def test_garbage(self, house, rc, kind, data):
        port = int(house.info[kind].url.rpartition(":")[2])
        with socket.create_connection(("127.0.0.1", port)) as stranger:
            stranger.sendall(data)
            assert rc[:].apply_sync(int) == [0, 0]
        assert rc[:].apply_sync(int) == [0, 0]


class TestEnds:
    """Each kills one side of a house of its own."""

    @pytest.fixture
    def mortal(self, tmp_path):
        house = House(tmp_path)
        yield house
        house.stop()

    def test_of_an_engine_and_then_of_the_controller(self, mortal):
        with mortal.connect() as rc:
            rc.wait_for_engines(2, timeout=PATIENCE)
            pid = rc[0].apply_sync(os.getpid)
            result = rc[0].apply_async(time.sleep, PATIENCE)
            other = rc[1].apply_async(time.sleep, 0.2)
            os.kill(pid, signal.SIGKILL)
            with pytest.raises(ipp.EngineError, match=f"Engine 0 .pid {pid}.*SIGKILL"):
                result.get(PATIENCE)
            assert other.get(PATIENCE) is None

            waiting = rc[1].apply_async(time.sleep, PATIENCE)
            mortal.controller.kill()
            with pytest.raises(ipp.ConnectionLost, match="Connect a new Client"):
                waiting.get(PATIENCE)
        mortal.controller.wait()
        assert mortal.host.wait(PATIENCE) is not None

    def test_of_a_controller_that_says_goodbye(self, mortal):
        with mortal.connect() as rc:
            rc.wait_for_engines(2, timeout=PATIENCE)
            waiting = rc[0].apply_async(time.sleep, PATIENCE)
            mortal.controller.terminate()
            with pytest.raises(ipp.ConnectionLost, match="SIGTERM"):
                waiting.get(PATIENCE)
        assert mortal.controller.wait(PATIENCE) == 0
        assert mortal.host.wait(PATIENCE) == 0
        assert not mortal.path("client").exists()

    def test_a_restarted_controller_tells_those_of_the_old_one_apart(self, tmp_path):
        house = House(tmp_path, "--reuse")
        try:
            with house.connect() as rc:
                rc.wait_for_engines(2, timeout=PATIENCE)
                house.controller.kill()
                house.controller.wait()
                house.controller = house.start("controller", "--ip=127.0.0.1", "--reuse")
                with house.connect() as again:
                    assert again.link.number != rc.link.number
                    again.wait_for_engines(2, timeout=PATIENCE)
                    assert again[:].apply_sync(os.getpid) == rc[:].apply_sync(os.getpid)
        finally:
            house.stop()
