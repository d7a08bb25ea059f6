"""Which ssh server leads to a controller, what its tunnel leads to, and what to do when ssh fails. No process is started here."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from enginery.errors import TunnelError
from enginery.net.addresses import LOOPBACK, is_local, is_wildcard, socket_exists, split_tcp

if TYPE_CHECKING:
    from enginery.net.connection_file import ConnectionInfo

#: What ssh says -> what to do next; the first that fits.
ADVICE: Final = (
    ("Permission denied", "Load your key into an agent (ssh-add), or name its file: sshkey=, ipengine --sshkey."),
    ("Too many authentication failures", "Name the key's file (sshkey=, ipengine --sshkey) or set IdentitiesOnly."),
    ("Host key verification failed", "Log in once by hand and check the host's key, or correct ~/.ssh/known_hosts."),
    ("Could not resolve hostname", "Check the name; an alias belongs into ~/.ssh/config of this host."),
    ("not accessible", "Name a key's file that is there."),
    ("onnection refused", "Does sshd run there, and at this port? Another one is named by server:port."),
    ("timed out", "Is the server up and reachable from this host? A way through others is ProxyJump in ~/.ssh/config."),
    ("o route to host", "Is the server up and reachable from this host? A way through others is ProxyJump."),
    ("administratively prohibited", "The server's sshd_config forbids forwarding (AllowTcpForwarding)."),
)


@dataclass(frozen=True, slots=True)
class Server:
    """An ssh server as users write it: ``[user@]server[:port]``."""

    host: str
    user: str = ""
    port: int = 0

    def __str__(self) -> str:
        host = f"[{self.host}]" if self.port and ":" in self.host else self.host
        return f"{self.user}@{host}"[0 if self.user else 1 :] + (f":{self.port}" if self.port else "")


def parse_server(text: str) -> Server:
    """The server in ``[user@]server[:port]``, with IPv6 addresses in brackets.

    Raises ValueError for anything else; the text may come from a connection file, and ssh would take ``-o…`` for an option.
    """
    user, at, rest = text.strip().rpartition("@")
    if rest.startswith("["):
        host, bracket, port = rest[1:].partition("]")
        colon, port = port[:1], port[1:]
        fits = bool(bracket) and colon in ("", ":")
    else:
        host, colon, port = rest.partition(":")
        fits = True
        if port.count(":"):  # an IPv6 address without a port
            host, colon, port = rest, "", ""
    fits = fits and bool(host) and bool(user) == bool(at) and (port.isdigit() if colon else not port)
    plain = not any(each.startswith("-") or not each.isprintable() or " " in each for each in (host, user))
    if not fits or not plain or int(port or 1) not in range(1, 65536):
        raise ValueError(f"{text!r} is no ssh server; expected [user@]server[:port], such as me@login.example.org:2222")
    return Server(host, user, int(port or 0))


def check_arguments(password: str | None = None, paramiko: bool | None = None) -> None:
    """Raise ValueError for what earlier versions had and OpenSSH's client does without, saying what to do instead."""
    if password:
        raise ValueError(
            "password= cannot be used: tunnels are made by OpenSSH's client, which takes no password from programs. "
            "Use a key: `ssh-copy-id server` once, then `ssh-add` or sshkey=<its file>."
        )
    if paramiko:
        raise ValueError(
            "paramiko=True cannot be used: tunnels are made by OpenSSH's client (`ssh`), which also knows ~/.ssh/config. "
            "Leave paramiko out."
        )


def server_for(info: ConnectionInfo) -> str:
    """The ssh server that this host has to use for ``info`` by itself; empty if it needs none.

    None is needed on the controller's own host, where its Unix socket is or its location is this host.
    """
    if not info.ssh or any(url.startswith("ipc://") and socket_exists(url) for url in info.urls):
        return ""
    return "" if info.location and is_local(info.location) else info.ssh


def target_of(info: ConnectionInfo) -> tuple[str, int]:
    """Host and port of the controller as its ssh server sees them. Raises TunnelError if it has none."""
    url = next((url for url in info.urls if url.startswith("tcp://")), "")
    if not url:
        raise TunnelError(
            f"The controller on {info.location or 'the other host'} listens on Unix sockets only, to which no tunnel leads. "
            "Start it without --transport=ipc: it listens on loopback then, and a tunnel through its own host is enough."
        )
    host, port = split_tcp(url)
    return ((info.location or LOOPBACK) if is_wildcard(host) else host), port


def advice_on(lines: list[str]) -> str:
    """What to do about what ssh said; empty if that is nothing known."""
    return next((advice for words, advice in ADVICE if any(words in line for line in lines)), "")
