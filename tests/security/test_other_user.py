"""Another user of this host, and whoever listens: neither gets in, nor reads a file, nor finds a secret."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import socket
import stat
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

import psutil
import pytest

from enginery.client.client import Client
from enginery.net.connection_file import ConnectionInfo, load
from enginery.net.curve import has_curve
from security.conftest import PATIENCE

pytestmark = [pytest.mark.slow, pytest.mark.skipif(not has_curve(), reason="this libzmq has no CURVE")]

#: The user nobody, on most systems.
NOBODY = 65534
#: One that other users can run, too; ours may stand in a private folder.
INTERPRETER = shutil.which("python3", path="/usr/bin:/bin") or sys.executable
SPY = """
import json, os, pathlib, socket, sys
paths, pids, secrets = json.loads(sys.stdin.read())
found = []
def attempt(what, act):
    try:
        data = act()
    except OSError:
        return
    found.append([what, [secret for secret in secrets if secret in data]])
def dial(path):
    with socket.socket(socket.AF_UNIX) as end:
        end.connect(path)
    return "connected"
for path in paths:
    attempt(path, lambda: pathlib.Path(path).read_text(errors="replace"))
    attempt("list " + path, lambda: " ".join(os.listdir(path)))
    attempt("dial " + path, lambda: dial(path))
for pid in pids:
    for name in ("cmdline", "environ", "maps", "stat", "status", "mem"):
        attempt(f"/proc/{pid}/{name}", lambda: pathlib.Path(f"/proc/{pid}/{name}").read_text(errors="replace"))
    attempt(f"/proc/{pid}/fd", lambda: " ".join(os.listdir(f"/proc/{pid}/fd")))
print(json.dumps(found))
"""


def secrets_of(*infos):
    return [
        each for info in infos for each in (info.exec_key, info.secret_key, info.server_key, info.public_key) if each
    ]


@pytest.fixture
def infos(encrypted):
    return [encrypted.over_ipc(kind) for kind in ("client", "engine")]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
def test_another_user(encrypted, infos):
    """Neither connects, nor reads a file, nor finds a secret in /proc."""
    processes = [psutil.Process(process.pid) for process in encrypted.processes]
    pids = [each.pid for process in processes for each in (process, *process.children(recursive=True))]
    shared = encrypted.rc.link._requests.welcome.runtime
    sockets = [url.removeprefix("ipc://") for info in infos for url in info.urls if url.startswith("ipc://")]
    files = [encrypted.path(kind) for kind in ("client", "engine")]
    folders = [encrypted.path("client").parent, Path(sockets[0]).parent, *([Path(shared)] if shared else [])]
    # Folders above the profile are opened to everybody, as they are elsewhere.
    above = [folder for folder in encrypted.folder.parents if folder.is_relative_to(tempfile.gettempdir())]
    modes = {folder: stat.S_IMODE(folder.stat().st_mode) for folder in (encrypted.folder, *above)}
    try:
        for folder, mode in modes.items():
            folder.chmod(mode | 0o055)
        spy = subprocess.run(
            [INTERPRETER, "-I", "-c", SPY],
            input=json.dumps([[*map(str, files), *map(str, folders), *sockets], pids, secrets_of(*infos)]),
            user=NOBODY,
            group=NOBODY,
            extra_groups=[],
            env={},
            cwd="/",
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            check=False,
        )
    finally:
        for folder, mode in modes.items():
            folder.chmod(mode)
    assert spy.returncode == 0, spy.stderr
    found = json.loads(spy.stdout)
    # Only what the system shows to everybody, and no secret in it.
    assert {what.rpartition("/")[2] for what, _ in found} == {"cmdline", "stat", "status"}
    assert len(found) == 3 * len(pids)
    assert not any(secrets for _, secrets in found)


def test_modes(encrypted):
    for folder in (
        encrypted.path("client").parent,
        Path(encrypted.over_ipc("client").urls[0].removeprefix("ipc://")).parent,
    ):
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    for path in encrypted.path("client").parent.iterdir():
        assert stat.S_IMODE(path.stat().st_mode) == 0o600, path


def test_secrets_stand_nowhere_else(encrypted, infos):
    processes = [psutil.Process(process.pid) for process in encrypted.processes]
    told = [" ".join(each.cmdline()) for process in processes for each in (process, *process.children(recursive=True))]
    told += [encrypted.log(), repr(infos), str(infos), repr(encrypted.rc), repr(encrypted.rc.link)]
    for secret in secrets_of(*infos):
        assert not any(secret in text for text in told)


class TestFilesOpenToOthers:
    @pytest.fixture
    def path(self, encrypted, tmp_path):
        return encrypted.info["client"].save(tmp_path / "client.json")

    @pytest.mark.parametrize("mode", [0o640, 0o604, 0o644, 0o620, 0o666])
    def test_they_are_refused(self, path, mode):
        path.chmod(mode)
        with pytest.raises(ValueError, match=f"open to other users .mode {mode:04o}.*chmod 600 {path}") as caught:
            Client(path)
        assert not any(
            secret in str(caught.value) for secret in secrets_of(ConnectionInfo.from_dict(json.loads(path.read_text())))
        )

    def test_an_engine_does_not_use_them_either(self, encrypted, tmp_path):
        path = encrypted.info["engine"].save(tmp_path / "engine.json")
        path.chmod(0o644)
        command = [sys.executable, "-m", "enginery.engine", f"--file={path}", f"--profile-dir={tmp_path}"]
        done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, check=False)
        assert done.returncode == 1
        assert "chmod 600" in done.stderr

    def test_without_keys_there_is_nothing_to_hide(self, path):
        plain = {name: value for name, value in json.loads(path.read_text()).items() if not name.endswith("_key")}
        path.write_text(json.dumps(plain))
        path.chmod(0o644)
        assert load(path).kind == "client"


@pytest.mark.parametrize("name", ["exec_key", "secret_key", "server_key", "public_key"])
def test_errors_do_not_tell_secrets(encrypted, name):
    plain = encrypted.info["client"].to_dict()
    for wrong in ([plain[name]], {"a": plain[name]}, plain[name].encode()):
        with pytest.raises(ValueError, match=name) as caught:
            ConnectionInfo.from_dict({**plain, name: wrong})
        assert plain[name] not in str(caught.value)


class Tap:
    """Stands between client and controller, passes everything on, and keeps it."""

    def __init__(self, port) -> None:
        self.recorded = bytearray()
        self._to = port
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self._ends = []
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self):
        while True:
            try:
                one = self._listener.accept()[0]
            except OSError:
                return
            other = socket.create_connection(("127.0.0.1", self._to))
            self._ends += [one, other]
            for source, target in ((one, other), (other, one)):
                threading.Thread(target=self._pass_on, args=(source, target), daemon=True).start()

    def _pass_on(self, source, target):
        try:
            while data := source.recv(1 << 16):
                self.recorded += data
                target.sendall(data)
            target.shutdown(socket.SHUT_WR)
        except OSError:
            pass  # one of them has gone

    def close(self):
        self._listener.close()
        for end in self._ends:
            end.close()


def through(tap, info):
    return dataclasses.replace(info, url=f"tcp://127.0.0.1:{tap.port}", urls=(f"tcp://127.0.0.1:{tap.port}",))


def work(rc):
    """Uses words that would be found: in the source of a function, in arguments, in results and in output."""
    assert rc[:].apply_async(eval, "'unmistakable-' + 'argument'").get(PATIENCE) == ["unmistakable-argument"] * 2
    rc[:].push({"unmistakable_name": b"unmistakable-buffer" * 5000}, block=True)
    rc[0].execute("print('unmistakable-output')", block=True)
    assert rc[0].pull("unmistakable_name", block=True) == b"unmistakable-buffer" * 5000


def test_what_passes_between_hosts_cannot_be_read(encrypted):
    tap = Tap(encrypted.port())
    try:
        with Client(through(tap, encrypted.info["client"]), timeout=PATIENCE) as rc:
            work(rc)
    finally:
        tap.close()
    recorded = bytes(tap.recorded)
    assert len(recorded) > 2 * 90_000
    for word in (b"unmistakable", b"argument", b"output", b"submit", b"client-hello", b"results", b"eval"):
        assert word not in recorded
    for secret in secrets_of(*encrypted.info.values()):
        assert secret.encode() not in recorded


def test_the_test_would_notice(signed):
    """The same where connections are signed: what passes can be read, but for the key."""
    tap = Tap(signed.port())
    try:
        with Client(through(tap, signed.info["client"]), timeout=PATIENCE) as rc:
            work(rc)
    finally:
        tap.close()
    recorded = bytes(tap.recorded)
    assert b"unmistakable-buffer" in recorded
    assert b"client-hello" in recorded
    for secret in secrets_of(*signed.info.values()):
        assert secret.encode() not in recorded
