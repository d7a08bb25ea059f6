"""How the task that runs in the main thread is interrupted: by a signal, from the thread that reads the line.

A task that is to be interrupted may have ended when the signal is handled, and another one may run. So where the system
has signals to spare, one of them says "the task named by ``meant``", and SIGINT keeps its meaning: whatever runs.
"""

from __future__ import annotations

import signal
import threading
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType

#: The first real-time signals belong to the C library, and others begin to count there, too.
_OFFSET: Final = 11
PRIVATE: Final = int(signal.SIGRTMIN) + _OFFSET if hasattr(signal, "SIGRTMIN") else int(signal.SIGINT)


class Interrupts:
    """Interrupts one certain task, or whatever runs. To be made in the main thread, which runs the tasks."""

    def __init__(self, is_running: Callable[[int], bool], act: Callable[[FrameType | None], None]) -> None:
        """``act`` is called in the main thread to interrupt what runs, if ``is_running`` says that it is meant.

        It is told the frame at which the main thread was.
        """
        self._is_running = is_running
        self._act = act
        self._meant = -1
        self.handled = 0  #: how many have reached the main thread
        signal.signal(signal.SIGINT, self._interrupt_any)
        if signal.SIGINT != PRIVATE:
            signal.signal(PRIVATE, self._interrupt_meant)

    def send(self, task: int) -> None:
        """Interrupt this task if it still runs when the main thread gets to it."""
        self._meant = task
        wake_main_thread(PRIVATE)

    def _interrupt_any(self, _number: int, frame: FrameType | None) -> None:
        self.handled += 1
        self._act(frame)

    def _interrupt_meant(self, _number: int, frame: FrameType | None) -> None:
        self.handled += 1
        if self._is_running(self._meant):
            self._act(frame)


def wake_main_thread(number: int = signal.SIGINT) -> None:
    """Send the main thread a signal, which also wakes it from system calls that block."""
    thread = threading.main_thread().ident
    if hasattr(signal, "pthread_kill") and thread is not None:
        signal.pthread_kill(thread, number)
    else:
        signal.raise_signal(number)
