"""The nanny: tells the controller how its engines fare, and passes the controller's wishes on to them.

It is a light process of its own (forked by the host before any engine), so it answers while user code holds the
interpreter lock of an engine, and reports a death in milliseconds instead of leaving it to be found by silence.

Rules of the room:

1. It never starts, signals or reaps an engine itself; its keeper does.
2. It leaves when its keeper says so (all engines ended, or the host died), when the controller says good-bye, and when
   the controller has been silent for ``max_misses`` heartbeats. In the last two cases it has the engines stopped first.
3. Its hello lists the engines it watches. It is said again whenever that list changes, and whenever a ping was not
   answered, since a restarted controller knows nobody.
4. A connection that is lost is made anew while the controller may come back. Then the ends of engines are told again.
"""

from __future__ import annotations

import logging
import os
import platform
import select
import time
from collections import deque
from typing import TYPE_CHECKING, Final

from enginery.engine import limits
from enginery.engine.channel import Leave, Started
from enginery.engine.deposit import Deposit
from enginery.net.away import Away
from enginery.net.channel import ChannelClosed
from enginery.net.reach import explain
from enginery.net.sockets import dial_patiently, is_deserted, key_for, redial
from enginery.wire.messages import (
    UNDECODABLE,
    VERSION,
    Bye,
    Deliver,
    EngineExited,
    NannyHello,
    Ping,
    Pong,
    Refused,
    Relay,
    Release,
    Restart,
    Shares,
    Shutdown,
    Welcome,
    decode_to_engine,
    encode,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from enginery.engine.keepers import Keeper
    from enginery.engine.options import EngineOptions
    from enginery.net.channel import Channel
    from enginery.net.segment_folder import SegmentFolder
    from enginery.wire.messages import Relayed, ToEngine

log = logging.getLogger(__name__)

#: Heartbeat in seconds until the controller has named one.
FIRST_PERIOD: Final = 3.0
#: How long engines may take to leave by themselves after the controller's good-bye, which they hear as well.
GRACE: Final = 0.15
#: Why an engine is stopped that does not get to stop itself.
STUCK: Final = "its task ran longer than its time_limit and could not be interrupted"
#: How long the last words may take to leave this process, in seconds.
LINGER: Final = 0.25
#: How long they may take to be heard while large buffers may be on the way here, in seconds.
HEARING: Final = 2.0
#: Ends of engines that are told again to a controller that comes back.
REPORTS: Final = 1000


class Nanny:
    """Speaks with the controller about the engines of one keeper. Single-threaded: call ``run`` and nothing else."""

    def __init__(
        self,
        channel: Channel,
        keeper: Keeper,
        *,
        engines: Iterable[str],
        max_misses: int = 50,
        period: float = FIRST_PERIOD,
        key: str = "",
        redial: Callable[[], Channel] | None = None,
        patience: float = 0.0,
        returns: bool = False,
        segments: SegmentFolder | None = None,
    ) -> None:
        """``key`` is what the hello has to show. ``redial`` makes another connection, or raises OSError.

        ``patience`` is how long the controller is waited for, in seconds, if the connection breaks before it has said for
        how long; ``returns`` whether that holds as well when nobody listens any more, until it has said so.
        ``segments`` is the folder for what is relayed to the engines.
        """
        self._channel = channel
        self._redial = redial
        self._away = Away()
        self._patience = patience
        self._returns = returns  #: another controller may take the place of this one
        self._is_lost = False  #: the connection is, and there is no other yet
        self._reports: deque[EngineExited] = deque(maxlen=REPORTS)
        self._keeper = keeper
        self._deposit = Deposit(segments)
        self._engines = dict.fromkeys(engines)
        self._max_misses = max_misses
        self._period = period
        self._key = key
        self._epoch = -1
        self._beats = self._answered = 0
        self._misses = 0
        self._heard = True
        self._next_beat = 0.0
        self._next_look = 0.0
        self._over = ""

    def __repr__(self) -> str:
        return f"<Nanny engines={len(self._engines)} epoch={self._epoch} misses={self._misses}>"

    def close(self) -> None:
        """Close the connection; what was said last may still leave."""
        if not self._is_lost:
            self._channel.close(LINGER)
        if self._over:  # else it has failed, and another one takes over
            self._deposit.leave()

    def run(self) -> str:
        """Work until it is time to leave; returns why."""
        keeper = self._keeper.fileno()
        self._hello()
        self._next_beat = time.monotonic() + self._period
        while not self._over:
            due = self._away.next_deadline() if self._away else self._next_beat
            if self._wait([keeper], min(due, self._next_look)):
                self._hear_keeper()
            now = time.monotonic()
            if now >= self._next_look:
                self._look_at_limits(now)
            if self._away:
                self._come_back(now)
            elif now >= self._next_beat:
                self._beat()
        return self._over

    def _wait(self, others: list[int], until: float) -> list[int]:
        """Hear the controller, or wait for it or for other descriptors; returns which of these are readable."""
        here = [] if self._is_lost else [self._channel.fileno()]
        writers = here if self._channel.wants_write else []
        left = max(0.0, until - time.monotonic())
        if here and self._channel.has_unseen():
            left = 0.0
        ready, writable, _ = select.select([*others, *here], writers, [], left)
        if here:
            self._hear_controller(writable=bool(writable))
        return [each for each in others if each in ready]

    # --- the keeper's side ----------------------------------------------------------------------------------------

    def _hear_keeper(self) -> None:
        before = set(self._engines)
        for message in self._keeper.news():
            if isinstance(message, Started):
                self._engines[message.uuid] = None
            elif isinstance(message, EngineExited):
                log.info("engine=%s pid=%d %s", message.uuid, message.pid, message.note)
                self._engines.pop(message.uuid, None)
                self._reports.append(message)
                self._say(message)
            else:
                self._leave(message)
        if not self._over and self._engines.keys() - before:
            self._hello()

    def _leave(self, message: Leave) -> None:
        if self._deposit.is_used:
            self._be_heard()
        self._say(Bye(message.reason))
        self._over = message.reason or "told to leave"

    def _be_heard(self) -> None:
        """Wait for an answer. Closing while something comes in would undo, by TCP's rules, what was said last."""
        self._beats += 1
        self._say(Ping(self._beats))
        deadline = time.monotonic() + HEARING
        while self._answered < self._beats and not (self._over or self._is_lost) and time.monotonic() < deadline:
            self._wait([], deadline)

    def _look_at_limits(self, now: float) -> None:
        """Have engines started anew that are stuck in a task for longer than its limit."""
        self._next_look = now + self._period
        for uuid, end in self._keeper.limits():
            due = end + limits.GRACE + limits.SLACK
            if due <= now:
                self._keeper.restart(uuid, STUCK)
            else:
                self._next_look = min(self._next_look, due)

    # --- the controller's side ------------------------------------------------------------------------------------

    def _hear_controller(self, *, writable: bool) -> None:
        try:
            if writable:
                self._channel.write()
            for header, frames in self._channel.receive():
                self._heard = True
                try:
                    message = decode_to_engine(header)  # type: ignore[arg-type]  # a buffer
                except UNDECODABLE as error:
                    log.warning("the controller said something that is not in the protocol, ignored: %s", error)
                    continue
                if not self._over:
                    self._obey(message, frames)
        except ChannelClosed as error:
            if not self._over:
                self._lost(str(error))

    def _lost(self, why: str) -> None:
        if self._redial is None or not self._away.lost(why, time.monotonic(), self._patience):
            self._give_up(f"the controller is gone ({why})")
        elif not self._is_lost:
            self._is_lost = True
            log.warning("the connection to the controller is lost (%s); it may come back", why)
            self._channel.close(0.0)

    def _come_back(self, now: float) -> None:
        """The connection is lost: try another one now and then."""
        away = self._away
        if away.is_over(now):
            self._give_up(f"the controller is gone ({away.why}), and did not come back in time")
        elif away.is_unanswered(now):
            self._lost("nobody answers there")
        elif self._redial is not None and away.may_dial(now):
            try:
                self._channel = self._redial()
            except OSError as error:
                if not self._returns and is_deserted(error):
                    self._give_up(f"the controller is gone ({away.why}; {error.strerror})")
                return
            self._is_lost = False
            away.dialled(now)
            self._hello()
            for report in self._reports:
                self._say(report)

    def _obey(self, message: ToEngine, frames: list[memoryview]) -> None:
        match message:
            case Ping():
                self._say(Pong(message.number))
            case Pong():
                self._answered = message.number
            case Welcome():
                self._welcomed(message)
            case Relay():
                self._say(self._deposit.take(message, frames))
            case Release():
                self._deposit.release(message.names)
            case Deliver():
                self._keeper.deliver(message.uuid, message.signal)
            case Restart():
                self._keeper.restart(message.uuid, message.reason)
            case Shutdown() if message.restart:
                self._keeper.restart_all()
            case Shutdown():
                self._give_up("the controller asked for it")
            case Bye():
                self._give_up(f"the controller left: {message.reason}" if message.reason else "the controller left")
            case Refused(kind="ConnectionLost"):
                # Another controller has taken the place of the one that knew us.
                self._hello()
            case Refused():
                self._give_up(f"the controller refused: {message.reason}", code=1)
            case _:
                pass

    def _welcomed(self, message: Welcome) -> None:
        self._period = message.period or self._period
        self._patience, self._returns = message.patience, message.returns
        if self._away:
            self._away.back()
            self._misses = 0
        self._next_beat = min(self._next_beat, time.monotonic() + self._period)
        if self._epoch >= 0:
            self._deposit.begin_anew()
        self._epoch = message.epoch
        if self._deposit.is_open:
            self._say(Shares(self._deposit.place))

    def _beat(self) -> None:
        self._next_beat = time.monotonic() + self._period
        self._misses = 0 if self._heard else self._misses + 1
        if self._max_misses and self._misses >= self._max_misses:
            if self._patience:
                self._misses = 0
                self._lost(f"it has been silent for {self._max_misses * self._period:.0f} s")
                return
            self._give_up(f"the controller has been silent for {self._misses * self._period:.0f} s", grace=0.0, code=1)
            return
        if not self._heard:
            # Either it is gone, or a new one has taken its place and does not know us.
            self._hello()
        self._heard = False
        self._beats += 1
        self._deposit.trim(time.monotonic())
        self._say(Ping(self._beats))

    def _give_up(self, reason: str, *, grace: float = GRACE, code: int = 0) -> None:
        log.info("engines=%d stop: %s", len(self._engines), reason)
        self._keeper.stop(reason, grace, code)
        self._over = reason

    def _hello(self) -> None:
        self._say(NannyHello(VERSION, os.getpid(), platform.node(), list(self._engines), self._key))

    def _say(self, message: NannyHello | EngineExited | Relayed | Shares | Ping | Pong | Bye) -> None:
        if self._is_lost:
            return
        try:
            self._channel.send(encode(message), [])
        except ChannelClosed:
            log.debug("the controller is gone; dropped: %r", message)  # reading will tell, and end this


def watch_over(
    keeper: Keeper, options: EngineOptions, engines: Iterable[str], segments: SegmentFolder | None = None
) -> str:
    """Dial the controller and be the nanny of ``engines`` until it is time to leave; returns why.

    ``segments`` is the folder for what is relayed to engines.
    """
    timeout = options.timeout * max(options.max_misses, 1)
    try:
        channel = dial_patiently(options.connection, timeout)
    except OSError as error:
        reason = f"no controller ({error.strerror}); {explain(options.connection)}"
        log.error("engines are stopped: %s", reason)  # noqa: TRY400  # the message says it all
        keeper.stop(reason, 0.0, 1)
        return reason
    nanny = Nanny(
        channel,
        keeper,
        engines=engines,
        max_misses=options.max_misses,
        key=key_for(options.connection, channel),
        redial=lambda: redial(options.connection),
        patience=timeout,
        returns=bool(options.connection.reuse),
        segments=segments,
    )
    try:
        return nanny.run()
    finally:
        nanny.close()
