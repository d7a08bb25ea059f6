"""Configurables of the controller that are classes of their own in configuration files, and their port lists."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

from traitlets import Enum, Float, Integer, Unicode, default
from traitlets.config import Configurable

from enginery.net.connection_file import require_private

#: How the balanced queue chooses among engines.
SCHEMES: Final = ("leastload", "pure", "lru", "plainrandom", "weighted", "twobin")
#: What ``hwm`` is called where it is not a number.
ADAPTIVE: Final = -1
HIGHEST_PORT: Final = 65535
#: Bytes a client may have outstanding, by default and at least.
DEFAULT_WINDOW: Final = 64 << 20
SMALLEST_WINDOW: Final = 64 << 10


class HeartMonitor(Configurable):
    """How often peers are asked whether they are there."""

    period = Float(3000.0, min=100.0, help="Milliseconds between heartbeats (at least 100).").tag(config=True)
    max_heartmonitor_misses = Integer(10, min=1, help="Heartbeats an engine may miss before it counts as gone.").tag(
        config=True
    )


class TaskScheduler(Configurable):
    """How balanced tasks are given to engines."""

    scheme_name = Enum(SCHEMES, default_value="leastload", help="Which engine gets the next task.").tag(config=True)
    hwm = Integer(
        ADAPTIVE,
        help="Most tasks an engine holds at once; 0: no limit, 1: none in advance, -1 (default): as many as keep it busy.",
    ).tag(config=True)
    window = Integer(
        DEFAULT_WINDOW,
        min=SMALLEST_WINDOW,
        help="Bytes of unfinished tasks per client; a client that submits faster than engines work is slowed beyond that.",
    ).tag(config=True)


class PeerLimits(Configurable):
    """What one peer may take of the controller before it is cut off (``unread``: made to wait); 0 is the default."""

    hello = Float(0.0, min=0.0, help="Seconds from connecting to the first words (10).").tag(config=True)
    strangers = Integer(0, min=0, help="Connections that have not said who they are (1024).").tag(config=True)
    connections = Integer(0, min=0, help="Connections on this host (20,000).").tag(config=True)
    frames = Integer(0, min=0, help="Buffers of one message (about a million).").tag(config=True)
    message = Integer(0, min=0, help="Bytes of one message (half of the host's memory).").tag(config=True)
    queue = Integer(0, min=0, help="Bytes that wait for a peer to read them (half of the host's memory).").tag(
        config=True
    )
    unread = Integer(
        0, min=0, help="Bytes of results that a client leaves unread before nothing of its is begun (512 MiB)."
    ).tag(config=True)
    rejected = Integer(0, min=0, help="Messages of one peer that make no sense (100).").tag(config=True)


class Session(Configurable):
    """The secret that a controller's keys are made from. An empty one turns authentication off."""

    key = Unicode(
        None,
        allow_none=True,
        help="Secret to make the keys of connection files from: the same one gives the same keys "
        "(default: $IPP_SESSION_KEY, else new keys each time). Empty: no authentication.",
    ).tag(config=True)
    keyfile = Unicode("", help="File that holds the secret.").tag(config=True)

    @default("key")
    def _default_key(self) -> str | None:
        return os.environ.get("IPP_SESSION_KEY")

    def secret(self) -> str | None:
        """The secret; None for new keys. Raises OSError if the file cannot be read, ValueError if it is empty."""
        if not self.keyfile:
            return self.key
        path = Path(self.keyfile).expanduser()
        text = path.read_text(encoding="utf-8").strip()
        if not text:
            msg = f"key file {str(path)!r} is empty"
            raise ValueError(msg)
        require_private(path, "key file")
        return text


def parse_ports(given: object) -> list[int]:
    """Ports from ``'10101-10120,10200'``, from a number, or from a list of either.

    Raises ValueError that names what is wrong.
    """
    text = ",".join(map(str, given)) if isinstance(given, list | tuple) else str(given)
    ports: list[int] = []
    for part in filter(None, (piece.strip() for piece in text.split(","))):
        first, dash, last = part.partition("-")
        if not first.isdigit() or (dash and not last.isdigit()):
            msg = f"{part!r} is no port or range of ports; expected for example 10101-10120,10200"
            raise ValueError(msg)
        span = range(int(first), int(last or first) + 1)
        if not span or span[0] < 1 or span[-1] > HIGHEST_PORT:
            msg = f"{part!r} is no range of ports between 1 and {HIGHEST_PORT}"
            raise ValueError(msg)
        ports.extend(span)
    return ports
