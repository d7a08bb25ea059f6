"""The compat distribution as users get it: built, and installed beside enginery into an environment of its own."""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
import zipfile

import pytest

from commands import PATIENCE, ROOT

pytestmark = [pytest.mark.slow, pytest.mark.skipif(sys.platform == "win32", reason="not tried on Windows")]
PROGRAM = """
import ipyparallel as ipp
assert ipp.__file__.startswith({prefix!r}), ipp.__file__
cluster = ipp.Cluster(n=2)
with cluster as rc:
    print(rc[:].apply_sync(abs, -1))
"""


def call(*command, **variables):
    plain = {name: value for name, value in os.environ.items() if name != "PYTHONPATH" and not name.startswith("IPP_")}
    done = subprocess.run(
        [str(part) for part in command],
        env={**plain, **variables},
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """Built by the backend itself: pip would fetch another copy of it."""
    folder = tmp_path_factory.mktemp("dist")
    code = f"from hatchling.build import build_wheel; print(build_wheel({str(folder)!r}))"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT / "compat", capture_output=True, text=True, timeout=PATIENCE, check=False
    )
    assert done.returncode == 0, done.stderr
    return folder / done.stdout.split()[-1]


def test_what_is_in_it(wheel):
    names = zipfile.ZipFile(wheel).namelist()
    assert {"ipyparallel/__init__.py", "ipyparallel/_modules.py", "ipyparallel/_table.py"} <= set(names)
    assert not [name for name in names if name.startswith("enginery/")]
    assert any(name.endswith("entry_points.txt") for name in names)


def test_a_cluster_by_the_former_name(wheel, tmp_path):
    """A new environment that has the wheel, and sees enginery and what it needs where they are."""
    call(sys.executable, "-m", "venv", "--without-pip", tmp_path / "venv")
    python = tmp_path / "venv" / "bin" / "python"
    site = call(python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))").strip()
    zipfile.ZipFile(wheel).extractall(site)
    needed = [str(ROOT / "src"), sysconfig.get_path("purelib"), sysconfig.get_path("platlib")]
    with open(os.path.join(site, "needed.pth"), "w") as file:
        file.write("\n".join(needed))
    said = call(python, "-c", PROGRAM.format(prefix=site), IPYTHONDIR=str(tmp_path / "ipython"))
    assert said == "[1, 1]\n"
    for program in ("cluster", "controller", "engine", "logger"):
        assert call(python, "-m", f"ipyparallel.{program}", "--version")
