"""Log lines published to whoever collects them (``iplogger``), under topics such as ``engine.0.WARNING``."""

from __future__ import annotations

import logging
import os
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from enginery.net.routed import Feed

#: How long the first line waits for somebody who collects, in milliseconds. Lines are lost while nobody does.
FIRST_WAIT: Final = 500
HIGHEST_PORT: Final = 65535


class Publisher(logging.Handler):
    """Publishes log records at ``url``, where a collector listens. Survives forks: each process has its own socket.

    ``topic`` stands before the level; it may be changed at any time.
    """

    def __init__(self, url: str, topic: str) -> None:
        """Raises ValueError for an impossible address."""
        check_url(url)
        super().__init__()
        self.url = url
        self.topic = topic
        self._feed: Feed | None = None
        self._pid = 0

    def emit(self, record: logging.LogRecord) -> None:
        """Send the record as topic and text. What goes wrong is told as logging tells it, and does no harm."""
        try:
            text = f"{self.format(record)}\n"
            self._feed_of_this_process().send(f"{self.topic}.{record.levelname}", text)
        except Exception:
            self.handleError(record)

    def close(self) -> None:
        """Let the last lines leave, if somebody collects them."""
        if self._feed is not None and self._pid == os.getpid():
            self._feed.close()
        self._feed = None
        super().close()

    def _feed_of_this_process(self) -> Feed:
        if self._feed is None or self._pid != os.getpid():
            from enginery.net.routed import Feed  # libzmq: only who publishes logs pays for it

            self._feed = Feed(self.url, FIRST_WAIT)
            self._pid = os.getpid()
        return self._feed


def check_url(url: str) -> None:
    """Raise ValueError unless ``url`` is an address log lines can be sent to."""
    scheme, _, rest = url.partition("://")
    host, _, port = rest.rpartition(":")
    if scheme == "tcp" and host and port.isdigit() and 0 < int(port) <= HIGHEST_PORT:
        return
    if scheme == "ipc" and rest:
        return
    msg = f"{url!r} is no address for logs; expected for example tcp://127.0.0.1:20202, with a port of 1 to {HIGHEST_PORT}"
    raise ValueError(msg)


def publish(logger: logging.Logger, url: str, topic: str) -> Publisher | None:
    """Publish what ``logger`` logs under ``topic``; None without a ``url``. A logger publishes once.

    Raises ValueError for an impossible address.
    """
    if not url:
        return None
    for handler in logger.handlers:
        if isinstance(handler, Publisher):
            handler.topic = topic
            return handler
    publisher = Publisher(url, topic)
    publisher.setFormatter(logging.Formatter("%(asctime)s %(process)d %(message)s"))
    logger.addHandler(publisher)
    return publisher
