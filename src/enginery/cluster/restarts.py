"""Engine sets that died are started anew, at growing distances, and not for ever."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    import logging
    from collections.abc import Callable

    from enginery.cluster.launchers.base import EngineLauncher

#: A set that ran for so many seconds was a success: the next start is the first one again.
LONG_LIFE: Final = 60.0
#: How many short lives in a row a set may have.
MOST: Final = 5
#: Seconds until the first restart and the most there may be; each pause is twice the one before.
FIRST_PAUSE, LONGEST_PAUSE = 0.25, 30.0


class Restarts:
    """Restarts of the sets of one cluster, by their ids. Thread-safe."""

    def __init__(self, start: Callable[[EngineLauncher], object], log: Callable[[], logging.Logger]) -> None:
        """``start(launcher)`` starts a set like that of ``launcher``, which died."""
        self._start = start
        self._log = log
        self._lives: dict[str, tuple[int, float]] = {}  #: how many short ones, and when the present one began
        self._timers: dict[str, threading.Timer] = {}
        self._lock = threading.Lock()

    def began(self, launcher: EngineLauncher) -> None:
        """A set was started."""
        with self._lock:
            lives, _ = self._lives.get(launcher.engine_set_id, (0, 0.0))
            self._lives[launcher.engine_set_id] = lives, time.monotonic()

    def ended(self, launcher: EngineLauncher) -> bool:
        """A set died: start it anew in a while. Returns False if it has died too often."""
        name = launcher.engine_set_id
        with self._lock:
            lives, began = self._lives.get(name, (0, 0.0))
            lives = 1 if time.monotonic() - began > LONG_LIFE else lives + 1
            self._lives[name] = lives, began
            if lives > MOST:
                return False
            pause = min(LONGEST_PAUSE, FIRST_PAUSE * 2 ** (lives - 1))
            timer = self._timers[name] = threading.Timer(pause, self._again, (launcher,))
            timer.daemon = True
            timer.start()
        return True

    def cancel(self, name: str | None = None) -> None:
        """Start nothing any more: of the set with this id, or of all."""
        with self._lock:
            for each in [name] if name is not None else list(self._timers):
                if (timer := self._timers.pop(each, None)) is not None:
                    timer.cancel()
                self._lives.pop(each, None)

    def _again(self, launcher: EngineLauncher) -> None:
        with self._lock:
            if self._timers.pop(launcher.engine_set_id, None) is not threading.current_thread():
                return  # cancelled in this very moment
        try:
            self._start(launcher)
        except Exception as error:  # whatever a launcher may raise; there is nobody above to hear of it
            self._log().warning("Engine set %s could not be started anew: %s", launcher.engine_set_id, error)
