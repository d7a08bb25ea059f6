"""How a client finds its controller, and what it says when that fails."""

from __future__ import annotations

import json
import socket
from pathlib import Path

import pytest

from enginery.client.client import Client
from enginery.cluster.cluster import Cluster
from enginery.errors import ConnectionFileError, ConnectionLost, Refused, VersionMismatch
from enginery.net.connection_file import ConnectionInfo, load
from enginery.wire import messages as m

PATIENCE = 30
pytestmark = pytest.mark.slow


@pytest.fixture
def file(cluster):
    return Path(cluster.profile_dir) / "security" / f"ipcontroller-{cluster.cluster_id}-client.json"


class TestWays:
    def test_by_file(self, cluster, file):
        for given in (file, str(file)):
            with Client(given) as rc:
                assert rc.ids == [0, 1]
        with Client(url_file=str(file)) as rc:
            assert rc.ids == [0, 1]

    def test_by_what_the_file_holds(self, cluster, file):
        with Client(json.loads(file.read_text())) as rc:
            assert rc.ids == [0, 1]
        with Client(load(file)) as rc:
            assert rc.ids == [0, 1]

    def test_by_profile(self, cluster):
        with Client(profile_dir=cluster.profile_dir, cluster_id=cluster.cluster_id) as rc:
            assert rc.ids == [0, 1]

    def test_by_the_default_profile(self):
        with Cluster(n=1, cluster_id="") as rc, Client() as other:
            assert other.ids == rc.ids == [0]

    def test_two_clusters_in_one_profile(self, cluster):
        with Cluster(n=1, profile_dir=cluster.profile_dir, cluster_id="second") as second:
            with Client(profile_dir=cluster.profile_dir, cluster_id="second") as rc:
                assert rc.ids == second.ids == [0]
            with Client(profile_dir=cluster.profile_dir, cluster_id=cluster.cluster_id) as rc:
                assert rc.ids == [0, 1]
            assert second[:].apply_sync(int) == [0]
        assert cluster.client[:].apply_sync(int) == [0, 0]

    def test_a_client_that_comes_before_its_cluster(self, tmp_path, capsys):
        import threading

        cluster = Cluster(n=1, profile_dir=str(tmp_path / "profile"), cluster_id="late")
        timer = threading.Timer(0.7, cluster.start_cluster_sync)
        timer.start()
        try:
            with Client(profile_dir=tmp_path / "profile", cluster_id="late", timeout=PATIENCE) as rc:
                rc.wait_for_engines(1, timeout=PATIENCE)
        finally:
            timer.join()
            cluster.stop_cluster_sync()
        assert "Waiting for connection file" in capsys.readouterr().err


class TestFailures:
    def test_no_such_file(self, tmp_path):
        with pytest.raises(FileNotFoundError, match="No such connection file.*nothing.json"):
            Client(tmp_path / "nothing.json")

    def test_no_cluster_in_the_profile(self, tmp_path):
        with pytest.raises(FileNotFoundError, match="ipcluster start.*ipcontroller-client.json"):
            Client(profile_dir=tmp_path, timeout=0.1)

    @pytest.mark.parametrize(
        ("text", "says"),
        [
            ("", "not valid JSON"),
            ('{"kind": "client", "url": "tcp://1', "not valid JSON"),
            ("[1]", "holds a list"),
            ('{"kind": "client"}', "no 'url'"),
            ('{"url": "ipc:///x"}', "no 'kind'"),
            ('{"kind": "client", "url": "http://x"}', "no endpoint"),
            ('{"kind": "client", "url": "tcp://x:99999"}', "not between 1 and 65535"),
            ('{"kind": "client", "url": "ipc:///x", "pid": "four"}', "'pid' must be int"),
            ('{"kind": "engine", "url": "ipc:///x"}', "for engines"),
            ('{"registration": 1, "interface": "tcp://x"}', "another protocol"),
            ('{"kind": "client", "url": "ipc:///x", "server_key": "short"}', "CURVE key"),
            ("\xff\xfe", "not valid JSON"),
        ],
    )
    def test_a_damaged_file(self, tmp_path, text, says):
        path = tmp_path / "damaged.json"
        path.write_bytes(text.encode("latin-1"))
        with pytest.raises(ConnectionFileError, match="damaged.json") as caught:
            Client(path)
        assert says in str(caught.value)

    def test_nobody_behind_the_file(self, tmp_path):
        info = ConnectionInfo(kind="client", url=f"ipc://{tmp_path}/gone", pid=4711, location=socket.gethostname())
        with pytest.raises(TimeoutError, match=r"gone.*pid 4711.*ipcluster list"):
            Client(info.to_dict())

    def test_nobody_behind_the_port(self):
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))
            info = ConnectionInfo(kind="client", url=f"tcp://127.0.0.1:{taken.getsockname()[1]}", pid=4711)
            with pytest.raises(TimeoutError, match=r"within 1 s.*4711.*ipcluster list"):
                Client(info, timeout=0.1)

    def test_somebody_who_does_not_answer(self, tmp_path):
        import tempfile

        with tempfile.TemporaryDirectory(prefix="eng-") as folder, socket.socket(socket.AF_UNIX) as listener:
            listener.bind(f"{folder}/s")
            listener.listen()
            info = ConnectionInfo(kind="client", url=f"ipc://{folder}/s", pid=4711, location=socket.gethostname())
            with pytest.raises(TimeoutError, match="Nothing answered within 1 s"):
                Client(info, timeout=0.1)

    def test_a_url_is_not_enough(self):
        with pytest.raises(ValueError, match="does not hold the keys"):
            Client("tcp://127.0.0.1:10101")

    def test_unknown_arguments_are_named(self):
        with pytest.raises(TypeError, match="timeuot="):
            Client(timeuot=1)

    def test_another_version(self, cluster, monkeypatch):
        monkeypatch.setattr(m, "VERSION", 99)
        with pytest.raises(VersionMismatch, match=r"version 99.*version 1.*same release") as caught:
            cluster.connect_client_sync()
        assert isinstance(caught.value, Refused)
        monkeypatch.undo()
        assert cluster.client[:].apply_sync(int) == [0, 0]

    def test_the_key_of_engines_does_not_open_the_clients_port(self, cluster):
        engine = load(Path(cluster.profile_dir) / "security" / f"ipcontroller-{cluster.cluster_id}-engine.json")
        with pytest.raises(ConnectionFileError, match="opens the engines' port only"):
            Client(engine)


class TestTheEnd:
    def test_what_a_closed_client_says(self, cluster):
        rc = cluster.connect_client_sync()
        view = rc[:]
        rc.close()
        rc.close()
        assert repr(rc) == "<Client closed>"
        for use in (lambda: view.apply_async(int), rc.queue_status, lambda: view["a"]):
            with pytest.raises(ConnectionLost, match="This client was closed. Connect a new Client"):
                use()

    def test_results_survive_their_client(self, cluster):
        with cluster.connect_client_sync() as rc:
            result = rc[:].apply_async(lambda: [1, 2])
            result.wait(PATIENCE)
        assert result.get() == [[1, 2], [1, 2]]
        assert result.metadata[0]["engine_id"] == 0
        assert repr(result)

    def test_other_clients_hear_of_engines(self, cluster):
        with cluster.connect_client_sync() as rc:
            cluster.start_engines_sync(1, "more")
            rc.wait_for_engines(3, timeout=PATIENCE)
            assert rc.ids == [0, 1, 2]
            cluster.stop_engines_sync("more")
            assert rc.link.wait_for(lambda: rc.ids == [0, 1], PATIENCE)
            with pytest.raises(TimeoutError, match="2 of 4|4 engines"):
                rc.wait_for_engines(4, timeout=0.05, interactive=False)
            with pytest.raises(IndexError, match=r"no engine 2.*\[0, 1\]"):
                rc[2]
