"""The engine's connection to the controller: marries the engine's mind to a line."""

from __future__ import annotations

import logging
import os
import socket
import time
from typing import TYPE_CHECKING, Final

from enginery.core.membership import Membership
from enginery.engine.limits import TimeLimit
from enginery.engine.sharing import Sharing
from enginery.net.away import Away
from enginery.net.beat import LEASE
from enginery.net.line import Line
from enginery.net.sockets import dial_patiently, is_deserted, key_for, redial
from enginery.wire import messages as m

if TYPE_CHECKING:
    from collections.abc import Callable

    from enginery.engine.begun import BegunCell
    from enginery.engine.options import EngineOptions
    from enginery.net.channel import Channel

log = logging.getLogger("enginery.engine")

#: While tasks run one after another, how long finished results may wait for the next flush, in seconds.
RESULT_DELAY: Final = 0.003
#: How long the running task may take to end after the engine was told to leave, in seconds.
LEAVING_GRACE: Final = 1.0
#: What is logged from time to time while the controller is not reached.
UNREACHED: Final = "the controller is not reached, still trying; %s"
_NEVER: Final = float("inf")


class Link:
    """One engine's connection."""

    def __init__(self, options: EngineOptions, uuid: str, begun: BegunCell) -> None:
        wanted = -1 if options.id is None else options.id
        hello = m.EngineHello(m.VERSION, uuid, os.getpid(), socket.gethostname(), wanted)
        hello.engine_set, hello.rank = options.engine_set, options.rank
        self.member = Membership(hello)
        # The line's speaker has these two, straight from the mind: they are called several times for each task.
        self.next_message = self.member.next_message
        self.sent = self.member.sent
        self.on_tick: Callable[[], None] = lambda: None  #: lets output flush what it has kept
        self.on_fork: Callable[[], None] = lambda: None  #: lets output go elsewhere in a forked child
        self.interrupt: Callable[[int], None] = lambda _task: None  #: interrupts a task if it still runs
        #: wakes the main thread out of user code; before there is any, the main thread waits for this link
        self.wake_user_code: Callable[[], None] = lambda: None
        self._limit = TimeLimit(self.member, begun, self._interrupt_late)
        self.sharing = Sharing("", 0)
        self._misses = options.max_misses
        self._period = 3.0
        self._heard = time.monotonic()
        self._next_ping = _NEVER
        self._flush_by = _NEVER  #: when what is unsent has to leave
        self._look_at = _NEVER  #: when the line's thread looks whether that time has come
        self._exit_by = _NEVER
        self._away = Away()
        self._returns = False  #: another controller may take the place of this one
        self._connection = options.connection
        self._segments = options.segments
        self._epoch = 0
        patience = options.timeout * max(options.max_misses, 1)
        channel = dial_patiently(options.connection, patience, tell=lambda why: log.warning(UNREACHED, why))
        hello.key = key_for(options.connection, channel)
        self.line = Line(channel, self, name="enginery-engine-link", defer_ctrl_c=False)
        self.line.start()

    def wait_for_welcome(self, timeout: float) -> bool:
        """Wait until the controller has answered the hello. False if it did not within ``timeout`` seconds."""
        return self.line.wait_for(lambda: self.member.welcome is not None or self.member.leaving is not None, timeout)

    def silence(self) -> float:
        """Seconds since the controller was last heard."""
        return time.monotonic() - self._heard

    def flush_soon(self, delay: float = RESULT_DELAY) -> None:
        """Have the line's own thread send what is unsent after ``delay`` seconds, if nobody does before."""
        due = time.monotonic() + delay
        if due < self._flush_by:
            self._flush_by = due  # first, see ``tick``
            if due < self._look_at:
                self._look_at = due
                self.line.wake()

    def flush(self) -> None:
        """Send what is unsent, now."""
        self._flush_by = _NEVER
        self.line.flush()

    def begin(self, task: int, seconds: float) -> None:
        """A task begins that may run for so many seconds."""
        due = self._limit.start(task, seconds)
        if due < min(self._next_ping, self._look_at):  # else the line's thread looks in time by itself
            self.line.wake()

    def end(self) -> None:
        """The task with a time limit has ended."""
        self._limit.end()

    def is_overdue(self, task: int) -> bool:
        """Whether a task was interrupted because of its time limit."""
        return self._limit.overdue == task

    # --- the line's speaker -------------------------------------------------------------------------------------

    def heard(self, header: object, frames: list[memoryview]) -> None:
        """See ``net.line.Speaker``."""
        self._heard = time.monotonic()
        member = self.member
        try:
            message = m.decode_to_engine(header)  # type: ignore[arg-type]  # a buffer
        except m.UNDECODABLE as error:
            log.warning("a message of the controller could not be understood and was dropped: %s", error)
            return
        if type(message) is m.Refused and self._is_known():
            self.line.drop(message.reason)
            return
        member.heard(message, frames)  # type: ignore[arg-type]  # buffers all
        if member.welcome is not None and (self._next_ping == _NEVER or self._away):
            self._welcomed(member.welcome)
        if member.interrupt:
            task, member.interrupt = member.interrupt, 0
            self.interrupt(task)
        if member.leaving is not None:
            self._begin_to_leave()

    def _is_known(self) -> bool:
        """Whether a refusal is no answer to a hello: libzmq has reconnected, before it was seen that the connection had ended."""
        welcome = self.member.welcome
        return welcome is not None and welcome.patience > 0 and not self._away and self.member.leaving is None

    def _welcomed(self, welcome: m.Welcome) -> None:
        if self._away and self.member.refused is None:
            log.warning("engine=%s the connection to the controller is back", self.member.id)
            self._away.back()
        self._period = welcome.period
        self._next_ping = self._heard + self._period
        self.line.wake()  # whose own thread knows of no deadline yet
        if welcome.epoch != self._epoch:
            self.sharing.pool.close()  # its files are gone with the other controller
            self.sharing = Sharing(welcome.runtime, self.member.id, self._segments)
            self.member.released = self.sharing.pool.release
            self._epoch, self._returns = welcome.epoch, welcome.returns
        if self.sharing.folder or self.sharing.host_folder:
            self.member.say(m.Shares(self.sharing.place))

    def lost(self, why: str) -> bool:
        """See ``net.line.Speaker``. The engine works on while it waits for the controller."""
        member = self.member
        patience = member.welcome.patience if member.welcome is not None else 0.0
        if patience and member.leaving is None:
            if not self._away:
                log.warning(
                    "engine=%s the connection to the controller is lost (%s); it is waited for for %g s",
                    member.id,
                    why,
                    patience,
                )
            now = time.monotonic()
            if self._away.lost(why, now, min(patience, self._still_missed(patience, now))):
                self.line.wake()
                return True
        if member.leaving is None:
            member.leaving = f"the controller is gone ({why})"
        self._begin_to_leave()
        return False

    def _still_missed(self, patience: float, now: float) -> float:
        """How long the controller, which hears as little of us as we of it, will not have given us up yet, in seconds.

        What is cut off may have been silent for long when its connection ends, and nobody shall stay for nothing.
        """
        was_stopped = now - self._next_ping > self._period
        return patience + LEASE / 2 - (0.0 if was_stopped else now - self._heard)

    def redial(self) -> Channel | None:
        """See ``net.line.Speaker``."""
        now = time.monotonic()
        if not self._away.may_dial(now):
            return None
        try:
            channel = redial(self._connection)
        except OSError as error:
            if not self._returns and is_deserted(error):
                with self.line.lock:
                    self.member.leaving = f"the controller is gone ({self._away.why}; {error.strerror})"
                    self.line.give_up()
                    self._begin_to_leave()
            return None
        with self.line.lock:
            self.member.come_back()
            self._away.dialled(now)
            self._heard = now
        return channel

    def _wait_on(self, now: float) -> None:
        away = self._away
        if away.is_over(now):
            self.member.leaving = f"the controller is gone ({away.why}), and did not come back in time"
            self.line.give_up()
            self._begin_to_leave()
        elif away.is_unanswered(now):
            self.line.drop("nobody answers there")

    def tick(self, now: float) -> None:
        """See ``net.line.Speaker``."""
        if now >= self._look_at:
            # A look finds mostly that the main thread has seen to it, and that it is time for the next look: that is
            # cheaper than to be woken for each batch of results. In this order, or a wish made meanwhile is lost.
            self._look_at = _NEVER
            due = self._flush_by
            if now >= due:
                self._flush_by = _NEVER
                self.on_tick()
            elif due < self._look_at:
                self._look_at = due
        if now >= self._limit.next_deadline():
            self._limit.tick(now, self._flush_all)
        if self._away:
            self._wait_on(now)
        elif now >= self._next_ping:
            if now - self._next_ping > self._period:
                self._heard = now  # this process was stopped itself, and what came meanwhile is still to be read
            self._next_ping = now + self._period
            silence = now - self._heard
            if self._misses and silence > self._period * self._misses:
                self.line.drop(f"it has been silent for {silence:.0f} s")
            else:
                self.member.say(m.Ping(0))
                self.sharing.pool.trim()
        if now >= self._exit_by:
            # User code did not heed the interrupt, and this process has nothing left to live for.
            log.warning("left while a task was running: %s", self.member.leaving)
            os._exit(0)

    def next_deadline(self) -> float:
        """See ``net.line.Speaker``."""
        ping = self._away.next_deadline() if self._away else self._next_ping
        return min(ping, self._look_at, self._exit_by, self._limit.next_deadline())

    def after_turn(self) -> None:
        """See ``net.line.Speaker``."""

    def forked(self) -> None:
        """See ``net.line.Speaker``: user code has forked. The child runs that code to its end, and no further task."""
        self.member.leaving = "it is a fork of an engine"
        self.on_fork()

    def _begin_to_leave(self) -> None:
        if self._exit_by == _NEVER:
            self._exit_by = time.monotonic() + LEAVING_GRACE
            self.line.wake()
            self.wake_user_code()

    def _interrupt_late(self, task: int) -> None:
        self.interrupt(task)  # which is set when there is somebody to interrupt

    def _flush_all(self) -> None:
        self.on_tick()
        self.flush()
