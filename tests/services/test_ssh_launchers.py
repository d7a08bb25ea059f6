"""Clusters whose parts are started by ssh, on hosts that share neither sockets nor process ids nor a profile."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import socket
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest
from traitlets.config import Config

import enginery
from enginery import Cluster, EngineError
from enginery.errors import LauncherError
from services.bed import Bed
from services.sshd import SshNet

pytestmark = pytest.mark.slow

SOURCE = Path(enginery.__file__).parents[1]
#: The library, and the tests, whose functions engines import.
TESTS = Path(__file__).parents[1]
PATH = os.pathsep.join(map(str, [SOURCE, TESTS.parent, TESTS]))
PATIENCE = 30.0
#: In the command lines of what we start on other hosts.
OURS = r"enginery|exec\("


@pytest.fixture(autouse=True)
def own_disk(bed, monkeypatch):
    """This machine's sockets are on a disk of its own: no host of the bed shall find them in a shared folder."""
    run = bed.local / "run"
    run.mkdir(mode=0o700, exist_ok=True)
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(run))


@pytest.fixture
def config(bed, ssh):
    return configuration(bed, ssh)


def configuration(bed, ssh):
    """How launchers reach the hosts. Profiles are on each host's own disk."""
    config = Config()
    config.SSHLauncher.ssh_args = ["-F", str(ssh.config)]
    config.SSHLauncher.scp_args = ["-F", str(ssh.config)]
    config.SSHLauncher.remote_python = sys.executable
    config.SSHLauncher.remote_profile_dir = str(bed.local / "profile")
    config.SSHLauncher.environment = {"PYTHONPATH": PATH, "IPYTHONDIR": str(bed.local / "ipython")}
    config.Cluster.engine_launcher_class = "ssh"
    config.Cluster.engine_timeout = PATIENCE
    return config


@pytest.fixture
def resolved(bed, config):
    """The hosts by the addresses that this machine knows them by."""
    return {name: bed.address(name) for name in bed.names}


@pytest.fixture
def cluster(tmp_path, bed):
    """Make clusters; they are stopped at the end, and nothing of them may be left on any host."""
    with contextlib.ExitStack() as ends:
        ends.callback(bed.await_end, OURS)

        def make(config, **kwargs):
            cluster = Cluster(config=config, profile_dir=str(tmp_path / "profile"), load_profile=False, **kwargs)
            ends.callback(cluster.stop_cluster_sync)
            return cluster

        yield make


def leftovers(bed):
    programs = [line for name in bed.names for line in bed.processes(name).values()]
    return [line for line in programs if re.search(OURS, line)]


def wait_until(condition, patience=PATIENCE):
    """Wait for what nobody tells of: processes of other hosts are no children of ours."""
    deadline = time.monotonic() + patience
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True


@pytest.mark.row(69, 70, 72, 73, 74, 75)
def test_row_072_two_hosts_without_a_shared_file_system(cluster, config, resolved, bed):
    other = str(bed.local / "different" / "location")
    config.SSHEngineSetLauncher.engines = {
        resolved["h1"]: (1, [f"--profile-dir={other}"]),
        f"root@{resolved['h2']}:22": {"n": 2, "engine_args": ["-c", "told = 'dict'"]},
        resolved["head"]: 1,
    }
    config.SSHEngineSetLauncher.engine_args = ["-c", "told = 'default'"]
    one = cluster(config)
    client = one.start_and_connect_sync()
    assert len(client) == 4
    assert sorted(client[:].apply_sync(socket.gethostname)) == ["h1", "h2", "h2", "head"]
    told = zip(client[:].apply_sync(socket.gethostname), client[:].get("globals().get('told')"), strict=True)
    assert set(told) == {("h1", None), ("h2", "dict"), ("head", "default")}
    # Nothing that opens a door has touched their disks, and nothing of this machine's profile is there.
    for name in bed.names:
        assert not bed.run(name, ["find", str(bed.local), "-name", "*.json"]).stdout
    assert bed.run("h1", ["ls", other]).stdout.split() == ["log", "pid", "security"]
    assert sum(client.load_balanced_view().map_sync(lambda x: x * x, range(100))) == 328350


def test_signals_reach_engines_on_other_hosts(cluster, config, resolved):
    config.SSHEngineSetLauncher.engines = {resolved["h1"]: 1, resolved["h2"]: 1}
    one = cluster(config)
    client = one.start_and_connect_sync()
    client[:].push({"here": True}, block=True)
    sleeping = client[:].apply_async(lambda: (print("on", flush=True), __import__("time").sleep(60)))
    assert wait_until(lambda: sleeping.stdout == ["on\n", "on\n"])
    one.signal_engines_sync("SIGINT")
    with pytest.raises(Exception, match="KeyboardInterrupt"):
        sleeping.get(timeout=PATIENCE)
    assert client[:].pull("here", block=True) == [True, True]


@pytest.mark.row(71)
def test_row_071_a_controller_on_another_host(cluster, config, resolved, tmp_path):
    config.Cluster.controller_launcher_class = "ssh"
    config.SSHControllerLauncher.hostname = resolved["h1"]
    config.SSHControllerLauncher.user = "root"
    config.SSHControllerLauncher.controller_args = ["--ip=*", "--scheme=lru"]
    config.SSHEngineSetLauncher.engines = {resolved["h2"]: 2}
    one = cluster(config)
    client = one.start_and_connect_sync()
    assert client[:].apply_sync(socket.gethostname) == ["h2", "h2"]
    security = Path(one.profile_dir) / "security"
    assert {path.name for path in security.glob("*.json")} >= {
        f"ipcontroller-{one.cluster_id}-client.json",
        f"ipcontroller-{one.cluster_id}-engine.json",
    }
    with enginery.Client(profile_dir=one.profile_dir, cluster_id=one.cluster_id) as second:
        assert second.ids == client.ids
    one.stop_cluster_sync()
    assert not list(security.glob("*.json"))


@pytest.mark.row(70)
def test_row_070_engines_started_by_ipcluster_on_another_host(cluster, config, resolved):
    config.Cluster.engine_launcher_class = "sshproxy"
    config.SSHProxyEngineSetLauncher.hostname = resolved["h1"]
    one = cluster(config, n=2)
    client = one.start_and_connect_sync()
    assert client[:].apply_sync(socket.gethostname) == ["h1", "h1"]


@pytest.mark.row(76)
def test_row_076_files_are_sent_and_fetched(cluster, config, resolved, bed, tmp_path):
    local, remote = tmp_path / "data.txt", str(bed.local / "new" / "folder" / "data.txt")
    local.write_text("from here")
    config.Cluster.controller_launcher_class = "ssh"
    config.SSHControllerLauncher.hostname = resolved["h1"]
    config.SSHEngineSetLauncher.engines = {resolved["h2"]: 1}
    config.SSHControllerLauncher.to_send = [(str(local), remote)]
    config.SSHControllerLauncher.to_fetch = [(remote, str(tmp_path / "back.txt"))]
    one = cluster(config)
    one.start_and_connect_sync()
    assert bed.run("h1", ["cat", remote]).stdout == "from here"
    assert (tmp_path / "back.txt").read_text() == "from here"
    # What the user sees to is not done for him.
    assert not list((Path(one.profile_dir) / "security").glob("ipcontroller-*.json"))


@pytest.mark.row(76)
def test_row_076_lists_of_files_replace_the_connection_info(cluster, config, resolved, bed):
    config.SSHEngineSetLauncher.engines = {resolved["h1"]: 1}
    config.Cluster.controller_location = bed.address("gw")
    one = cluster(config)
    one.start_controller_sync()
    name = f"ipcontroller-{one.cluster_id}-engine.json"
    one.config.SSHEngineSetLauncher.to_send = [
        (str(Path(one.profile_dir) / "security" / name), str(bed.local / "profile" / "security" / name))
    ]
    client = one.connect_client_sync()
    one.start_engines_sync()
    client.wait_for_engines(1, timeout=PATIENCE)
    assert bed.run("h1", ["ls", str(bed.local / "profile" / "security")]).stdout.split() == [name]


@pytest.mark.parametrize("who", ["owner", "carrier"])
def test_nothing_is_left_when_who_started_it_is_killed(bed, ssh, resolved, tmp_path, who):
    script = f"""
        import sys
        from traitlets.config import Config
        from enginery import Cluster
        config = Config()
        config.SSHLauncher.ssh_args = ["-F", {str(ssh.config)!r}]
        config.SSHLauncher.remote_python = sys.executable
        config.SSHLauncher.remote_profile_dir = {str(bed.local / "profile")!r}
        config.SSHLauncher.environment = {{"PYTHONPATH": {PATH!r}}}
        config.SSHEngineSetLauncher.engines = {{{resolved["h1"]!r}: 1, {resolved["h2"]!r}: 1}}
        cluster = Cluster(engines="ssh", config=config, profile_dir={str(tmp_path)!r}, load_profile=False)
        client = cluster.start_and_connect_sync()
        print(len(client), cluster.engine_set.pid, flush=True)
        sys.stdin.read()
    """
    owner = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(script)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    count, carrier = map(int, owner.stdout.readline().split())
    assert count == 2
    assert len(leftovers(bed)) >= 4
    os.kill(owner.pid if who == "owner" else carrier, signal.SIGKILL)
    try:
        bed.await_end(OURS, PATIENCE)
    finally:
        owner.kill()
        owner.stdin.close()
        owner.wait(PATIENCE)
        owner.stdout.close()
    assert wait_until(lambda: not Path(f"/proc/{carrier}").exists())


def refused(config, resolved):
    config.SSHEngineSetLauncher.engines = {f"{resolved['h1']}:9": 1}
    return ["Connection refused", "ended with exit code 255 before anything ran there"]


def unknown_host(config, resolved):
    config.SSHEngineSetLauncher.engines = {"no-such-host.invalid": 1}
    return ["Could not resolve hostname no-such-host.invalid"]


def no_key(config, resolved):
    config.SSHLauncher.ssh_args = [*config.SSHLauncher.ssh_args, "-o", "PubkeyAuthentication=no"]
    return ["Permission denied"]


def no_python(config, resolved):
    config.SSHLauncher.remote_python = "/opt/no/python"
    return ["/opt/no/python", "there is no Python '/opt/no/python' (exit code 127)", "SSHLauncher.remote_python"]


def python_without_enginery(config, resolved):
    config.SSHLauncher.remote_python = "/usr/bin/python3"
    config.SSHLauncher.environment = {}
    return ["No module named", "enginery is not installed for that Python", "SSHLauncher.remote_python"]


def loopback_controller(config, resolved):
    config.Cluster.controller_ip = "127.0.0.1"
    return ["h1 cannot reach the controller. Tried 127.0.0.1:", "(Connection refused)", "controller_ip"]


@pytest.mark.parametrize(
    "fault", [refused, unknown_host, no_key, no_python, python_without_enginery, loopback_controller]
)
def test_failures_are_told_at_once_with_what_the_other_side_said(cluster, config, resolved, fault):
    config.SSHEngineSetLauncher.engines = {resolved["h1"]: 1}
    words = fault(config, resolved)
    with pytest.raises(LauncherError) as caught:
        cluster(config).start_and_connect_sync()
    for each in words:
        assert each in str(caught.value)
    assert "ssh -F" in str(caught.value)


def test_one_host_that_fails_takes_the_set_with_it(cluster, config, resolved):
    config.SSHEngineSetLauncher.engines = {resolved["h1"]: 1, f"{resolved['h2']}:9": 1}
    with pytest.raises(LauncherError, match="Connection refused"):
        cluster(config).start_and_connect_sync()


def test_a_host_that_loses_power_is_a_departure_in_words(tmp_path):
    with Bed(1) as room, SshNet(room) as net:
        config = configuration(room, net)
        config.SSHEngineSetLauncher.engines = {room.address("head"): 1, room.address("h1"): 1}
        config.Cluster.controller_args = ["--ping=300"]
        cluster = Cluster(config=config, profile_dir=str(tmp_path / "profile"), load_profile=False)
        try:
            client = cluster.start_and_connect_sync()
            target = client[:].apply_sync(socket.gethostname).index("h1")
            task = client[target].apply_async(lambda: __import__("time").sleep(600))
            client[target].queue_status()
            room.poweroff("h1")
            with pytest.raises(EngineError, match=r"on h1\) left: (its connection broke|no sign of life)"):
                task.get(timeout=PATIENCE)
            assert client.ids == [1 - target]
        finally:
            cluster.stop_cluster_sync()


@pytest.mark.row(69)
def test_row_069_from_the_shell_with_a_profile(bed, ssh, resolved, tmp_path):
    folder = tmp_path / "profile"
    folder.mkdir()
    (folder / "ipcluster_config.py").write_text(
        textwrap.dedent(f"""
            c.IPClusterEngines.engine_launcher_class = 'SSHEngineSetLauncher'
            c.SSHLauncher.ssh_args = ["-F", {str(ssh.config)!r}]
            c.SSHLauncher.remote_python = {sys.executable!r}
            c.SSHLauncher.remote_profile_dir = {str(bed.local / "profile")!r}
            c.SSHLauncher.environment = {{"PYTHONPATH": {PATH!r}}}
            c.SSHEngineSetLauncher.engines = {{ {resolved["h1"]!r} : 2, {resolved["h2"]!r} : (1, ['--debug']) }}
        """)
    )
    command = [sys.executable, "-m", "enginery.cluster"]
    subprocess.run([*command, "start", "--daemonize", f"--profile-dir={folder}"], check=True, timeout=PATIENCE)
    try:
        with enginery.Client(profile_dir=str(folder), timeout=PATIENCE) as client:
            client.wait_for_engines(3, timeout=PATIENCE)
            assert sorted(client[:].apply_sync(socket.gethostname)) == ["h1", "h1", "h2"]
    finally:
        subprocess.run([*command, "stop", f"--profile-dir={folder}"], check=True, timeout=PATIENCE)
        bed.await_end(OURS)
