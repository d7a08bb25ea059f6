"""ipcluster key, and what ipcontroller says of keys: as typed, with real processes."""

from __future__ import annotations

import json
import stat

import pytest

from enginery.cli.cluster_key import duration, ending
from enginery.client.client import Client
from enginery.errors import ConnectionLost

PATIENCE = 30


@pytest.fixture
def cluster(commands):
    """A controller that runs, and what ``ipcluster key`` says."""
    commands.controller()

    def key(*argv, code=0):
        done = commands.run("cluster", "key", *argv)
        assert done.returncode == code, done.stderr
        return done.stdout if not code else done.stderr

    key.security = commands.profile() / "security"
    return key


@pytest.mark.slow
def test_the_life_of_a_key(cluster, tmp_path):
    path = tmp_path / "anna.json"
    said = cluster("create", "--scope=submit", "--expires=2h", f"--file={path}", "--note=for anna")
    name = said.split()[2]
    assert str(path) in said
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    (row,) = [line for line in cluster("list").splitlines() if line.startswith(name)]
    assert "submit" in row
    assert "until" in row
    assert "for anna" in row
    assert json.loads(path.read_text())["exec_key"] not in said
    with Client(path, timeout=PATIENCE) as rc:
        assert rc.ids == []
        assert name in cluster("revoke", name)
        with pytest.raises(ConnectionLost, match="was revoked"):
            rc.link.wait_for(lambda: False, PATIENCE)
    assert name not in cluster("list")


@pytest.mark.slow
def test_new_keys(cluster):
    path = cluster.security / "ipcontroller-client.json"
    before = path.read_text()
    with Client(path, timeout=PATIENCE) as rc:
        assert "new keys" in cluster("rotate")
        assert rc.queue_status() == {"unassigned": 0}
    assert path.read_text() != before
    with Client(path, timeout=PATIENCE) as rc:
        assert rc.queue_status() == {"unassigned": 0}
    with pytest.raises((ConnectionError, TimeoutError)):
        Client(json.loads(before), timeout=PATIENCE)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("argv", "code", "words"),
    [
        (["create"], 2, ["--scope=watch|submit|admin|engine"]),
        (["create", "--scope=god"], 2, ["scope"]),
        (["create", "--scope=watch", "--expires=soon"], 2, ["'soon'", "--expires"]),
        (["revoke"], 2, ["ipcluster key list"]),
        (["list", "x"], 2, ["no further words"]),
        (["frobnicate"], 2, ["create, list, revoke, rotate"]),
        ([], 2, ["create, list, revoke, rotate"]),
        (["list"], 12, ["ipcluster start"]),
    ],
)
def test_mistakes(commands, argv, code, words):
    done = commands.run("cluster", "key", *argv)
    assert done.returncode == code
    for word in words:
        assert word in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("", 0), ("90", 90), ("90s", 90), ("30m", 1800), ("2h", 7200), ("1d12h", 129600), ("2w", 1209600), ("1.5h", 5400)],
)
def test_durations(text, seconds):
    assert duration(text) == seconds


@pytest.mark.parametrize("text", ["x", "2x", "h", "-1h", "0", "1h2", "1 h", "..", "1h!"])
def test_what_is_no_duration(text):
    with pytest.raises(ValueError, match="is no time from now"):
        duration(text)


def test_endings():
    assert ending(0) == "with the controller"
    assert ending(1e9).startswith("until 2001-09-")
