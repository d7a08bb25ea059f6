"""Where callbacks of the user run: a thread that does nothing else, so they may wait for whatever they like."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from queue import SimpleQueue

_log = logging.getLogger(__name__)


class Callbacks:
    """Makes calls one after another, in the order given. Thread-safe; the thread starts with the first call."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._calls: SimpleQueue[Callable[[], object] | None] = SimpleQueue()
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None

    def put(self, call: Callable[[], object]) -> None:
        """Have ``call()`` made after all that were given before."""
        self._calls.put(call)
        if self._thread is None:
            with self._lock:
                if self._thread is None:
                    # A daemon: a callback that waits for ever must not keep the interpreter from ending.
                    self._thread = threading.Thread(target=self._run, name=self._name, daemon=True)
                    self._thread.start()

    def close(self, patience: float) -> None:
        """Wait until all calls were made, at most ``patience`` seconds; returns at once when called by one of them."""
        with self._lock:
            thread, self._thread = self._thread, None
        if thread is None:
            return
        self._calls.put(None)
        if thread is not threading.current_thread():
            thread.join(patience)

    def _run(self) -> None:
        while (call := self._calls.get()) is not None:
            try:
                call()
            except BaseException:  # even SystemExit: those that come after it are wanted all the same
                _log.exception("callback %r raised", call)
            del call
