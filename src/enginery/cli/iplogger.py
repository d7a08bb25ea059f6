"""iplogger: the command that collects what controller and engines log."""

from __future__ import annotations

import signal
import sys
from typing import TYPE_CHECKING, Any, Final, NoReturn

from traitlets import List, Unicode, default
from traitlets.config import Configurable

from enginery.config.application import BASE_ALIASES, BASE_CLASSES, BASE_FLAGS, USAGE, BaseParallelApplication
from enginery.net.publish import check_url

if TYPE_CHECKING:
    from types import FrameType

DEFAULT_URL: Final = "tcp://127.0.0.1:20202"
ALIASES: Final[dict[Any, Any]] = {**BASE_ALIASES, "url": "LogWatcher.url", "topics": "LogWatcher.topics"}


class LogWatcher(Configurable):
    """Where log lines are collected, and which."""

    url = Unicode(DEFAULT_URL, help="Address to listen on; what --log-url of the other commands names.").tag(
        config=True
    )
    topics = List(
        Unicode(), [""], help="Beginnings of the topics to collect, such as engine.0 or controller (default: all)."
    ).tag(config=True)


CLASSES: Final[Any] = [*BASE_CLASSES, LogWatcher]


class IPLogger(BaseParallelApplication):
    """Collects the log lines that controllers and engines publish."""

    name = Unicode("iplogger")
    description = Unicode(
        "Collect what controllers and engines log, one line each with its topic. Start it, then start them with "
        "--log-url. Ctrl-C ends it."
    )
    examples = Unicode(
        "iplogger\niplogger --topics=controller --topics=engine.0\nipcluster start -n 4 --log-url=tcp://127.0.0.1:20202"
    )
    flags = BASE_FLAGS
    aliases = ALIASES
    classes = CLASSES

    @default("auto_create")
    def _default_auto_create(self) -> bool:
        return True

    def start(self) -> None:
        """Print log lines, or write them to the log file, until a signal ends it with exit code 0."""
        super().start()
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, leave)
        watcher = LogWatcher(parent=self)
        try:
            check_url(watcher.url)
        except ValueError as error:
            self.fail(f"{error} (--url).", USAGE)
        # Only now: --help and a wrong argument need not wait for zmq.
        from enginery.net.routed import Collector

        try:
            collector = Collector(watcher.url, watcher.topics)
        except OSError as error:
            self.fail(f"cannot listen at {watcher.url!r}: {error.strerror}. Choose another address with --url.")
        out = self.log_file.open("a", encoding="utf-8") if self.log_to_file else sys.stdout
        self.log.info("Collecting log lines at %s", watcher.url)
        while True:
            topic, text = collector.receive()
            print(f"[{topic}] {text.rstrip()}", file=out, flush=True)


def leave(_number: int, _frame: FrameType | None) -> NoReturn:
    """End the program in good order."""
    sys.exit(0)


def main() -> None:
    """Run the command line of iplogger."""
    IPLogger.launch_instance()
