"""Engine sets and controllers that died are started anew, at growing distances, and not for ever."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    import logging
    from collections.abc import Callable

    from enginery.cluster.launchers.base import BaseLauncher

#: What ran for so many seconds was a success: the next start is the first one again.
LONG_LIFE: Final = 60.0
#: How many short lives in a row it may have.
MOST: Final = 5
#: Seconds until the first restart and the most there may be; each pause is twice the one before.
FIRST_PAUSE, LONGEST_PAUSE = 0.25, 30.0


class Restarts:
    """Restarts of what belongs to one cluster: sets by their ids, the controller by the name "". Thread-safe."""

    def __init__(self, start: Callable[[BaseLauncher], object], log: Callable[[], logging.Logger]) -> None:
        """``start(launcher)`` starts what ``launcher`` had started, which died."""
        self._start = start
        self._log = log
        self._lives: dict[str, tuple[int, float]] = {}  #: how many short ones, and when the present one began
        self._timers: dict[str, threading.Timer] = {}
        self._lock = threading.Lock()

    def began(self, launcher: BaseLauncher) -> None:
        """Something was started."""
        name = name_of(launcher)
        with self._lock:
            lives, _ = self._lives.get(name, (0, 0.0))
            self._lives[name] = lives, time.monotonic()

    def ended(self, launcher: BaseLauncher) -> bool:
        """It died: start it anew in a while. Returns False if it has died too often."""
        name = name_of(launcher)
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
        """Start nothing any more: of what has this name, or of all."""
        with self._lock:
            for each in [name] if name is not None else list(self._timers):
                if (timer := self._timers.pop(each, None)) is not None:
                    timer.cancel()
                self._lives.pop(each, None)

    def _again(self, launcher: BaseLauncher) -> None:
        with self._lock:
            if self._timers.pop(name_of(launcher), None) is not threading.current_thread():
                return  # cancelled in this very moment
        try:
            self._start(launcher)
        except Exception as error:  # whatever a launcher may raise; there is nobody above to hear of it
            what = f"Engine set {name}" if (name := name_of(launcher)) else "The controller"
            self._log().warning("%s could not be started anew: %s", what, error)


def name_of(launcher: BaseLauncher) -> str:
    """By which its restarts are counted."""
    return str(getattr(launcher, "engine_set_id", ""))
