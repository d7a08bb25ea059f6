"""Rows of ipcluster and of profiles, done as the texts have a user do them: in a shell."""

from __future__ import annotations

import json
import re
import signal

import pytest

from enginery.config.application import ALREADY_STARTED, ALREADY_STOPPED

pytestmark = pytest.mark.slow
CONFIG = {
    "ipcluster": "c.Cluster.n = 3\nc.Cluster.engine_timeout = 30",
    "ipcontroller": "c.IPController.ip = '127.0.0.1'\nc.TaskScheduler.scheme_name = 'lru'",
    "ipengine": "c.IPEngine.startup_command = 'a = 5'",
}


@pytest.mark.row(36, 37)
@pytest.mark.parametrize("argv", [["-n", "2"], ["start", "-n", "2"], ["start", "--n=2"]])
def test_row_036_ipcluster_says_how_to_connect(commands, argv):
    running = commands.start("cluster", *argv, until="ipcluster stop")
    (line,) = re.findall(r"^ +(rc = ipp\.Client\(.*\))$", running.said, re.MULTILINE)
    code = f"import enginery as ipp\n{line}\nrc.wait_for_engines(2, timeout=30)\nprint(rc[:].apply_sync(abs, -1))"
    assert commands.run_code(code).stdout == "[1, 1]\n"


@pytest.mark.row(37)
def test_row_037_help(commands):
    done = commands.run("cluster", "-h")
    assert done.returncode == 0
    for word in ("start", "engines", "stop", "list", "status", "clean"):
        assert re.search(rf"^{word}\b", done.stdout, re.MULTILINE)


@pytest.mark.row(38)
def test_row_038_more_engines(commands, connect):
    commands.controller()
    running = commands.start("cluster", "engines", "--n=4", until="4 engines")
    rc = connect(ipython_dir=commands.home, n=4)
    assert rc.ids == [0, 1, 2, 3]
    running.signal(signal.SIGHUP)
    assert running.wait() == 0
    assert rc.link.wait_for(lambda: not rc.link.engines, 30)


@pytest.mark.row(39, 43)
def test_row_039_running_clusters_are_listed(cluster):
    try:
        assert cluster.run("cluster", "start", "-n", "1", "--cluster-id=b", "--daemonize").returncode == 0
        rows = [line.split() for line in cluster.run("cluster", "list").stdout.splitlines()]
        assert rows == [
            ["PROFILE", "CLUSTER", "ID", "RUNNING", "ENGINES", "LAUNCHER"],
            ["default", '""', "True", "2", "local"],
            ["default", "b", "True", "1", "local"],
        ]
        listed = json.loads(cluster.run("cluster", "list", "-o", "json").stdout)
        assert [each["cluster"]["cluster_id"] for each in listed] == ["", "b"]
        assert cluster.run("cluster", "start", "--cluster-id=b").returncode == ALREADY_STARTED
    finally:
        assert cluster.run("cluster", "stop", "b").returncode == 0
    assert cluster.run("cluster", "stop", "b").returncode == ALREADY_STOPPED


@pytest.mark.row(40, 53)
def test_row_040_clusters_of_a_profile_from_python(commands):
    commands.configure("ipcluster", "c.Cluster.controller_args = ['--scheme=twobin']", "pbs")
    code = """
import enginery as ipp
cluster = ipp.Cluster(profile="pbs", n=2, controller_ip="*")
rc = cluster.start_and_connect_sync()
assert any("tcp://0.0.0.0:" in url for url in rc.link.info.urls), rc.link.info
cluster.signal_engines_sync("SIGCONT")
cluster.restart_engines_sync()
rc.wait_for_engines(2, timeout=30)
print(rc.link.scheme, rc[:].apply_sync(abs, -1))
cluster.stop_cluster_sync()
"""
    done = commands.run_code(code)
    assert (done.stdout, done.returncode) == ("twobin [1, 1]\n", 0), done.stderr
    running = commands.start("cluster", "start", "--profile=pbs", "-n", "2", until="appear to have started")
    assert "ipp.Client(profile='pbs')" in running.said
    assert "ipcluster stop --profile=pbs" in running.said


@pytest.mark.row(41, 42, 44)
def test_row_041_a_profile_is_made_and_edited_and_used(former, connect):
    made = former.run("IPython", "profile", "create", "--parallel", "--profile=x")
    assert made.returncode == 0, made.stderr
    for command, setting in (
        ("ipcluster", "Cluster.n"),
        ("ipcontroller", "IPController.ip"),
        ("ipengine", "IPEngine.n"),
    ):
        path = former.profile("x") / f"{command}_config.py"
        assert f"# c.{setting} = " in path.read_text()
        path.write_text(f"{path.read_text()}\n{CONFIG[command]}\n")
    check_the_edited_profile(former, connect)


@pytest.mark.row(41)
def test_row_041_the_same_without_the_compat_distribution(commands, connect):
    assert commands.run("cluster", "start", "--generate-config", "--profile=x").returncode == 0
    for command, text in CONFIG.items():
        path = commands.profile("x") / f"{command}_config.py"
        path.write_text(f"{path.read_text()}\n{text}\n")
    check_the_edited_profile(commands, connect)


def check_the_edited_profile(commands, connect):
    """The shell's ``start``, with and without a number of engines, and ``stop``."""
    started = commands.run("cluster", "start", "--profile=x", "--daemonize")
    assert started.returncode == 0, started.stderr
    assert "3 engines" in started.stdout
    rc = connect(profile="x", ipython_dir=commands.home, n=3)
    assert rc.link.scheme == "lru"
    assert rc[:]["a"] == [5, 5, 5]
    rc.close()
    assert commands.run("cluster", "stop", "--profile=x").returncode == 0
    started = commands.run("cluster", "start", "--profile=x", "-n", "4", "--daemonize")
    assert "4 engines" in started.stdout
    assert commands.run("cluster", "stop", "--profile=x").stdout == "Stopped cluster 'x:'\n"
    assert commands.run("cluster", "stop", "--profile=x").returncode == ALREADY_STOPPED


@pytest.mark.row(44, 50)
def test_row_044_settings_of_earlier_generations(commands, connect):
    commands.configure("ipcluster", "c.IPClusterEngines.n = 2\nc.IPClusterStart.controller_ip = '*'", "x")
    commands.configure("ipcontroller", "c.HubFactory.location = 'here'\nc.IPControllerApp.reuse_files = True", "x")
    running = commands.start("cluster", "start", "--profile=x", until="appear to have started")
    assert "IPClusterEngines.n is now Cluster.n" in running.said
    rc = connect(profile="x", ipython_dir=commands.home, n=2)
    assert rc.link.info.location == "here"
    assert rc.link.info.url.startswith("tcp://0.0.0.0:")
    running.end()
    assert (commands.profile("x") / "security" / "ipcontroller-client.json").exists()


@pytest.mark.row(51)
def test_row_051_engines_need_no_shared_security_folder(commands, tmp_path):
    """Engines are told how to connect; those of a launcher that has only the environment as well."""
    commands.configure("ipengine", "c.IPEngine.wait_for_url_file = 0")
    code = """
import os, shutil, enginery as ipp
cluster = ipp.Cluster(n=1, cluster_id="x")
cluster.start_controller_sync()
rc = cluster.connect_client_sync()
os.remove(os.path.join(cluster.profile_dir, "security", "ipcontroller-x-engine.json"))
cluster.start_engines_sync(1)
rc.wait_for_engines(1, timeout=30)
print(rc.ids)
cluster.stop_cluster_sync()
"""
    done = commands.run_code(code)
    assert done.stdout == "[0]\n", done.stderr


@pytest.mark.row(91)
def test_row_091_the_lines_of_the_log(cluster):
    controller, engines = sorted((cluster.profile() / "log").glob("*.log"), key=lambda path: path.name)
    said = controller.read_text()
    for pattern in (
        r"Hub listening on tcp://127\.0\.0\.1:\d+ for registration",
        r"Hub using DB backend: ",
        r"hub::created hub",
        r"writing connection info to .*/profile_default/security/ipcontroller-client\.json",
        r"writing connection info to .*/profile_default/security/ipcontroller-engine\.json",
        r"task::using Python leastload Task scheduler",
        r"Heartmonitor started",
        r"Scheduler started \[leastload\]",
    ):
        assert re.search(pattern, said), pattern
    assert {0, 1} <= {
        int(number) for number in re.findall(r"Completed registration with id (\d+)", engines.read_text())
    }


@pytest.mark.row(92)
def test_row_092_logs_are_in_the_profile(cluster):
    names = [path.name for path in (cluster.profile() / "log").iterdir()]
    assert any(re.fullmatch(r"ipcontroller-\d+\.log", name) for name in names)
    assert any(re.fullmatch(r"ipengine-.+\.log", name) for name in names)
