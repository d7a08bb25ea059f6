"""One dialled connection, used by whichever thread needs it: the one that waits drives it, else a thread of its own.

A hand-over from thread to thread costs about as much as a quarter of a whole round trip, so a thread that waits for
an answer reads the connection itself, and one that asks while nothing else is under way writes it itself. The
line's own thread does the rest: everything while nobody waits, and everything that is due at a certain time.

Rules of the room:

1. The channel is touched only under ``lock``, and never while waiting. (libzmq allows a socket to move between
   threads with a full memory barrier, which taking a lock is.)
2. While a thread drives, the line's own thread does not look for input.
3. What a turn heard is told to the speaker under the lock; ``after_turn`` runs outside of it, so user code may call
   back into the line.
4. Ctrl-C in a main thread that drives or sends is taken between turns, where nothing is half done.
5. No user code runs in a turn: what it calls might wait for the line, which nobody would drive meanwhile.
6. A line whose connection is lost may get another one, made by its own thread; whoever waits goes on waiting.
7. A forked child gets a closed line. What it sent on the parent's connection would be garbage to the other side.
"""

from __future__ import annotations

import _signal  # type: ignore[import-not-found]  # see _defer_ctrl_c
import os
import select
import threading
from time import monotonic
from typing import TYPE_CHECKING, Final, Protocol
from weakref import WeakSet

from enginery.net.channel import ChannelClosed
from enginery.net.wakeup import Wakeup

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType

    from enginery.net.channel import Channel

    Handler = Callable[[int, FrameType | None], object]

#: Longest single wait in seconds: systems limit what they take, and a deadline may be infinity.
LONGEST_WAIT: Final = 3600.0
#: How long what was sent may take to leave when the line is closed, in seconds.
LINGER: Final = 1.0
_CAN_DRIVE: Final = hasattr(select, "epoll")
_IN: Final = select.EPOLLIN if _CAN_DRIVE else 1
_OUT: Final = select.EPOLLOUT if _CAN_DRIVE else 4
_MAIN: Final = threading.main_thread().ident


class Speaker(Protocol):
    """The mind behind a line. All but ``after_turn`` are called under the line's lock."""

    def next_message(self) -> tuple[bytes, list[object]] | None:
        """The message to send next, which stays the next until ``sent``; None if there is none."""

    def sent(self) -> None:
        """What ``next_message`` gave was handed to the channel."""

    def heard(self, header: object, frames: list[memoryview]) -> None:
        """A message has come in: a buffer to decode, and the raw frames behind it."""

    def lost(self, why: str) -> bool:
        """The connection is gone. True: ``redial`` may give another one. False: nothing will come or leave any more."""

    def redial(self) -> Channel | None:
        """Another connection for the one that is lost, None if there is none yet; then ``tick`` is called when it is due.

        Called by the line's own thread, without the lock. What ``next_message`` gives next is sent over it.
        """

    def forked(self) -> None:
        """This process is a forked child: the connection is its parent's. Called without the lock, which is new."""

    def tick(self, now: float) -> None:
        """Time has passed."""

    def next_deadline(self) -> float:
        """When ``tick`` is due, in monotonic seconds; infinity for never."""

    def after_turn(self) -> None:
        """A turn is over and the lock is free. Must not wait for the line."""


class Line:
    """A connection shared between threads. Thread-safe."""

    def __init__(self, channel: Channel, speaker: Speaker, *, name: str, defer_ctrl_c: bool = True) -> None:
        """``defer_ctrl_c``: rule 4; False where the handler of SIGINT raises nothing while the line is in use."""
        self.lock = threading.RLock()
        self.closed = False
        self.is_lost = False  #: there is no connection
        self.is_away = False  #: … but there may be another one soon
        self._connections = 1
        self._channel = channel
        self._speaker = speaker
        self._fd = channel.fileno()
        self._defers_ctrl_c = defer_ctrl_c
        self._changed = threading.Condition()
        self._waiters = 0
        self._driver = threading.Lock()
        self._driver_wakeup = Wakeup()
        self._wakeup = Wakeup()
        #: Has the line's own thread do a turn soon: there is something to send, or a deadline has changed.
        self.wake = self._wakeup.set
        self._ctrl_c: tuple[int, FrameType | None] | None = None
        self._driven = 0
        if _CAN_DRIVE:
            self._poll = self._new_poll()
            self._watch = select.epoll()
            self._watch.register(self._fd, _IN)
            self._watch.register(self._wakeup.fileno(), _IN)
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        _lines.add(self)

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
        restore = self._defer_ctrl_c() if self._defers_ctrl_c else None
        try:
            with self.lock:
                if not self.closed:
                    self._flush()
        finally:
            if restore is not None:
                self._end_deferral(restore)

    def wait_for(self, predicate: Callable[[], bool], timeout: float | None = None) -> bool:
        """Wait until ``predicate()`` is true, driving the connection. False if ``timeout`` seconds were over.

        What there is to send is sent first. The predicate is called without the lock, after each turn that heard
        something. KeyboardInterrupt and what the predicate raises come through.
        """
        deadline = None if timeout is None else monotonic() + timeout
        while True:
            if _CAN_DRIVE and not self.is_away and self._driver.acquire(blocking=False):
                try:
                    # Looked at with the driver's lock held: from now on news wake this thread.
                    if predicate() or self._drive(predicate, deadline):
                        return True
                    if self._is_over() or (deadline is not None and monotonic() >= deadline):
                        return False  # else there was a loss, and there may be another connection already
                finally:
                    self._driver.release()
                    if self._waiters:
                        self.announce()
            self.flush()  # who drives has nothing to send, and does not look
            with self._changed:
                self._waiters += 1
                try:
                    left = None if deadline is None else max(0.0, deadline - monotonic())
                    self._changed.wait_for(lambda: predicate() or self._is_undriven(), left)
                finally:
                    self._waiters -= 1
            if predicate():
                return True
            if self.closed or (deadline is not None and monotonic() >= deadline):
                return False

    def _is_over(self) -> bool:
        """Whether nothing will come any more."""
        with self.lock:
            return self.closed or (self.is_lost and not self.is_away)

    def close(self) -> None:
        """Stop the thread and close the connection; what was sent may still leave within ``LINGER``."""
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
            self._channel.close(0.0 if self.is_lost else LINGER)
            if _CAN_DRIVE:
                self._watch.close()
        self.announce()

    # --- turns --------------------------------------------------------------------------------------------------

    def _turn(self, *, driving: bool = False) -> None:
        with self.lock:
            if self.closed:
                return
            heard = self._hear()
            self._flush()  # answers to what was heard
        if heard:
            self._speaker.after_turn()
            if not driving or self._waiters:
                self.announce(driving=driving)

    def _flush(self) -> None:
        """Send what there is to send."""
        speaker, channel = self._speaker, self._channel
        if self.is_lost:
            return  # before the speaker is asked: what it gives counts as sent
        message = speaker.next_message()
        if message is None:
            return
        try:
            while message is not None:
                channel.send(*message)
                speaker.sent()
                message = speaker.next_message()
            if channel.wants_write:
                self._look_for(out=True)
            if channel.has_unseen():
                (self._driver_wakeup if self._driven else self._wakeup).set()
        except ChannelClosed as error:
            self._lose_after_hearing(str(error))

    def _hear(self) -> int:
        """Tell the speaker what has come in. How much it was."""
        heard = 0
        if self.is_lost:
            return heard
        try:
            for header, frames in self._channel.receive():
                self._speaker.heard(header, frames)
                heard += 1
                if self.is_lost:
                    break  # type: ignore[unreachable]  # the speaker may have dropped the connection
        except ChannelClosed as error:
            self._lose(str(error))
            heard += 1
        return heard

    def _lose_after_hearing(self, why: str) -> None:
        """Nothing leaves any more. What the other side said before, as why it hung up, is heard first."""
        while not self.is_lost and self._hear():
            pass
        if not self.is_lost:
            self._lose(why)

    def _lose(self, why: str) -> None:
        if _CAN_DRIVE:
            self._watch.unregister(self._fd)
        # In this order: who sees that the line is lost, without the lock, shall find the speaker's words.
        self.is_away = self._speaker.lost(why)
        self.is_lost = True
        self._driver_wakeup.set()
        self._wakeup.set()

    def drop(self, why: str) -> None:
        """Take the connection for lost, whatever it looks like. To be called under the lock."""
        if not self.is_lost:
            self._lose(why)

    def give_up(self) -> None:
        """There will be no other connection. To be called under the lock."""
        self.is_away = False
        self._wakeup.set()

    def _redial(self) -> None:
        """In the line's own thread: replace the connection that was lost, if there is another one."""
        channel = self._speaker.redial()
        if channel is None:
            return
        with self.lock:
            if self.closed:
                channel.close(0.0)
                return
            self._channel.close(0.0)
            self._channel, self._fd = channel, channel.fileno()
            self._connections += 1
            self.is_lost = self.is_away = False
            if _CAN_DRIVE:
                # A poll of its own: who still drives the old connection, until it looks, has that one's.
                self._poll = self._new_poll()
                self._watch.register(self._fd, 0 if self._driven else _IN)
            self._flush()
        self.announce()

    def _new_poll(self) -> Callable[[float | None], list[tuple[int, int]]]:
        poll = select.poll()
        poll.register(self._fd, select.POLLIN)
        poll.register(self._driver_wakeup.fileno(), select.POLLIN)
        return poll.poll

    def announce(self, *, driving: bool = False) -> None:
        """Tell those who wait that something may have changed for them. ``driving``: the caller is one of them."""
        if not driving and self._driver.locked():
            self._driver_wakeup.set()
        if self._waiters:
            with self._changed:
                self._changed.notify_all()

    def _is_undriven(self) -> bool:
        return _CAN_DRIVE and not self.is_away and not self._driver.locked()

    def _look_for(self, *, out: bool) -> None:
        """Tell the line's own thread what to wait for on the connection."""
        if _CAN_DRIVE and not self.is_lost:
            self._watch.modify(self._fd, (0 if self._driven else _IN) | (_OUT if out else 0))

    # --- a thread that waits ------------------------------------------------------------------------------------

    def _drive(self, predicate: Callable[[], bool], deadline: float | None) -> bool:
        poll, wakeup, fd_here, connection = self._poll, self._driver_wakeup, self._fd, self._connections
        restore = self._defer_ctrl_c() if self._defers_ctrl_c else None
        self._stand_back(back=True)
        try:
            while True:
                if self._ctrl_c is not None and restore is not None:
                    self._take_ctrl_c(restore)
                if self.closed or self.is_lost or (deadline is not None and monotonic() >= deadline):
                    return predicate()
                if self._connections != connection:
                    poll, fd_here, connection = self._poll, self._fd, self._connections
                left = None if deadline is None else max(0.0, (deadline - monotonic()) * 1000 + 0.5)
                for fd, _ in poll(left):
                    if fd != fd_here:
                        wakeup.clear()
                self._turn(driving=True)
                if predicate():
                    return True
        finally:
            self._stand_back(back=False)
            if restore is not None:
                self._end_deferral(restore)

    def _stand_back(self, *, back: bool) -> None:
        """Have the line's own thread leave input to this one, or look for it again."""
        with self.lock:
            if self.closed:
                return
            self._driven = back
            if back:
                self._flush()
            if not self.is_lost:
                self._watch.modify(self._fd, (0 if back else _IN) | (_OUT if self._channel.wants_write else 0))
                if self._channel.has_unseen():
                    # Who looked until now was told, and looks no more; the descriptor does not tell again.
                    (self._driver_wakeup if back else self._wakeup).set()

    def _defer_ctrl_c(self) -> Handler | None:
        """In the main thread, note Ctrl-C instead of raising at once. Returns the handler to put back.

        By the module under ``signal``, whose functions do not turn numbers into enums and back: 1 µs, not 10, each wait.
        """
        if threading.get_ident() != _MAIN:
            return None
        handler: Handler | None = _signal.getsignal(2)
        if not callable(handler) or handler == self._note_ctrl_c:
            return None
        self._ctrl_c = None
        _signal.signal(2, self._note_ctrl_c)
        return handler

    def _note_ctrl_c(self, number: int, frame: FrameType | None) -> None:
        self._ctrl_c = (number, frame)
        self._driver_wakeup.set()

    def _end_deferral(self, handler: Handler) -> None:
        _signal.signal(2, handler)
        if self._ctrl_c is not None:
            self._take_ctrl_c(handler)

    def _take_ctrl_c(self, handler: Handler) -> None:
        noted, self._ctrl_c = self._ctrl_c, None
        if noted is not None:
            handler(*noted)

    # --- the line's own thread ----------------------------------------------------------------------------------

    def _run(self) -> None:
        wakeup = self._wakeup.fileno()
        try:
            while not self.closed:
                with self.lock:
                    left = min(max(0.0, self._speaker.next_deadline() - monotonic()), LONGEST_WAIT)
                if _CAN_DRIVE:
                    ready = [fd for fd, _ in self._watch.poll(left)]
                else:  # a select that other threads cannot change: this thread alone reads
                    here = [] if self.is_lost else [self._fd]
                    out = here if self._channel.wants_write else []
                    ready = select.select([*here, wakeup], out, [], left)[0]
                if wakeup in ready:
                    self._wakeup.clear()
                self._own_turn()
                if self.is_away:
                    self._redial()
        except Exception as error:
            # Nothing would ever come any more, and nobody would know: rather say so.
            with self.lock:
                if not self.closed and not self.is_lost:
                    self._lose(f"of a fault in this process: {error!r}")
            self._speaker.after_turn()
            self.announce()
            raise

    def _own_turn(self) -> None:
        """A turn of the line's own thread: it also goes on with sending, and sees to what is due."""
        ticked = False
        with self.lock:
            if self.closed:
                return
            if self._channel.wants_write and not self.is_lost:
                self._write()
            heard = self._hear() if not self._driven or not _CAN_DRIVE else 0
            now = monotonic()
            if self._speaker.next_deadline() <= now:
                self._speaker.tick(now)
                ticked = True
            self._flush()
        if heard or ticked or self.is_lost:
            self._speaker.after_turn()
            self.announce()

    def _write(self) -> None:
        try:
            self._channel.write()
        except ChannelClosed as error:
            self._lose_after_hearing(str(error))
            return
        self._look_for(out=self._channel.wants_write)

    # --- a forked child -------------------------------------------------------------------------------------------

    def _end_in_child(self) -> None:
        """In a forked child: let go of the connection, and of locks that other threads of the parent may have held."""
        self.lock = threading.RLock()
        self._changed = threading.Condition()
        self._driver = threading.Lock()
        self._waiters = 0
        self.closed = self.is_lost = True
        self.is_away = False
        self._wakeup.mute()
        self._driver_wakeup.mute()
        if _CAN_DRIVE:
            self._watch.close()  # and never changed here: the parent's is the same one
        self._channel.abandon()
        self._speaker.forked()


_lines: WeakSet[Line] = WeakSet()


def _end_lines_in_child() -> None:
    for line in list(_lines):
        line._end_in_child()  # noqa: SLF001 - of this file


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_end_lines_in_child)
