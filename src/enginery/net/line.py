"""One dialled socket, used by whichever thread needs it: the one that waits drives it, else a thread of its own.

A hand-over from thread to thread costs about as much as a quarter of a whole round trip, so a thread that waits for
an answer reads the socket itself, and one that asks while nothing else is under way writes it itself. The line's own
thread does the rest: everything while nobody waits.

Rules of the room:

1. The socket is touched only under ``lock``, and never while waiting. (libzmq allows a socket to move between
   threads with a full memory barrier, which taking a lock is.)
2. libzmq's descriptor tells of changes, not of states: after any use, the socket is read until it is empty.
3. While a thread drives, the line's own thread does not look at the socket's descriptor.
4. What a turn heard is told to the speaker under the lock; ``after_turn`` runs outside of it, so user code may call
   back into the line.
5. Ctrl-C in a driving main thread is taken between turns, where nothing is half done.
"""

from __future__ import annotations

import _signal  # type: ignore[import-not-found]  # see _defer_ctrl_c
import select
import signal
import threading
from time import monotonic
from typing import TYPE_CHECKING, Final, Protocol

import zmq

from enginery.net.wakeup import Wakeup

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType

    from enginery.net.sockets import Socket

#: Messages read in one turn, so that a flood does not keep a driving thread from looking at what it waits for.
TURN: Final = 1000
#: Longest single wait in seconds: systems limit what they take, and a deadline may be infinity.
LONGEST_WAIT: Final = 3600.0
_CAN_DRIVE: Final = hasattr(select, "epoll")


class Speaker(Protocol):
    """The mind behind a line. All but ``after_turn`` are called under the line's lock."""

    def next_message(self) -> tuple[bytes, list[object]] | None:
        """The message to send next, which stays the next until ``sent``; None if there is none."""

    def sent(self) -> None:
        """What ``next_message`` gave was handed to the socket."""

    def heard(self, header: object, frames: list[object]) -> None:
        """A message has come in: a buffer to decode, and the raw frames behind it."""

    def tick(self, now: float) -> None:
        """Time has passed."""

    def next_deadline(self) -> float | None:
        """When ``tick`` is due, in monotonic seconds."""

    def after_turn(self) -> None:
        """A turn is over and the lock is free."""


class Line:
    """A socket shared between threads. Thread-safe."""

    def __init__(self, socket: Socket, speaker: Speaker, *, name: str, defer_ctrl_c: bool = True) -> None:
        """``defer_ctrl_c``: rule 5; False where the handler of SIGINT raises nothing while the line is in use."""
        self._defers_ctrl_c = defer_ctrl_c
        self.lock = threading.RLock()
        self.closed = False
        self._socket = socket
        self._readable = [(socket, zmq.POLLIN)]
        self._speaker = speaker
        self._fd = socket.FD
        self._changed = threading.Condition()
        self._waiters = 0
        self._driver = threading.Lock()
        self._driver_wakeup = Wakeup()
        self._wakeup = Wakeup()
        #: Has the line's own thread do a turn soon: there is something to send, or a deadline has changed.
        self.wake = self._wakeup.set
        poller = select.poll() if _CAN_DRIVE else None
        if poller is not None:
            poller.register(self._fd, select.POLLIN)
            poller.register(self._driver_wakeup.fileno(), select.POLLIN)
            self._poll = poller.poll
        self._ctrl_c: tuple[int, FrameType | None] | None = None
        self._watch = select.epoll() if _CAN_DRIVE else None
        if self._watch is not None:
            self._watch.register(self._fd, select.EPOLLIN)
            self._watch.register(self._wakeup.fileno(), select.EPOLLIN)
        self._extra = -1
        self._on_extra: Callable[[], None] = lambda: None
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    def watch(self, fd: int, ended: Callable[[], None]) -> None:
        """Call ``ended`` once, under the lock, when ``fd`` becomes readable: a process has gone. Before ``start``."""
        self._extra, self._on_extra = fd, ended
        if self._watch is not None:
            self._watch.register(fd, select.EPOLLIN)

    def _look_at_extra(self) -> None:
        """The line's own thread sees to it, whoever drives."""
        if self._extra < 0 or not select.select([self._extra], [], [], 0)[0]:
            return
        fd, self._extra = self._extra, -1
        if self._watch is not None:
            self._watch.unregister(fd)
        with self.lock:
            self._on_extra()
        self._speaker.after_turn()
        self._announce()

    def start(self) -> None:
        """Start the line's own thread."""
        self._thread.start()

    @property
    def is_own_thread(self) -> bool:
        """Whether the caller is the line's own thread."""
        return threading.current_thread() is self._thread

    # --- what callers do ----------------------------------------------------------------------------------------

    def flush(self) -> None:
        """Send what there is to send, now and in this thread; what comes in meanwhile is left to others."""
        with self.lock:
            if not self.closed and self._flush() and zmq.zmq_poll(self._readable, 0):
                self._wakeup.set()  # rule 2

    def wait_for(self, predicate: Callable[[], bool], timeout: float | None = None) -> bool:
        """Wait until ``predicate()`` is true, driving the socket meanwhile. False if ``timeout`` seconds were over.

        The predicate is called without the lock, after each turn that heard something. KeyboardInterrupt and what
        the predicate raises come through.
        """
        if predicate():
            return True
        deadline = None if timeout is None else monotonic() + timeout
        while True:
            if _CAN_DRIVE and self._driver.acquire(blocking=False):
                try:
                    return self._drive(predicate, deadline)
                finally:
                    self._driver.release()
                    self._announce()
            with self._changed:
                self._waiters += 1
                try:
                    left = None if deadline is None else max(0.0, deadline - monotonic())
                    self._changed.wait_for(lambda: predicate() or self._is_undriven(), left)
                finally:
                    self._waiters -= 1
            if predicate():
                return True
            if deadline is not None and monotonic() >= deadline:
                return False

    def close(self) -> None:
        """Stop the thread and close the socket; what was sent still leaves within the socket's linger time."""
        with self.lock:
            if self.closed:
                return
            self._flush()
            self.closed = True
        self._wakeup.set()
        self._driver_wakeup.set()
        if self._thread.is_alive() and not self.is_own_thread:
            self._thread.join()
        with self.lock:
            if self._watch is not None:
                self._watch.close()
            self._socket.close()
        self._announce()

    # --- turns --------------------------------------------------------------------------------------------------

    def _turn(self, *, driving: bool = False) -> None:
        with self.lock:
            if self.closed:
                return
            self._flush()
            heard = self._drain()
            now = monotonic()
            due = self._speaker.next_deadline()
            if due is not None and due <= now:
                self._speaker.tick(now)
                self._flush()
                heard += 1 + self._drain()
        if heard:
            self._speaker.after_turn()
            self._announce(driving=driving)

    def _flush(self) -> bool:
        """Send what there is to send. Whether there was anything."""
        speaker, socket = self._speaker, self._socket
        message = speaker.next_message()
        if message is None:
            return False
        while message is not None:
            header, frames = message
            if frames:
                socket.send(header, zmq.SNDMORE)
                for frame in frames[:-1]:
                    socket.send(frame, zmq.SNDMORE, copy=False)  # type: ignore[call-overload]  # buffers all
                socket.send(frames[-1], copy=False)  # type: ignore[call-overload]  # likewise
            else:
                socket.send(header)
            speaker.sent()
            message = speaker.next_message()
        return True

    def _drain(self) -> int:
        # zmq_poll costs 2 µs, reading the option EVENTS 6 and an empty recv 5; frames know of their successors for 1.
        socket, heard = self._socket, 0
        while zmq.zmq_poll(self._readable, 0):
            header = socket.recv(copy=False)
            frames: list[object] = []
            more = header.more
            while more:
                frame = socket.recv(copy=False)
                frames.append(frame.buffer)
                more = frame.more
            self._speaker.heard(header, frames)
            heard += 1
            if heard >= TURN:
                self._wakeup.set()  # rule 2: somebody has to come back for the rest
                break
        return heard

    def _announce(self, *, driving: bool = False) -> None:
        """Tell those who wait that something may have changed for them. ``driving``: the caller is one of them."""
        if not driving and self._driver.locked():
            self._driver_wakeup.set()
        if self._waiters:
            with self._changed:
                self._changed.notify_all()

    def _is_undriven(self) -> bool:
        return _CAN_DRIVE and not self._driver.locked()

    # --- a thread that waits ------------------------------------------------------------------------------------

    def _drive(self, predicate: Callable[[], bool], deadline: float | None) -> bool:
        assert self._watch is not None
        poll = self._poll
        restore = self._defer_ctrl_c()
        self._stand_back(back=True)
        try:
            self.flush()
            while True:
                if predicate():
                    return True
                if self._ctrl_c is not None:
                    self._take_ctrl_c(restore)
                if self.closed or (deadline is not None and monotonic() >= deadline):
                    return predicate()
                poll(None if deadline is None else max(0.0, (deadline - monotonic()) * 1000 + 0.5))
                self._driver_wakeup.clear()
                self._turn(driving=True)
        finally:
            self._stand_back(back=False)
            if restore is not None:
                _signal.signal(signal.SIGINT, restore)

    def _stand_back(self, *, back: bool) -> None:
        """Have the line's own thread ignore the socket's descriptor, or look at it again."""
        with self.lock:
            if not self.closed and self._watch is not None:
                self._watch.modify(self._fd, 0 if back else select.EPOLLIN)

    def _defer_ctrl_c(self) -> Callable[[int, FrameType | None], object] | None:
        """In the main thread, note Ctrl-C instead of raising at once. Returns the handler to put back.

        By the module under ``signal``, whose functions do not turn numbers into enums and back: 1 µs, not 10, each wait.
        """
        if not self._defers_ctrl_c or threading.current_thread() is not threading.main_thread():
            return None
        handler: Callable[[int, FrameType | None], object] | None = _signal.getsignal(signal.SIGINT)
        if not callable(handler):
            return None
        self._ctrl_c = None
        _signal.signal(signal.SIGINT, self._note_ctrl_c)
        return handler

    def _note_ctrl_c(self, number: int, frame: FrameType | None) -> None:
        self._ctrl_c = (number, frame)
        self._driver_wakeup.set()

    def _take_ctrl_c(self, handler: Callable[[int, FrameType | None], object] | None) -> None:
        noted, self._ctrl_c = self._ctrl_c, None
        if handler is not None and noted is not None:
            handler(*noted)

    # --- the line's own thread ----------------------------------------------------------------------------------

    def _run(self) -> None:
        poller: zmq.Poller | None = None
        if self._watch is None:  # no epoll: this thread alone reads the socket
            poller = zmq.Poller()
            poller.register(self._fd, zmq.POLLIN)
            poller.register(self._wakeup.fileno(), zmq.POLLIN)
        while not self.closed:
            with self.lock:
                due = self._speaker.next_deadline()
            left = None if due is None else min(max(0.0, due - monotonic()), LONGEST_WAIT)
            if self._watch is not None:
                self._watch.poll(left)
            elif poller is not None:
                poller.poll(None if left is None else int(left * 1000) + 1)
            self._wakeup.clear()
            if self._extra >= 0:
                self._look_at_extra()
            self._turn()
