"""OpenSSH's server on the hosts of a bed, one key that opens all of them, and a client configuration that knows both.

On the hosts plain ``ssh h1`` works: this configuration is bound over the system's. Elsewhere say ``ssh -F <config>``, which
is ``SshNet.command``.
"""

from __future__ import annotations

import shutil
import socket
import subprocess
import time
from pathlib import Path
from typing import Self

from services.bed import Bed

PORT = 22
SERVER = """
Port {port}
HostKey {folder}/host_key
PidFile none
AuthorizedKeysFile {folder}/authorized_keys
StrictModes no
PermitRootLogin prohibit-password
PubkeyAuthentication yes
PasswordAuthentication no
KbdInteractiveAuthentication no
UsePAM no
PrintMotd no
PrintLastLog no
UseDNS no
MaxStartups 100:30:200
MaxSessions 100
# As pam_systemd does it: a place for sockets on the host's own disk.
SetEnv XDG_RUNTIME_DIR={local}/run
Subsystem sftp /usr/lib/openssh/sftp-server
"""
CLIENT = """
Host *
  Port {port}
  User root
  IdentityFile {folder}/key
  IdentitiesOnly yes
  StrictHostKeyChecking yes
  UserKnownHostsFile {folder}/known_hosts
  GlobalKnownHostsFile /dev/null
  UpdateHostKeys no
  LogLevel ERROR
"""


class SshNet:
    """sshd on each host of a bed. A context manager."""

    def __init__(self, bed: Bed) -> None:
        self.bed = bed
        self.folder = bed.folder / "ssh"
        self.config = self.folder / "config"
        self.key = self.folder / "key"
        self.wrong_key = self.folder / "wrong_key"  #: a key that opens nothing
        self.command = ["ssh", "-F", str(self.config)]  #: how to call ssh from outside of the bed
        self._servers: dict[str, subprocess.Popen] = {}

    def __enter__(self) -> Self:
        self._write_files()
        for name in self.bed.names:
            self.start(name)
        return self

    def __exit__(self, *_: object) -> None:
        for name in list(self._servers):
            self.stop(name)

    def start(self, name: str) -> None:
        """Start sshd on a host (again, after it was booted), and wait until it listens."""
        self.bed.run(name, ["mount", "--bind", str(self.config), "/etc/ssh/ssh_config"])
        program = shutil.which("sshd", path="/usr/sbin:/usr/local/sbin:/usr/bin")
        assert program is not None, "sshd is not installed; run tests/services/install.sh"
        self._servers[name] = self.bed.popen(
            name, [program, "-D", "-f", str(self.folder / "sshd_config"), "-E", str(self.log(name))]
        )
        deadline = time.monotonic() + 10
        while True:
            try:
                socket.create_connection((self.bed.address(name), PORT), timeout=1).close()
            except OSError:
                assert time.monotonic() < deadline, f"sshd on {name} does not listen: {self.log(name).read_text()}"
                time.sleep(0.01)  # nothing tells of a port that is going to listen
            else:
                return

    def stop(self, name: str) -> None:
        """Stop a host's sshd; connections that are there stay."""
        server = self._servers.pop(name)
        server.kill()
        server.wait(10)

    def log(self, name: str) -> Path:
        """What a host's sshd has said."""
        return self.folder / f"sshd-{name}.log"

    def _write_files(self) -> None:
        self.folder.mkdir(mode=0o700)
        Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)  # sshd's own condition
        for name in ("key", "wrong_key", "host_key"):
            make = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(self.folder / name)]
            subprocess.run(make, check=True, stdin=subprocess.DEVNULL)
        (self.folder / "authorized_keys").write_text((self.folder / "key.pub").read_text())
        hosts = ",".join(each for name in self.bed.names for each in (name, self.bed.address(name)))
        (self.folder / "known_hosts").write_text(f"{hosts} {(self.folder / 'host_key.pub').read_text()}")
        values = {"folder": self.folder, "port": PORT, "local": self.bed.local}
        (self.folder / "sshd_config").write_text(SERVER.format(**values))
        self.config.write_text(CLIENT.format(**values))
