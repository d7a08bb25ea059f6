"""Connection files: what is read back, what is refused, and who may read them."""

from __future__ import annotations

import json
import stat
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from enginery.errors import ConnectionFileError
from enginery.net.connection_file import ConnectionInfo, check_endpoint, load, loads

KEY = "x" * 40
FULL = ConnectionInfo(
    kind="engine",
    url="tcp://10.0.0.1:4000",
    urls=("ipc:///run/enginery/ab/engines", "tcp://10.0.0.1:4000"),
    exec_key="secret",
    ssh="me@login",
    location="node7",
    cluster_id="one",
    epoch=3,
    pid=4711,
    server_key=KEY,
    public_key=KEY,
    secret_key=KEY,
)


def test_what_was_saved_is_loaded(tmp_path):
    path = FULL.save(tmp_path / "security" / "ipcontroller-engine.json")
    assert load(path) == FULL
    assert load(str(path)) == FULL
    assert load(json.loads(path.read_text())) == FULL


def test_the_shape_of_the_first_generation_is_kept(tmp_path):
    plain = json.loads(FULL.dumps())
    assert plain["url"] == "tcp://10.0.0.1:4000"
    assert plain["exec_key"] == "secret"
    assert plain["ssh"] == "me@login"
    assert plain["location"] == "node7"


@pytest.mark.skipif(sys.platform == "win32", reason="no modes on Windows")
def test_only_the_owner_may_read_it(tmp_path):
    path = FULL.save(tmp_path / "security" / "file.json")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700


def test_saving_again_replaces_it_and_leaves_nothing_else(tmp_path):
    path = tmp_path / "file.json"
    FULL.save(path)
    ConnectionInfo(kind="client", url="tcp://127.0.0.1:1").save(path)
    assert load(path).kind == "client"
    assert [each.name for each in tmp_path.iterdir()] == ["file.json"]


def test_a_failed_save_leaves_the_old_file(tmp_path, monkeypatch):
    path = FULL.save(tmp_path / "file.json")
    monkeypatch.setattr(Path, "replace", lambda *_args: (_ for _ in ()).throw(OSError("disk full")))
    with pytest.raises(OSError, match="disk full"):
        FULL.save(path)
    assert load(path) == FULL
    assert [each.name for each in tmp_path.iterdir()] == ["file.json"]


def test_keys_stay_out_of_the_repr():
    assert "secret" not in repr(FULL)
    assert KEY not in repr(FULL)
    assert "node7" in repr(FULL)


def test_unknown_keys_are_ignored_and_new_ones_have_defaults():
    info = loads('{"kind": "client", "url": "tcp://127.0.0.1:5", "from_the_future": 1}')
    assert info.urls == ("tcp://127.0.0.1:5",)
    assert info.exec_key == ""


def test_a_missing_file_is_an_os_error(tmp_path):
    with pytest.raises(FileNotFoundError):
        load(tmp_path / "nowhere.json")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "not valid JSON"),
        ('{"kind": "client", "url"', "not valid JSON"),
        ("[1, 2]", "list where an object"),
        ('{"kind": "client"}', "no 'url'"),
        ('{"url": "tcp://127.0.0.1:5"}', "no 'kind'"),
        ('{"kind": "queen", "url": "tcp://127.0.0.1:5"}', "'queen'"),
        ('{"kind": "client", "url": "127.0.0.1:5"}', "'127.0.0.1:5' is no endpoint"),
        ('{"kind": "client", "url": "tcp://127.0.0.1:0"}', "not between 1 and 65535"),
        ('{"kind": "client", "url": "tcp://127.0.0.1:70000"}', "not between 1 and 65535"),
        ('{"kind": "client", "url": "tcp://h:5", "urls": []}', "'urls' must be a list"),
        ('{"kind": "client", "url": "tcp://h:5", "urls": [3]}', "'urls' must be a list"),
        ('{"kind": "client", "url": "tcp://h:5", "pid": "five"}', "'pid' must be int, not 'five'"),
        ('{"kind": "client", "url": "tcp://h:5", "epoch": true}', "'epoch' must be int"),
        ('{"kind": "client", "url": "tcp://h:5", "server_key": "short"}', "'server_key' has 5 characters"),
        ('{"registration": 1, "interface": "tcp://h", "key": "k"}', "ipyparallel"),
    ],
)
def test_a_damaged_file_is_named_with_what_is_wrong(tmp_path, text, words):
    path = tmp_path / "damaged.json"
    path.write_text(text)
    with pytest.raises(ConnectionFileError) as caught:
        load(path)
    assert words in str(caught.value)
    assert str(path) in str(caught.value)
    assert caught.value.path == str(path)


def test_the_key_at_fault_is_an_attribute():
    with pytest.raises(ConnectionFileError) as caught:
        loads('{"kind": "client", "url": "nonsense"}')
    assert caught.value.key == "url"


def test_a_bad_curve_key_is_not_shown():
    with pytest.raises(ConnectionFileError) as caught:
        loads('{"kind": "client", "url": "tcp://h:5", "secret_key": "hush"}')
    assert "hush" not in str(caught.value)


@given(st.binary(max_size=200))
def test_garbage_is_always_a_connection_file_error(garbage):
    with pytest.raises(ConnectionFileError):
        loads(garbage.decode(errors="replace"))


@pytest.mark.parametrize(
    "url", ["tcp://127.0.0.1:1", "tcp://[::1]:22", "tcp://node-7.local:65535", "ipc:///a", "ipc://@a"]
)
def test_endpoints(url):
    check_endpoint(url)


def test_the_oldest_form_is_of_the_kind_its_reader_wants():
    text = '{"url": "tcp://h:5", "exec_key": "k", "ssh": "login", "location": "h"}'
    assert [loads(text, kind=kind).kind for kind in ("client", "engine")] == ["client", "engine"]
    assert loads(text, kind="engine").ssh == "login"
    with pytest.raises(ConnectionFileError, match="no 'kind'"):
        loads(text)
