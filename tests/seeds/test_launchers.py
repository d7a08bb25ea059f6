"""Rows 46 to 52 and 77: how launchers are named and chosen, done as the texts show it.

Those of MPI and ssh themselves need mpiexec and other hosts: tests/services/test_mpi.py and test_ssh_launchers.py.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import textwrap

import pytest

import enginery as ipp
from commands import Commands
from enginery.cluster.registry import BUILT_IN, find_launcher_class

pytestmark = [pytest.mark.slow, pytest.mark.skipif(sys.platform == "win32", reason="processes are stopped by signals")]

PATIENCE = 30.0
#: A launcher of one's own, as the texts tell advanced users to write it.
MINE = """\
from enginery.cluster.launchers.local import LocalControllerLauncher, LocalEngineSetLauncher

class MyEngineSetLauncher(LocalEngineSetLauncher):
    def find_args(self):
        return [*super().find_args(), "-c", "mine = 'engines'"]

class MyControllerLauncher(LocalControllerLauncher):
    def find_args(self):
        return [*super().find_args(), "--scheme=lru"]
"""


@pytest.fixture
def profile(tmp_path, monkeypatch, warm):
    """Writes the ipcluster_config.py of a profile, and runs ipcluster, with a module of launchers on the path."""
    folder = tmp_path / "ipython" / "profile_mine"
    folder.mkdir(parents=True)
    (tmp_path / "mine.py").write_text(MINE)
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")]))

    def write(text):
        (folder / "ipcluster_config.py").write_text(textwrap.dedent(text))
        return folder

    commands = Commands(tmp_path / "ipython", warm)
    write.ipcluster = lambda *arguments: commands.run("cluster", *arguments)
    return write


def started(profile, *arguments):
    """Start a cluster from the shell; returns what ipcluster said, the number of engines, and what is in them."""
    done = profile.ipcluster("start", "--profile=mine", "--daemonize", *arguments)
    assert done.returncode == 0, done.stderr
    try:
        with ipp.Client(profile="mine", timeout=PATIENCE) as client:
            n = int(re.search(r"(\d+) engine", done.stdout + done.stderr)[1])
            client.wait_for_engines(n, timeout=PATIENCE)
            return done.stderr, n, set(client[:].get("globals().get('mine')"))
    finally:
        assert profile.ipcluster("stop", "--profile=mine").returncode == 0


@pytest.mark.row(46, 47, 50)
@pytest.mark.parametrize("name", ["engine_launcher_class", "engine_set_launcher", "engine_set_launcher_class"])
def test_row_046_launchers_are_chosen_by_every_generations_setting(profile, name):
    profile(f"""
        c = get_config()
        c.IPClusterEngines.{name} = 'mine.MyEngineSetLauncher'
        c.IPClusterStart.controller_launcher_class = 'mine.MyControllerLauncher'
        c.IPClusterEngines.n = 2
    """)
    said, n, found = started(profile)
    assert n == 2
    assert found == {"engines"}
    assert f"IPClusterEngines.{name} is now Cluster.engine_launcher_class" in said
    assert "IPClusterStart.controller_launcher_class is now Cluster.controller_launcher_class" in said
    assert "IPClusterEngines.n is now Cluster.n" in said


@pytest.mark.row(48)
@pytest.mark.parametrize("name", ["local", "Local", "LOCAL", "LocalEngineSetLauncher"])
def test_row_048_launchers_are_named_on_the_command_line(profile, name):
    profile("")
    assert started(profile, "-n", "1", f"--engines={name}", "--controller=Local")[1] == 1


@pytest.mark.row(48)
def test_row_048_every_short_name_prefix_and_class_name():
    for short, family in BUILT_IN.items():
        for kind in family.kinds:
            found = find_launcher_class(short, kind)
            names = {short, short.upper(), family.prefix, found.__name__, f"{found.__module__}.{found.__name__}"}
            assert {find_launcher_class(each, kind) for each in names} == {found}


@pytest.mark.row(48)
def test_row_048_a_misspelt_launcher_is_named_with_the_nearest_one(profile):
    profile("")
    done = profile.ipcluster("start", "--profile=mine", "--engines=MIP")
    assert done.returncode not in {0, None}
    assert "There is no engine launcher 'MIP'. Did you mean 'mpi'? Known are " in done.stderr


@pytest.mark.row(49)
@pytest.mark.parametrize(
    "path",
    [
        "IPython.parallel.apps.launcher.LocalEngineSetLauncher",
        "ipyparallel.apps.launcher.LocalEngineSetLauncher",
        "ipyparallel.cluster.launcher.LocalEngineSetLauncher",
    ],
)
def test_row_049_former_dotted_paths_work_and_are_told_once(profile, path):
    profile(f"""
        c.Cluster.engine_launcher_class = {path!r}
        c.Cluster.n = 1
    """)
    said, n, _ = started(profile)
    assert n == 1
    assert said.count(f"launcher {path!r} is of an earlier version: it is 'local' now.") == 1


@pytest.mark.row(52)
def test_row_052_launchers_of_ones_own(profile, tmp_path, monkeypatch):
    folder = profile("")
    monkeypatch.syspath_prepend(str(tmp_path))
    from mine import MyEngineSetLauncher

    package = tmp_path / "mine-1.0.dist-info"
    package.mkdir()
    (package / "METADATA").write_text("Metadata-Version: 2.1\nName: mine\nVersion: 1.0\n")
    (package / "entry_points.txt").write_text(
        "[enginery.engine_launchers]\nMySystem = mine:MyEngineSetLauncher\n"
        "[ipyparallel.engine_launchers]\nolder = mine:MyEngineSetLauncher\n"
    )
    for engines in (MyEngineSetLauncher, "mine.MyEngineSetLauncher", "mysystem", "older"):
        assert find_launcher_class(engines, "engine") is MyEngineSetLauncher
    with ipp.Cluster(engines="mysystem", n=1, profile_dir=str(folder)) as client:
        assert client[0]["mine"] == "engines"


@pytest.mark.row(77)
def test_row_077_the_other_side_of_ssh_needs_no_shell_script(tmp_path):
    from enginery.cluster.launchers.ssh import SSHEngineLauncher

    launcher = SSHEngineLauncher(hostname="there", profile_dir=str(tmp_path), remote_python=sys.executable)
    command = launcher.host_order()["ssh"][-1]
    shells = [shell for shell in ("sh", "bash", "dash", "csh", "tcsh", "zsh", "fish") if _has(shell)]
    assert "sh" in shells
    source = b"import os; os.write(1, b'python ' + os.read(0, 99))"
    for shell in shells:
        done = subprocess.run(
            [shell, "-c", command], input=b"%08d" % len(source) + source + b"heard", capture_output=True, check=True
        )
        assert done.stdout == b"python heard"


def _has(shell):
    return subprocess.run(["sh", "-c", f"command -v {shell}"], capture_output=True, check=False).returncode == 0
