"""What commands say of mistakes, and the forms of earlier generations: the real commands and their exit codes."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from enginery.cluster.launchers.local import LocalEngineSetLauncher
from enginery.cluster.registry import find_launcher_class
from enginery.config.application import USAGE

PATIENCE = 30


@pytest.fixture
def run(tmp_path):
    """Run a command to its end in a private IPython folder."""
    env = {name: value for name, value in os.environ.items() if not name.startswith("IPP_")}

    def run(module, *argv):
        return subprocess.run(
            [sys.executable, "-m", module, *argv],
            env={**env, "IPYTHONDIR": str(tmp_path)},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            check=False,
        )

    return run


@pytest.mark.parametrize(
    ("argument", "words"),
    [
        ("--shceme=lru", ["--shceme", "--scheme"]),
        ("--scheme=fastest", ["fastest", "leastload"]),
        ("--client-port=70000", ["70000", "65535"]),
    ],
)
def test_impossible_arguments(run, argument, words):
    done = run("enginery.controller", argument)
    assert done.returncode in {1, USAGE}
    assert all(word in done.stderr for word in words), done.stderr
    assert "Traceback" not in done.stderr


def test_a_profile_that_cannot_be_made(run, tmp_path):
    (tmp_path / "file").touch()
    done = run("enginery.cluster", "start", f"--profile-dir={tmp_path}/file/profile")
    assert done.returncode == 1
    assert f"{tmp_path}/file/profile" in done.stderr
    assert "--profile-dir" in done.stderr


def test_launchers_of_earlier_generations(run):
    for path in ("IPython.parallel.apps.launcher", "ipyparallel.cluster.launcher"):
        assert find_launcher_class(f"{path}.LocalEngineSetLauncher", "engine") is LocalEngineSetLauncher
    done = run("enginery.cluster", "start", "-n", "1", "--engines=IPython.parallel.apps.launcher.NoEngineSetLauncher")
    assert done.returncode == 1
    assert "Known are" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.slow
def test_the_form_without_a_subcommand(run):
    done = run("enginery.cluster", "-n", "1", "--daemonize")
    try:
        assert done.returncode == 0
        assert "understood as `ipcluster start -n 1 --daemonize`" in done.stderr
    finally:
        assert run("enginery.cluster", "stop").returncode == 0


@pytest.mark.slow
def test_default_configuration_files_are_written_and_used(run, tmp_path):
    done = run("enginery.cluster", "start", "--profile=x", "--generate-config")
    assert done.returncode == 0, done.stderr
    folder = tmp_path / "profile_x"
    for command, setting in (
        ("ipcluster", "Cluster.n"),
        ("ipcontroller", "IPController.ip"),
        ("ipengine", "IPEngine.n"),
    ):
        assert f"# c.{setting} =" in (folder / f"{command}_config.py").read_text()
        assert command in done.stdout
    again = run("enginery.cluster", "start", "--profile=x", "--generate-config")
    assert again.returncode == 1
    assert "overwrite" in again.stderr
    assert run("enginery.cluster", "start", "--profile=x", "-n", "2", "--daemonize").returncode == 0
    assert run("enginery.cluster", "stop", "--profile=x").returncode == 0
