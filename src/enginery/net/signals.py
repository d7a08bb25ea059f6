"""Signals as something to select on, for a loop that must not be interrupted half-way."""

from __future__ import annotations

import signal
import socket
from typing import TYPE_CHECKING, ClassVar, Final

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType

    Handler = Callable[[int, FrameType | None], object] | int | None

#: Signals that ask a program to leave. Those that this system does not have are left out.
LEAVING: Final = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name))
#: What ends a process for certain; Windows knows one way only.
KILL: Final = int(getattr(signal, "SIGKILL", signal.SIGTERM))


class SignalWatch:
    """Takes over the signals of ``LEAVING`` until it is closed; ``fileno()`` is readable when one has come.

    To be made in the main thread, and only there.
    """

    __slots__ = ("_before", "_reader", "_writer")
    closed: ClassVar = False  #: whether this process has closed one

    def __init__(self) -> None:
        self._reader, self._writer = socket.socketpair()
        self._reader.setblocking(False)
        self._writer.setblocking(False)
        signal.set_wakeup_fd(self._writer.fileno(), warn_on_full_buffer=False)
        # What is ignored stays ignored: nohup, and jobs that a shell put into the background.
        taken = [number for number in LEAVING if signal.getsignal(number) is not signal.SIG_IGN]
        self._before: dict[int, Handler] = {number: signal.signal(number, _note) for number in taken}
        if hasattr(signal, "SIGCHLD"):
            # A parent that ignores SIGCHLD hands that on, and then nobody can learn exit codes.
            self._before[signal.SIGCHLD] = signal.signal(signal.SIGCHLD, signal.SIG_DFL)

    def __repr__(self) -> str:
        return f"<SignalWatch {' '.join(signal.Signals(number).name for number in self._before)}>"

    def fileno(self) -> int:
        """The descriptor to wait for."""
        return self._reader.fileno()

    def take(self) -> list[signal.Signals]:
        """The signals of ``LEAVING`` that have come since the last call."""
        try:
            numbers = self._reader.recv(4096)
        except BlockingIOError:
            return []
        return [signal.Signals(number) for number in numbers if number in LEAVING]

    def forget(self) -> None:
        """In a forked child, which sets its own handlers: close the descriptors."""
        self._reader.close()
        self._writer.close()

    def close(self) -> None:
        """Put back the handlers that were there before."""
        SignalWatch.closed = True
        signal.set_wakeup_fd(-1)
        for number, handler in self._before.items():
            # None is a handler that was not set from Python and so cannot be put back. What is ignored stays so to the
            # very end; the interpreter takes handlers away before that.
            last = signal.SIG_IGN if handler is _end else signal.SIG_DFL if handler is None else handler
            signal.signal(number, last)
        self.forget()


def end_once() -> None:
    """For programs that end with their SignalWatch: who is about to be gone need not be asked to leave again.

    Until there is a watch, signals do what they do by default; once it was closed, those of ``LEAVING`` do nothing. A
    second SIGTERM in a program's last moments would make its good end look like a death.
    """
    for number in LEAVING:
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, _end)


def _end(number: int, _frame: FrameType | None) -> None:
    if not SignalWatch.closed:
        signal.signal(number, signal.SIG_DFL)
        signal.raise_signal(number)


def to_signal(number: int | str) -> signal.Signals | None:
    """The signal with this number or name; None if this system has no such signal."""
    try:
        return signal.Signals[number] if isinstance(number, str) else signal.Signals(number)
    except (KeyError, ValueError):
        return None


def _note(number: int, frame: FrameType | None) -> None:
    """Have the interpreter write the signal's number to the descriptor, which it does for handled signals only."""
