"""Rows of ipcontroller's command line, as the manual page of the second generation has it."""

from __future__ import annotations

import json
import os
import signal
import socket
import stat

import pytest

from commands import PATIENCE
from enginery.client.client import Client
from enginery.net.connection_file import load
from enginery.net.profile_paths import connection_path, wait_for_file

pytestmark = pytest.mark.slow


def log_of(commands, running, program="ipcontroller"):
    (path,) = (commands.profile() / "log").glob(f"{program}*-{running.pid}.log")
    return path.read_text()


@pytest.mark.row(1, 107)
def test_row_001_ipcontroller_is_the_gateway_and_the_only_listener(commands, connect):
    import psutil

    controller = commands.controller()
    engine = commands.start("engine", until="Completed registration")
    rc = connect(ipython_dir=commands.home, n=1)
    assert rc[0].apply_sync(os.getppid) == engine.pid

    def listens(process):
        return [each for each in process.net_connections("inet") if each.status == psutil.CONN_LISTEN]

    family = psutil.Process(engine.pid)
    assert not any(map(listens, [psutil.Process(), family, *family.children(recursive=True)]))
    assert len(listens(psutil.Process(controller.pid))) == 2


@pytest.mark.row(2, 27, 42)
def test_row_002_the_cluster_directory(commands, connect, tmp_path):
    elsewhere = tmp_path / "other"
    places = {
        commands.profile("night"): ["--profile=night"],
        elsewhere / "profile_night": ["--profile=night", f"--ipython-dir={elsewhere}"],
        tmp_path / "anywhere": [f"--profile-dir={tmp_path / 'anywhere'}"],
        commands.profile(): [],
    }
    for folder, argv in places.items():
        commands.controller(*argv)
        assert {"log", "security", "pid"} <= {each.name for each in folder.iterdir()}
        info = load(connection_path(folder, "client"))
        assert connect(profile_dir=folder).link.info == info
    commands.start("engine", "--profile=night", until="Completed registration")
    assert connect(profile="night", ipython_dir=commands.home).ids == [0]


@pytest.mark.row(3)
@pytest.mark.parametrize(
    ("program", "argv", "settings"),
    [
        ("controller", [], ["--IPController.ip=", "--TaskScheduler.hwm=", "--HeartMonitor.period=", "--Session.key="]),
        ("engine", [], ["--IPEngine.startup_script=", "--IPEngine.n="]),
        ("cluster", ["start"], ["--Cluster.n=", "--IPClusterStart.daemonize="]),
    ],
)
def test_row_003_help_all_lists_every_setting(commands, program, argv, settings):
    done = commands.run(program, *argv, "--help-all")
    assert done.returncode == 0
    common = ["--BaseParallelApplication.log_url=", "--BaseIPythonApplication.profile=", "--ProfileDir.location="]
    assert [each for each in [*settings, *common] if each not in done.stdout] == []


@pytest.mark.row(4, 92)
def test_row_004_logs_go_to_a_file(commands):
    first = commands.start("controller", "--log-to-file")
    other = commands.start("controller", "--BaseParallelApplication.log_to_file=True", "--cluster-id=b")
    Client(ipython_dir=commands.home).close()
    Client(ipython_dir=commands.home, cluster_id="b").close()
    engine = commands.start("engine", "--log-to-file=True")
    assert wait_for_file(commands.profile() / "log" / f"ipengine-{engine.pid}.log", PATIENCE)
    first.end()
    other.end()
    assert first.rest() == other.rest() == ""
    assert "leaving: signal SIGTERM" in log_of(commands, first)
    assert (commands.profile() / "log" / f"ipcontroller-b-{other.pid}.log").exists()


@pytest.mark.row(5, 6, 28)
def test_row_005_how_much_is_said(commands):
    for argv, words, silent in (
        (["--debug"], ["leaving"], []),
        (["--quiet"], [], ["leaving", "writing connection info"]),
        (["--log-level=50"], [], ["leaving"]),
        (["--log-level=WARN"], [], ["leaving"]),
        (["--log-level=info"], ["leaving"], []),
        (["--Application.log_level=20"], ["leaving"], []),
        ([], ["leaving"], []),
    ):
        controller = commands.start("controller", *argv, "--transport=ipc")
        Client(ipython_dir=commands.home).close()
        controller.end()
        said = controller.rest()
        assert all(word in said for word in words), argv
        assert not any(word in said for word in silent), argv


@pytest.mark.row(7)
def test_row_007_init_makes_the_profile_first(commands):
    commands.controller("--init", "--profile=fresh").end()
    text = (commands.profile("fresh") / "ipcontroller_config.py").read_text()
    assert "# c.IPController.ip = '127.0.0.1'" in text
    commands.configure("ipcontroller", "c.TaskScheduler.scheme_name = 'lru'", "fresh")
    commands.start("controller", "--init", "--profile=fresh", until="Scheduler started [lru]")


@pytest.mark.row(14)
def test_row_014_restore_takes_the_place_of_a_controller_that_crashed(commands, connect):
    crashed = commands.controller("--restore")
    before = load(connection_path(commands.profile(), "client"))
    crashed.signal(signal.SIGKILL)
    crashed.wait()
    restored = commands.controller("--restore")
    assert "Restoring" in restored.said
    after = load(connection_path(commands.profile(), "client"))
    assert (after.urls, after.secret_key) == (before.urls, before.secret_key)
    assert after.epoch == before.epoch + 1
    commands.start("engine", until="Completed registration")
    assert connect(before, n=1)[0].apply_sync(abs, -1) == 1


@pytest.mark.row(15, 16)
def test_row_015_who_has_no_key_does_not_get_in(commands):
    commands.controller("--secure")
    path = connection_path(commands.profile(), "client")
    info = json.loads(path.read_text())
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    tcp = [url for url in info["urls"] if url.startswith("tcp")]
    remote = {**info, "urls": tcp, "url": tcp[0]}
    with Client(remote, timeout=10) as rc:
        assert rc.ids == []
    engine = json.loads(connection_path(commands.profile(), "engine").read_text())
    for wrong in (
        {"secret_key": "", "public_key": "", "server_key": ""},
        {k: engine[k] for k in ("secret_key", "public_key")},
    ):
        with pytest.raises((TimeoutError, ConnectionError)):
            Client({**remote, **wrong}, timeout=1)
    commands.controller("--no-secure", "--cluster-id=open")
    info = load(connection_path(commands.profile(), "client", "open"))
    assert info.secret_key == info.server_key == ""
    with Client({"kind": "client", "url": info.urls[-1]}, timeout=10) as rc:
        assert rc.ids == []


@pytest.mark.row(24)
def test_row_024_the_period_of_heartbeats(commands, connect):
    commands.start("controller", "--ping=500", until="Heartmonitor started: every 0.5 s")
    commands.start("controller", "--HeartMonitor.period=2000", "--cluster-id=b", until="every 2 s")
    commands.start("controller", "--cluster-id=c", until="every 3 s")
    assert connect(ipython_dir=commands.home).link._period == 0.5


@pytest.mark.row(25, 35)
@pytest.mark.parametrize("scheme", ["leastload", "pure", "lru", "plainrandom", "weighted", "twobin"])
def test_row_025_schemes(commands, connect, scheme):
    commands.start("controller", f"--scheme={scheme}", until=f"Scheduler started [{scheme}]")
    commands.start("engine", "--n=2", until="Completed registration")
    rc = connect(ipython_dir=commands.home, n=2)
    assert rc.load_balanced_view().map_sync(abs, range(-20, 0)) == list(range(20, 0, -1))


def read(path):
    with open(path) as file:
        return file.read()


@pytest.mark.row(26)
@pytest.mark.parametrize(("argument", "most"), [("--hwm=1", 1), ("--hwm=0", 0), ("--TaskScheduler.hwm=3", 3)])
def test_row_026_how_many_tasks_an_engine_holds(commands, connect, argument, most, tmp_path):
    commands.controller(argument)
    commands.start("engine", until="Completed registration")
    rc = connect(ipython_dir=commands.home, n=1)
    gate = tmp_path / "gate"
    os.mkfifo(gate)
    lv = rc.load_balanced_view()
    results = [lv.apply_async(read, str(gate)), *(lv.apply_async(abs, i) for i in range(19))]
    writing = os.open(gate, os.O_WRONLY)  # waits until the first task reads, which ends when this is closed
    held = rc.queue_status(0)
    os.close(writing)
    assert 1 <= held["tasks"] <= (most or 20)
    assert rc.link.ask("statistics", {})["hwm"] == most
    assert [each.get(PATIENCE) for each in results] == ["", *range(19)]


@pytest.mark.row(29, 44)
def test_row_029_configuration_files(commands):
    commands.configure("ipcontroller", "c.TaskScheduler.scheme_name = 'lru'\nc.HeartMonitor.period = 1000")
    extra = commands.home / "extra.py"
    extra.write_text("c = get_config()\nc.HeartMonitor.period = 2000\n")
    commands.start("controller", until="[lru]").end()
    said = commands.start("controller", f"--config={extra}", until="[lru]")
    assert "every 2 s" in said.said
    said.end()
    (commands.profile() / "ipcontroller_config.json").write_text('{"TaskScheduler": {"scheme_name": "twobin"}}')
    commands.start("controller", until="[twobin]").end()
    commands.start("controller", "--scheme=pure", until="[pure]")


@pytest.mark.row(30, 99)
def test_row_030_the_folder_to_work_in(commands, connect, tmp_path):
    (tmp_path / "work").mkdir()
    (tmp_path / "configured").mkdir()
    controller = commands.controller(f"--work-dir={tmp_path / 'work'}")
    assert os.readlink(f"/proc/{controller.pid}/cwd") == str(tmp_path / "work")
    commands.start("engine", f"--work-dir={tmp_path / 'work'}", until="Completed registration")
    commands.configure("ipengine", f"c.IPEngineApp.work_dir = {str(tmp_path / 'configured')!r}")
    said = commands.start("engine", until="Completed registration").said
    assert "IPEngineApp.work_dir is now IPEngine.work_dir" in said
    rc = connect(ipython_dir=commands.home, n=2)
    assert rc[:].apply_sync(os.getcwd) == [str(tmp_path / "work"), str(tmp_path / "configured")]


@pytest.mark.row(31)
def test_row_031_old_logs_are_removed(commands):
    log = commands.profile() / "log"
    log.mkdir(parents=True)
    for name in ("ipcontroller-99999999.log", f"ipcontroller-{os.getpid()}.log", "ipengine-99999999.log"):
        (log / name).touch()
    commands.controller().end()
    assert len(list(log.iterdir())) == 3
    commands.controller("--clean-logs=True").end()
    assert sorted(path.name for path in log.iterdir()) == sorted(
        [f"ipcontroller-{os.getpid()}.log", "ipengine-99999999.log"]
    )


@pytest.mark.row(32)
def test_row_032_the_logger_collects_what_all_say(commands):
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        url = f"tcp://127.0.0.1:{probe.getsockname()[1]}"
    logger = commands.start("logger", f"--url={url}", until="Collecting")
    commands.controller(f"--log-url={url}")
    commands.start("engine", f"--log-url={url}", until="Completed registration")
    logger.read_until("[controller.INFO]", "[engine.0.INFO]")


@pytest.mark.row(33, 43)
def test_row_033_several_clusters_in_one_profile(commands, connect):
    commands.controller("--cluster-id=one")
    commands.controller("--cluster-id=two")
    names = {path.name for path in (commands.profile() / "security").iterdir()}
    assert {f"ipcontroller-{id}-{kind}.json" for id in ("one", "two") for kind in ("client", "engine")} <= names
    commands.start("engine", IPP_CLUSTER_ID="two", until="Completed registration")
    assert connect(ipython_dir=commands.home, cluster_id="one").ids == []
    assert connect(ipython_dir=commands.home, cluster_id="two").ids == [0]


@pytest.mark.row(34)
def test_row_034_identity_user_and_key(commands, connect):
    (commands.home / "key").write_text("a secret of ours\n")
    (commands.home / "key").chmod(0o600)
    argv = ["--ident=main", "--user=joe", f"--keyfile={commands.home / 'key'}"]
    first = commands.start("controller", *argv, until="-engine.json")
    assert "--ident has no effect any more" in first.said
    assert "--user has no effect any more" in first.said
    path = connection_path(commands.profile(), "client")
    before = load(path)
    first.end()
    commands.controller(f"--Session.keyfile={commands.home / 'key'}").end()
    commands.controller("--Session.key=a secret of ours", "--cluster-id=b")
    again = load(connection_path(commands.profile(), "client", "b"))
    assert (again.server_key, again.secret_key) == (before.server_key, before.secret_key)
    commands.controller("--cluster-id=c")
    assert load(connection_path(commands.profile(), "client", "c")).secret_key != before.secret_key


@pytest.mark.row(8, 35)
def test_row_035_the_examples(commands):
    said = commands.start("controller", "--usethreads", "--scheme=pure", until="Scheduler started [pure]").said
    assert "--usethreads has no effect any more" in said
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    said = commands.start(
        "controller", "--ip=127.0.0.1", f"--port={port}", "--cluster-id=b", until="for registration"
    ).said
    assert "--port is now --engine-port" in said
    assert f"Hub listening on tcp://127.0.0.1:{port} for registration" in said
