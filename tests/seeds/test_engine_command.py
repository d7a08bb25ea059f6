"""Rows of ipengine: how it finds its controller, and what it does first."""

from __future__ import annotations

import os
import shutil

import pytest

from commands import PATIENCE
from enginery.net.profile_paths import connection_path

pytestmark = pytest.mark.slow


@pytest.mark.row(81, 85)
def test_row_081_two_files_in_the_security_folder(commands, connect, tmp_path):
    commands.controller()
    files = {kind: connection_path(commands.profile(), kind) for kind in ("client", "engine")}
    assert {path.name for path in files.values()} == {"ipcontroller-client.json", "ipcontroller-engine.json"}
    commands.start("engine", until="Completed registration")  # finds it by itself
    copies = {kind: shutil.copy(path, tmp_path / f"{kind}.json") for kind, path in files.items()}
    commands.start("engine", f"--file={copies['engine']}", until="Completed registration")
    assert connect(ipython_dir=commands.home, n=2).ids == [0, 1]
    assert connect(copies["client"]).ids == [0, 1]
    wrong = commands.run("engine", f"--file={copies['client']}")
    assert wrong.returncode != 0
    assert "-engine.json" in wrong.stderr
    with pytest.raises(ValueError, match=r"-client\.json"):
        connect(copies["engine"])


@pytest.mark.row(82)
def test_row_082_furl_files(commands, connect):
    commands.controller()
    furl = connection_path(commands.profile(), "engine").with_suffix(".furl")
    said = commands.start("engine", f"--furl-file={furl}", until="Completed registration").said
    assert "--furl-file is now --file" in said
    info = connection_path(commands.profile(), "engine").read_text()
    commands.start("engine", IPP_CONNECTION_INFO=info, IPYTHONDIR=str(commands.home / "other"), until="Completed")
    assert connect(ipython_dir=commands.home, n=2).ids == [0, 1]


@pytest.mark.row(97)
def test_row_097_an_engine_for_each_ipengine(commands, connect):
    commands.controller()
    for number in range(3):
        commands.start("engine", until=f"Completed registration with id {number}")
    rc = connect(ipython_dir=commands.home, n=3)
    assert len(set(rc[:].apply_sync(os.getpid))) == 3


@pytest.mark.row(98)
def test_row_098_what_engines_do_first(commands, connect):
    script = commands.home / "start.py"
    script.write_text("import math\nscript = math.tau\n")
    commands.configure(
        "ipengine", f"c.IPEngineApp.startup_script = {str(script)!r}\nc.IPEngine.startup_command = 'a = 5'"
    )
    commands.controller()
    said = commands.start("engine", until="Completed registration").said
    assert "IPEngineApp.startup_script is now IPEngine.startup_script" in said
    commands.start("engine", "-c", "a = 7", "-s", str(script), until="Completed registration")
    rc = connect(ipython_dir=commands.home, n=2)
    assert rc[:].pull(["a", "round(script)"], block=True) == [[5, 6], [7, 6]]
    rc.shutdown(0, restart=True, block=True)
    rc.wait_for_engines(2, timeout=PATIENCE)
    assert rc.ids == [1, 2]
    assert rc[2].pull(["a", "round(script)"], block=True) == [5, 6]
