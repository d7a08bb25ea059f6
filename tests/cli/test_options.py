"""Settings of ipcontroller and ipengine become the options of their programs."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from enginery.cli.ipcontroller import IPController
from enginery.cli.ipengine import IPEngine, read_all
from enginery.cli.owner import clean_up_after_owner
from enginery.config.application import USAGE
from enginery.net.connection_file import ConnectionInfo
from enginery.net.liveness import is_alive

ENGINE_INFO = ConnectionInfo(kind="engine", url="tcp://127.0.0.1:5", cluster_id="x")


@pytest.fixture(autouse=True)
def home(monkeypatch, tmp_path):
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path))
    for name in ("IPP_PROFILE_DIR", "IPP_CLUSTER_ID", "IPP_CONNECTION_INFO"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def controller(*argv):
    app = IPController()
    app.initialize(list(argv))
    return app.options()


def engine(*argv):
    app = IPEngine()
    app.initialize(list(argv))
    return app


def test_a_controller_by_default(home):
    options = controller()
    assert options.profile_dir == home / "profile_default"
    assert options.client_file == home / "profile_default" / "security" / "ipcontroller-client.json"
    assert options.ip == "127.0.0.1"
    assert options.listen_tcp
    assert options.heartbeat == 3.0
    assert options.hwm is None
    assert options.scheme == "leastload"
    assert options.secure
    assert options.curve
    assert not options.reuse
    assert options.ready_fd is None
    assert options.owner_pid is None
    assert options.log == ""


def test_every_setting_of_a_controller(home):
    options = controller(
        "--cluster-id=x",
        "--ip=*",
        "--location=node7",
        "--client-port=10101",
        "--engine-port=10102",
        "--ssh=login",
        "--enginessh=inner",
        "--reuse",
        "--ping=500",
        "--scheme=lru",
        "--hwm=1",
        "--ready-fd=9",
        "--owner-pid=77",
        "--owner-beat=/shared/owner",
        "--debug",
        "--log-to-file",
        "--disable-curve",
    )
    assert options.engine_file.name == "ipcontroller-x-engine.json"
    assert (options.ip, options.location) == ("*", "node7")
    assert (options.client_port, options.engine_port) == (10101, 10102)
    assert (options.ssh_server, options.engine_ssh_server) == ("login", "inner")
    assert options.reuse
    assert (options.heartbeat, options.scheme, options.hwm) == (0.5, "lru", 1)
    assert (options.ready_fd, options.owner_pid, options.owner_beat) == (9, 77, Path("/shared/owner"))
    assert options.log == str(home / "profile_default" / "log" / f"ipcontroller-x-{os.getpid()}.log")
    assert options.log_level == 10
    assert not options.curve


def test_other_ways_to_say_it():
    assert controller("--ports=10101-10120").client_port == 10101
    assert controller("--ports=10101-10120").engine_port == 10102
    assert controller("--ports=10101,10102", "--engine-port=5").engine_port == 5
    assert not controller("--transport=ipc").listen_tcp
    assert not controller("--no-secure").secure
    assert not controller("--Session.key=").secure
    assert controller("--hwm=0").hwm == 0
    assert controller("--window=100000").window == 100_000
    options = controller("--TaskScheduler.scheme_name=pure", "--TaskScheduler.hwm=2", "--TaskScheduler.window=70000")
    assert (options.scheme, options.hwm, options.window) == ("pure", 2, 70_000)


def test_a_configuration_file(home):
    (home / "profile_default").mkdir()
    (home / "profile_default" / "ipcontroller_config.py").write_text(
        "c = get_config()\nc.IPController.ip = '*'\nc.TaskScheduler.hwm = 3\nc.HeartMonitor.period = 1000\n"
    )
    options = controller()
    assert (options.ip, options.hwm, options.heartbeat) == ("*", 3, 1.0)


@pytest.mark.parametrize("ports", ["--ports=x", "--client-port=0", "--client-port=5", "--engine-port=70000"])
def test_impossible_ports(ports, capsys):
    with pytest.raises(SystemExit) as caught:
        controller(ports, "--engine-port=5") if ports == "--client-port=5" else controller(ports)
    assert caught.value.code == USAGE
    assert "port" in capsys.readouterr().err


def test_an_engine_by_default(home):
    app = engine()
    options = app.options(ENGINE_INFO)
    assert options.connection is ENGINE_INFO
    assert options.n == 1
    assert options.cluster_id == "x"
    assert options.profile_dir == home / "profile_default"
    assert options.connection_file == home / "profile_default" / "security" / "ipcontroller-engine.json"
    assert options.work_dir == Path.cwd()
    assert options.id is None
    assert options.owner_pid is None


def test_every_setting_of_an_engine(home):
    (home / "work").mkdir()
    (home / "start.py").touch()
    options = engine(
        "--n=4",
        "-c",
        "import math",
        "-s",
        "start.py",
        "--work-dir=work",
        "--timeout=9",
        "--id=7",
        "--restart",
        "--owner-pid=77",
        "--IPEngine.max_heartbeat_misses=0",
    ).options(ENGINE_INFO)
    assert (options.n, options.id, options.timeout, options.max_misses) == (4, 7, 9.0, 0)
    assert (options.startup_command, options.startup_script) == ("import math", str(home / "start.py"))
    assert options.work_dir == home / "work"
    assert options.restart
    assert not options.use_mpi
    assert options.owner_pid == 77


def test_a_rank_of_mpi(home, monkeypatch, capsys):
    def settings(*argv):
        options = engine(*argv).options(ENGINE_INFO)
        return options.use_mpi, options.rank, options.ranks, options.engine_set, bool(options.init_mpi)

    assert settings() == (False, -1, 0, "", False)
    assert settings("--mpi") == (True, -1, 0, "", True)
    monkeypatch.setenv("OMPI_COMM_WORLD_RANK", "2")
    monkeypatch.setenv("OMPI_COMM_WORLD_SIZE", "4")
    monkeypatch.setenv("PMIX_NAMESPACE", "job")
    assert settings() == (True, 2, 4, "job", False)
    assert settings("--n=3") == (False, -1, 0, "", False)
    monkeypatch.setenv("IPP_ENGINE_SET", "mine")
    assert settings("--mpi", "--IPEngine.init_mpi=import x") == (True, 2, 4, "mine", True)
    with pytest.raises(SystemExit):
        settings("--mpi", "-n", "2")
    assert "--mpi makes one engine of this process, not 2. Have mpiexec start more of them." in capsys.readouterr().err


def test_the_connection_file_is_found(home, monkeypatch):
    path = ENGINE_INFO.save(home / "profile_default" / "security" / "ipcontroller-engine.json")
    assert engine().find_connection() == ENGINE_INFO
    assert engine(f"--file={path}").find_connection() == ENGINE_INFO
    monkeypatch.setenv("IPP_CONNECTION_INFO", json.dumps({**ENGINE_INFO.to_dict(), "pid": 5}))
    assert engine().find_connection().pid == 5
    assert engine(f"--file={path}").find_connection() == ENGINE_INFO


def test_the_connection_info_comes_through_a_pipe():
    reader, writer = os.pipe()
    os.write(writer, ENGINE_INFO.dumps().encode())
    os.close(writer)
    assert engine(f"--connection-fd={reader}").find_connection() == ENGINE_INFO
    reader, writer = os.pipe()
    os.close(writer)
    assert engine(f"--connection-fd={reader}").find_connection() is None


def test_standard_input_is_replaced_once_read():
    reader, writer = os.pipe()
    os.close(writer)
    assert read_all(reader) == ""
    code = "from enginery.cli.ipengine import read_all\nprint(read_all(0), len(open(0, closefd=False).read()))"
    done = subprocess.run([sys.executable, "-c", code], input="info", capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["info", "0"]


@pytest.mark.parametrize(
    ("text", "words"),
    [(None, "Start the controller first"), ("{", "not valid JSON"), ('{"kind": "engine"}', "no 'url'")],
)
def test_a_connection_file_that_is_of_no_use(home, text, words, capsys):
    path = home / "engine.json"
    if text is not None:
        path.write_text(text)
    app = engine(f"--file={path}", "--IPEngine.wait_for_url_file=0.01")
    with pytest.raises(SystemExit) as caught:
        app.find_connection()
    assert caught.value.code == 1
    said = capsys.readouterr().err
    assert words in said
    assert str(path) in said


def test_a_clients_file_is_not_for_engines(capsys):
    with pytest.raises(SystemExit):
        engine().options(ConnectionInfo(kind="client", url="tcp://127.0.0.1:5"))
    assert "-engine.json" in capsys.readouterr().err


@pytest.mark.skipif(sys.platform == "win32", reason="no waitid on Windows")
def test_files_go_when_the_owner_is_gone(tmp_path):
    path = tmp_path / "file"
    path.touch()
    with subprocess.Popen([sys.executable, "-c", ""]) as gone:
        os.waitid(os.P_PID, gone.pid, os.WEXITED | os.WNOWAIT)
        assert not is_alive(gone.pid), "a zombie is gone"
        gone.wait()
    clean_up_after_owner(None, [path])
    clean_up_after_owner(os.getpid(), [path])
    assert path.exists()
    assert not is_alive(gone.pid)
    os.mkfifo(tmp_path / "device")  # or the like, that a log was sent to
    clean_up_after_owner(gone.pid, [path, tmp_path / "never was", tmp_path / "device"])
    assert not path.exists()
    assert (tmp_path / "device").exists()


def test_starting_is_light():
    code = (
        "import sys\n"
        "import enginery.cli.ipcontroller, enginery.cli.ipengine\n"
        "print({'IPython', 'zmq', 'asyncio', 'numpy', 'psutil'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
