"""Launchers for ssh, with a program that stands in for ssh: it runs the command on this host."""

from __future__ import annotations

import json
import os
import queue
import signal
import stat
import sys
import textwrap
from pathlib import Path

import pytest
from traitlets.config import Config

from enginery.cluster.launchers.base import NotRunning
from enginery.cluster.launchers.carrier import BOOTSTRAP
from enginery.cluster.launchers.ssh import SSHControllerLauncher, SSHEngineLauncher, SSHEngineSetLauncher
from enginery.cluster.launchers.ssh_proxy import SSHProxyEngineSetLauncher
from enginery.errors import LauncherError
from enginery.net import connection_file
from enginery.net.connection_file import ConnectionInfo
from enginery.net.profile_paths import wait_for_file

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="fake programs need POSIX signals")

FAKES = str(Path(__file__).with_name("fake_programs.py"))
#: Nobody is to be reached in these tests: through a tunnel, nothing is tried beforehand.
ENGINE_INFO = ConnectionInfo(kind="engine", url="tcp://127.0.0.1:5", exec_key="hush", ssh="gate")
SSH = """\
#!/bin/sh
# ssh: the last two arguments are host and command.
while [ $# -gt 2 ]; do shift; done
echo "$1 $2" >> {folder}/said
case $1 in
refused) echo "ssh: connect to host $1 port 22: Connection refused" >&2; exit 255 ;;
noisy) echo "Welcome to $1"; printf 'no line end' ;;
esac
export SSH_CONNECTION="127.0.0.9 1 127.0.0.8 22"
cd {home} && HOME={home} exec {shell} -c "$2"
"""
SCP = """\
#!/bin/sh
# scp: copies below the home folder of that host.
for last; do :; done
while [ $# -gt 2 ]; do shift; done
echo "$1 $last" >> {folder}/copied
cd {home} && cp "${{1##*:}}" "${{last##*:}}"
"""


@pytest.fixture
def home(tmp_path):
    folder = tmp_path / "their home"
    folder.mkdir()
    return folder


@pytest.fixture
def fakes(tmp_path, home, monkeypatch):
    """The settings that stand fake programs in for ssh and scp."""
    monkeypatch.setenv("FAKE_MARK", str(tmp_path / "mark"))
    values = {"folder": tmp_path, "home": f"'{home}'", "shell": "sh"}
    for name, text in (("ssh", SSH), ("scp", SCP)):
        path = tmp_path / name
        path.write_text(text.format(**values))
        path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return {
        "ssh_cmd": [str(tmp_path / "ssh")],
        "scp_cmd": [str(tmp_path / "scp")],
        "remote_python": sys.executable,
        "profile_dir": str(tmp_path / "profile"),
        "cluster_id": "x",
    }


@pytest.fixture
def launch(fakes):
    """Make launchers that start fake programs by a fake ssh; they are stopped at the end."""
    made = []

    def make(launcher_class, behaviour, **kwargs):
        which = "controller_cmd" if launcher_class is SSHControllerLauncher else "engine_cmd"
        launcher = launcher_class(**{which: [sys.executable, FAKES, behaviour], **fakes, **kwargs})
        launcher.ends = queue.SimpleQueue()
        launcher.on_stop(launcher.ends.put)
        made.append(launcher)
        return launcher

    yield make
    for launcher in made:
        if launcher.state == "running":
            launcher.stop()


def commands(launcher, n):
    return [(each.ssh_command()[-1], each.n, each.program_args) for each in launcher.launchers(n)]


# --- what is run where ---


def test_hosts_are_named_in_every_form():
    def target(**traits):
        return SSHEngineLauncher(**traits).target()

    assert target(hostname="h") == ("", "h", 0)
    assert target(hostname="h", user="me", port=9) == ("me", "h", 9)
    assert target(location="me@h:2222") == ("me", "h", 2222)
    assert target(location="h:2222", user="me") == ("me", "h", 2222)
    assert target(location="me@[::1]:22") == ("me", "::1", 22)
    assert target(location="h.example.com") == ("", "h.example.com", 0)
    with pytest.raises(LauncherError, match="no host is named. Set SSHEngineLauncher.hostname"):
        target()
    with pytest.raises(LauncherError, match="'a b@c@d' is no"):
        target(location="a b@c@d")


def test_the_commands_of_ssh_and_scp():
    launcher = SSHEngineLauncher(location="me@h:22", ssh_args=["-F", "c"], scp_args=["-F", "c"])
    alive = ["-o", "ServerAliveInterval=15", "-o", "ServerAliveCountMax=3"]
    assert launcher.ssh_command() == ["ssh", "-F", "c", *alive, "-p", "22", "me@h"]
    assert launcher.scp_command("a", "b", fetch=False) == ["scp", "-F", "c", "-P", "22", "a", "me@h:b"]
    assert launcher.scp_command("a", "b", fetch=True) == ["scp", "-F", "c", "-P", "22", "me@h:a", "b"]
    launcher.ssh_cmd = ["plink"]
    assert launcher.ssh_command() == ["plink", "-F", "c", "-p", "22", "me@h"]


def test_engines_in_all_three_forms():
    launcher = SSHEngineSetLauncher(
        engines={
            "one": 2,
            "two": (1, ["--profile-dir=/different"]),
            "me@three:22": {"n": 3, "engine_args": ["--debug"], "engine_cmd": ["/opt/ipengine"]},
            "four": {"n": 1, "remote_python": "python3.12"},
        },
        engine_args=["--profile-dir=/default"],
        cluster_id="x",
    )
    assert launcher.engine_count == 7
    python = ["python3", "-m", "enginery.engine"]
    assert commands(launcher, 7) == [
        ("one", 2, [*python, "--cluster-id=x", "--n=2", "--profile-dir=/default"]),
        ("two", 1, [*python, "--cluster-id=x", "--n=1", "--profile-dir=/different"]),
        ("me@three", 3, ["/opt/ipengine", "--cluster-id=x", "--n=3", "--debug"]),
        ("four", 1, ["python3.12", *python[1:], "--cluster-id=x", "--n=1", "--profile-dir=/default"]),
    ]
    assert [(host, n) for host, n, _ in commands(launcher, 4)] == [("one", 2), ("two", 1), ("me@three", 1)]
    # What is said for every engine of the cluster reaches hosts with arguments of their own, too.
    launcher.engine_args = [*launcher.engine_args, "--log-to-file"]
    assert all(command[-1] == "--log-to-file" for _, _, command in commands(launcher, 7))
    assert launcher.engines["me@three:22"]["n"] == 3


def test_settings_of_the_set_hold_for_its_hosts_and_their_own_win():
    config = Config()
    config.SSHLauncher.user = "all"
    config.SSHEngineSetLauncher.remote_python = "py"
    config.SSHEngineSetLauncher.environment = {"A": "1"}
    launcher = SSHEngineSetLauncher(config=config, engines={"a": 1, "me@b": 1, "c": {"user": "other", "n": 1}})
    made = launcher.launchers(3)
    assert [each.target()[0] for each in made] == ["all", "me", "other"]
    assert all(each.program_args[0] == "py" and each.get_env()["A"] == "1" for each in made)


@pytest.mark.parametrize(
    "value", ["2", (1, 2, 3), {"engine_args": [], "n": "2"}, -1, None, True, {"n": 1, "nonsense": 2}]
)
def test_what_no_host_can_mean(value):
    launcher = SSHEngineSetLauncher(engines={"h": value})
    with pytest.raises(LauncherError, match=r"SSHEngineSetLauncher.engines\['h'\]"):
        launcher.launchers(1)


def test_no_hosts(fakes):
    with pytest.raises(
        LauncherError, match="No host is named to start engines on by ssh. Set SSHEngineSetLauncher.engines"
    ):
        SSHEngineSetLauncher(**fakes).start(2)


def test_the_profile_there_is_below_the_home_folder_if_it_is_here(monkeypatch):
    monkeypatch.setenv("HOME", "/home/me")
    assert SSHEngineLauncher(profile_dir="/home/me/.ipython/profile_x").remote_profile_dir == ".ipython/profile_x"
    assert SSHEngineLauncher(profile_dir="/data/profile_x").remote_profile_dir == "/data/profile_x"
    launcher = SSHEngineLauncher(profile_dir="/home/me/p", remote_profile_dir="/there", cluster_id="")
    assert launcher.cluster_args == ["--profile-dir=/there"]
    assert launcher.get_env()["IPP_PROFILE_DIR"] == "/there"


def test_the_controllers_command():
    launcher = SSHControllerLauncher(
        hostname="controller.example.com",
        user="me",
        controller_args=["--reuse", "--ip=*", "--profile-dir=/path/to/cd"],
        profile_dir="/data/p",
    )
    assert launcher.args[-2:] == [
        "me@controller.example.com",
        "python3 -m enginery.controller --reuse '--ip=*' --profile-dir=/path/to/cd",
    ]


def test_ipcluster_on_another_host():
    launcher = SSHProxyEngineSetLauncher(
        hostname="login",
        remote_profile_dir="/p",
        cluster_id="x",
        n=5,
        engine_args=["--debug"],
        ipcluster_args=["--quiet"],
    )
    assert launcher.args[-1] == (
        "python3 -m enginery.cluster engines --n=5 --profile-dir=/p --cluster-id=x --Cluster.engine_args=--debug --quiet"
    )
    launcher.ipcluster_cmd = ["/opt/ipcluster"]
    assert launcher.program_args[:2] == ["/opt/ipcluster", "engines"]


# --- running it ---


def test_engines_are_told_what_is_secret_and_no_command_line_is(launch, tmp_path, home):
    launcher = launch(SSHEngineSetLauncher, "remote_engines", engines={"one": 2}, connection=ENGINE_INFO)
    launcher.environment = {"MINE": "1"}
    launcher.start()
    assert wait_for_file(tmp_path / "mark", 30)
    told = json.loads((tmp_path / "mark").read_text())
    assert ConnectionInfo.from_dict(told["info"]) == ENGINE_INFO
    assert told["argv"][:3] == [f"--profile-dir={tmp_path / 'profile'}", "--cluster-id=x", "--n=1"]
    assert told["owner"] == f"--owner-pid={told['parent']}"
    assert told["folder"] == str(home)
    assert "hush" not in (tmp_path / "said").read_text()
    assert (tmp_path / "said").read_text().startswith(f"one {sys.executable} -c 'exec(")
    assert launcher.n == 1
    launcher.stop()
    assert launcher.ends.get(timeout=30)["exit_code"] == 0
    assert f"[one] {sys.executable} runs there as process {told['pid']}" in launcher.get_output()
    assert not Path(f"/proc/{told['pid']}").exists()


def test_the_python_there_is_named_as_a_shell_understands_it(launch, tmp_path, home):
    (home / "python").write_text(f'#!/bin/sh\nexec {sys.executable} "$@"\n')  # a link would leave its environment
    (home / "python").chmod(0o755)
    launcher = launch(SSHEngineSetLauncher, "", engines={"one": {"n": 1, "remote_python": "~/python"}})
    del launcher.given["engine_cmd"]
    launcher.engines["one"]["engine_args"] = ["--no-such-flag"]
    launcher.start()
    assert launcher.ends.get(timeout=30)["exit_code"] != 0
    assert "unknown" in launcher.get_output() or "no-such-flag" in launcher.get_output()


def test_a_login_shell_may_talk(launch, tmp_path):
    launcher = launch(SSHEngineLauncher, "remote_engines", hostname="noisy", connection=ENGINE_INFO)
    launcher.start(1)
    assert wait_for_file(tmp_path / "mark", 30)
    assert "[noisy] Welcome to noisy" in launcher.get_output()
    assert "[noisy] no line end" in launcher.get_output()


def test_signals_reach_the_program(launch, tmp_path):
    launcher = launch(SSHEngineLauncher, "remote_engines", hostname="one", connection=ENGINE_INFO)
    launcher.start(1)
    assert wait_for_file(tmp_path / "mark", 30)
    launcher.signal(signal.SIGUSR1)
    assert launcher.ends.get(timeout=30)["exit_code"] == 11
    assert "[one] got SIGUSR1" in launcher.get_output()


@pytest.mark.parametrize("who", ["carrier", "other side"])
def test_nothing_outlives_who_holds_it(launch, tmp_path, who):
    launcher = launch(SSHEngineLauncher, "remote_engines", hostname="one", connection=ENGINE_INFO)
    launcher.start(1)
    assert wait_for_file(tmp_path / "mark", 30)
    told = json.loads((tmp_path / "mark").read_text())
    watch = os.pidfd_open(told["pid"])
    os.kill(launcher.pid if who == "carrier" else told["parent"], signal.SIGKILL)
    import select

    assert select.select([watch], [], [], 30)[0]
    os.close(watch)
    assert launcher.ends.get(timeout=30)["exit_code"] != 0


def test_another_process_takes_over(launch, tmp_path):
    launcher = launch(SSHEngineLauncher, "remote_engines", hostname="one", connection=ENGINE_INFO)
    launcher.start(1)
    assert wait_for_file(tmp_path / "mark", 30)
    heir = SSHEngineLauncher.from_dict(json.loads(json.dumps(launcher.to_dict())), profile_dir="/p")
    assert heir.running
    heir.stop()
    assert launcher.ends.get(timeout=30)["exit_code"] == 0
    with pytest.raises(NotRunning):
        SSHEngineLauncher.from_dict(launcher.to_dict())


def test_a_controller_reports_through_the_connection(launch, tmp_path):
    launcher = launch(SSHControllerLauncher, "controller", hostname="one")
    launcher.start()
    infos = launcher.get_connection_info()
    assert infos["engine"].url == "tcp://127.0.0.1:5"
    assert connection_file.load(launcher.connection_files["client"]) == infos["client"]
    launcher.stop()
    assert launcher.ends.get(timeout=30)["exit_code"] == 0


def test_a_controller_that_fails_says_why_at_once(launch):
    launcher = launch(SSHControllerLauncher, "broken_controller", hostname="one")
    launcher.start()
    with pytest.raises(LauncherError, match="ended before it was ready") as caught:
        launcher.get_connection_info(timeout=30)
    assert "[one] loading the flux capacitor" in str(caught.value)
    assert "[one] it is missing" in str(caught.value)


def test_files_are_sent_before_and_fetched_after(launch, tmp_path, home):
    (tmp_path / "mine").write_text("from here")
    (home / "theirs").write_text("from there")
    launcher = launch(
        SSHControllerLauncher,
        "controller",
        hostname="one",
        to_send=[(str(tmp_path / "mine"), "deep/down/mine")],
        to_fetch=[("theirs", str(tmp_path / "fetched"))],
    )
    launcher.start()
    launcher.get_connection_info()
    assert (home / "deep" / "down" / "mine").read_text() == "from here"
    assert (tmp_path / "fetched").read_text() == "from there"
    assert (tmp_path / "copied").read_text().splitlines() == [
        f"{tmp_path / 'mine'} one:deep/down/mine",
        f"one:theirs {tmp_path / 'fetched'}",
    ]
    assert not launcher.connection_files["client"].exists()


def test_empty_lists_send_nothing(launch, tmp_path):
    launcher = launch(SSHEngineLauncher, "remote_engines", hostname="one", connection=ENGINE_INFO, to_send=[])
    launcher.start(1)
    assert wait_for_file(tmp_path / "mark", 30)
    assert json.loads((tmp_path / "mark").read_text())["info"] is None


def test_a_file_that_cannot_be_sent_is_named(launch, tmp_path):
    launcher = launch(SSHEngineLauncher, "remote_engines", hostname="one", to_send=[("/no/such/file", "x")])
    launcher.start(1)
    assert launcher.ends.get(timeout=30)["exit_code"] == 4
    assert "/no/such/file one:x` failed: cp:" in launcher.get_output()


def test_ssh_that_is_refused_and_a_host_without_python(launch):
    refused = launch(SSHEngineSetLauncher, "remote_engines", engines={"refused": 1})
    refused.start()
    assert refused.ends.get(timeout=30)["exit_code"] == 255
    assert "[refused] ssh: connect to host refused port 22: Connection refused" in refused.get_output()
    assert "ended with exit code 255 before anything ran there" in refused.get_output()
    other = launch(SSHEngineSetLauncher, "remote_engines", engines={"one": {"n": 1, "remote_python": "/no/python"}})
    other.start()
    assert other.ends.get(timeout=30)["exit_code"] == 127
    assert "there is no Python '/no/python' (exit code 127)" in other.get_output()


def test_a_program_that_is_not_there(launch):
    launcher = launch(SSHEngineSetLauncher, "", engines={"one": {"n": 1, "engine_cmd": ["/no/ipengine"]}})
    launcher.start()
    assert launcher.ends.get(timeout=30)["exit_code"] == 127
    assert "[one] could not start: [Errno 2] No such file or directory: '/no/ipengine'" in launcher.get_output()


def test_one_host_that_fails_takes_the_others_with_it(launch):
    launcher = launch(SSHEngineSetLauncher, "remote_engines", engines={"one": 1, "refused": 1}, connection=ENGINE_INFO)
    launcher.start(2)
    assert launcher.ends.get(timeout=30)["exit_code"] == 255


def test_a_controller_that_cannot_be_reached_is_told_with_what_was_tried(launch):
    unreachable = ConnectionInfo(kind="engine", url="tcp://*:9", location="no-such-host.invalid")
    launcher = launch(SSHEngineSetLauncher, "remote_engines", engines={"one": 1}, connection=unreachable)
    launcher.start()
    assert launcher.ends.get(timeout=60)["exit_code"] == 5
    said = launcher.get_output()
    assert "cannot reach the controller. Tried no-such-host.invalid:9 (" in said
    assert "127.0.0.9:9 (Connection refused)" in said
    assert "controller_ip" in said


def test_the_first_line_is_one_that_every_shell_takes():
    assert "\n" not in BOOTSTRAP
    inner = BOOTSTRAP[1:-1]
    assert "'" not in inner
    assert not {"!", "`", "$"} & set(inner)
    compile(inner, "<bootstrap>", "exec")
    compile(textwrap.dedent(eval(inner[len("exec(") : -1])), "<bootstrap>", "exec")
