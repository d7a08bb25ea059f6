"""Which address to dial, and where sockets live."""

from __future__ import annotations

import os
import socket
import stat
import sys
from pathlib import Path

import pytest

from enginery.net import addresses
from enginery.net.connection_file import ConnectionInfo

posix_only = pytest.mark.skipif(sys.platform == "win32", reason="no ipc on Windows")


def info(*urls, location="", ssh=""):
    return ConnectionInfo(kind="engine", url=urls[0], urls=urls, location=location, ssh=ssh)


@pytest.mark.parametrize(
    ("host", "loopback"),
    [
        ("localhost", True),
        ("127.0.0.1", True),
        ("127.9.9.9", True),
        ("::1", True),
        ("[::1]", True),
        ("10.0.0.1", False),
        ("node7", False),
    ],
)
def test_loopback(host, loopback):
    assert addresses.is_loopback(host) is loopback


def test_this_host_is_local_by_any_of_its_names(monkeypatch):
    assert addresses.is_local("")
    assert addresses.is_local("localhost")
    assert addresses.is_local(socket.gethostname())
    assert addresses.is_local("127.0.0.1")
    monkeypatch.setattr(addresses, "local_addresses", lambda: frozenset({"192.0.2.7"}))
    assert addresses.is_local("192.0.2.7")
    assert not addresses.is_local("192.0.2.8")


def test_a_name_nobody_knows_is_not_local(monkeypatch):
    def unknown(*args):
        raise socket.gaierror

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    assert not addresses.is_local("no-such-host")


def test_local_addresses_include_loopback():
    assert "127.0.0.1" in addresses.local_addresses()


@pytest.mark.parametrize("wildcard", ["*", "0.0.0.0", "::"])
def test_a_wildcard_is_dialled_at_the_location(wildcard, monkeypatch):
    monkeypatch.setattr(addresses, "is_local", lambda host: host in ("", "here"))
    assert addresses.disambiguate_ip(wildcard, "node7") == "node7"
    assert addresses.disambiguate_ip(wildcard, "here") == "127.0.0.1"
    assert addresses.disambiguate_ip(wildcard) == "127.0.0.1"
    assert addresses.disambiguate_ip("10.0.0.1", "node7") == "10.0.0.1"


def test_urls_are_disambiguated(monkeypatch):
    monkeypatch.setattr(addresses, "is_local", lambda host: False)
    assert addresses.disambiguate_url("tcp://*:4000", "node7") == "tcp://node7:4000"
    assert addresses.disambiguate_url("tcp://10.0.0.1:4000", "node7") == "tcp://10.0.0.1:4000"
    assert addresses.disambiguate_url("ipc:///x", "node7") == "ipc:///x"


def test_split_tcp():
    assert addresses.split_tcp("tcp://node7:4000") == ("node7", 4000)
    assert addresses.split_tcp("tcp://[::1]:4000") == ("[::1]", 4000)
    for bad in ("ipc:///x", "tcp://node7", "node7:4000", "tcp://:4000", "tcp://node7:port"):
        with pytest.raises(ValueError, match="no tcp endpoint"):
            addresses.split_tcp(bad)


@posix_only
def test_ipc_is_tried_first_where_its_socket_is(tmp_path):
    there = tmp_path / "engines"
    there.touch()
    urls = ("tcp://127.0.0.1:4000", f"ipc://{there}")
    assert addresses.endpoints_to_try(info(*urls)) == [f"ipc://{there}", "tcp://127.0.0.1:4000"]


@posix_only
def test_an_absent_socket_is_tried_last_on_this_host_and_never_on_another(tmp_path, monkeypatch):
    urls = (f"ipc://{tmp_path}/absent", "tcp://10.0.0.1:4000")
    assert addresses.endpoints_to_try(info(*urls)) == ["tcp://10.0.0.1:4000", urls[0]]
    monkeypatch.setattr(addresses, "is_local", lambda host: False)
    assert addresses.endpoints_to_try(info(*urls, location="node7")) == ["tcp://10.0.0.1:4000"]
    assert addresses.endpoints_to_try(info(urls[0], location="node7")) == [urls[0]]


def test_loopback_seen_from_another_host_is_explained(monkeypatch):
    monkeypatch.setattr(addresses, "is_local", lambda host: host != "node7")
    words = addresses.loopback_mismatch(info("tcp://127.0.0.1:4000", location="node7"))
    assert "'node7'" in words
    assert "--ip" in words
    assert addresses.loopback_mismatch(info("tcp://127.0.0.1:4000", location="here")) == ""
    assert addresses.loopback_mismatch(info("tcp://10.0.0.1:4000", location="node7")) == ""
    assert addresses.loopback_mismatch(info("tcp://127.0.0.1:4000", location="node7", ssh="node7")) == ""


@posix_only
class TestRuntimeFolder:
    @pytest.fixture(autouse=True)
    def base(self, monkeypatch):
        import tempfile

        with tempfile.TemporaryDirectory(prefix="e-") as folder:
            monkeypatch.setenv("XDG_RUNTIME_DIR", folder)
            yield Path(folder)

    def test_it_is_private_short_and_the_same_each_time(self):
        folder = addresses.runtime_folder("a cluster with a rather long name in a profile far away")
        assert folder.is_dir()
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
        assert len(str(folder / "engines")) < addresses.LONGEST_SOCKET
        assert addresses.runtime_folder("a cluster with a rather long name in a profile far away") == folder
        assert addresses.runtime_folder("another") != folder

    def test_removing_the_last_removes_the_base(self, base):
        one, two = addresses.runtime_folder("one"), addresses.runtime_folder("two")
        (one / "socket").touch()
        addresses.remove_runtime_folder(one)
        assert not one.exists()
        assert two.exists()
        addresses.remove_runtime_folder(two)
        addresses.remove_runtime_folder(two)
        assert list(base.iterdir()) == []

    @pytest.mark.parametrize("times", [1, 3])
    def test_another_ends_and_takes_the_base_away_meanwhile(self, base, monkeypatch, times):
        make, left = addresses.make_private, [True] * times

        def make_late(folder):
            if folder.parent != base and left:
                left.pop()
                folder.parent.rmdir()
            make(folder)

        monkeypatch.setattr(addresses, "make_private", make_late)
        folder = addresses.runtime_folder("one")
        assert not left
        for each in (folder, folder.parent):
            assert stat.S_IMODE(each.stat().st_mode) == 0o700

    def test_a_folder_others_may_enter_is_closed(self):
        folder = addresses.runtime_folder("one")
        folder.chmod(0o755)
        assert stat.S_IMODE(addresses.runtime_folder("one").stat().st_mode) == 0o700

    def test_a_planted_link_is_refused(self, base):
        (base / "elsewhere").mkdir()
        (base / "enginery").symlink_to(base / "elsewhere")
        with pytest.raises(PermissionError, match="XDG_RUNTIME_DIR"):
            addresses.runtime_folder("one")

    def test_folders_of_killed_controllers_are_swept(self):
        dead, alive, young = (addresses.runtime_folder(name) for name in ("dead", "alive", "young"))
        with socket.socket(socket.AF_UNIX) as gone, socket.socket(socket.AF_UNIX) as there:
            gone.bind(str(dead / "engines"))
            gone.close()
            there.bind(str(alive / "engines"))
            there.listen()
            assert addresses.sweep_runtime_folders() == [dead]
        assert not dead.exists()
        assert young.exists()

    def test_nothing_to_sweep(self):
        assert addresses.sweep_runtime_folders() == []

    def test_the_folder_of_a_connection(self):
        folder = addresses.runtime_folder("one")
        assert addresses.folder_of(info(f"ipc://{folder}/engines", "tcp://127.0.0.1:4")) == folder
        assert addresses.folder_of(info("ipc:///somewhere/else/engines")) is None
        assert addresses.folder_of(info("tcp://127.0.0.1:4")) is None

    def test_a_long_base_is_not_used(self, base, monkeypatch):
        deep = base / ("d" * 60)
        deep.mkdir()
        monkeypatch.setenv("XDG_RUNTIME_DIR", str(deep))
        assert deep not in addresses.runtime_base().parents
        monkeypatch.delenv("XDG_RUNTIME_DIR")
        monkeypatch.setattr("tempfile.gettempdir", lambda: str(deep))
        assert addresses.runtime_base() == Path(f"/tmp/enginery-{os.getuid()}")
