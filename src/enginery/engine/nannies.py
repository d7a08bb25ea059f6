"""The host's nannies, one after the other: how one is started, told things, replaced when lost, and dismissed."""

from __future__ import annotations

import logging
import os
import selectors
import threading
import time
from collections import deque
from typing import TYPE_CHECKING, Final

from enginery.engine import children, nanny
from enginery.engine.channel import Leave, Started, channel_pair
from enginery.engine.keepers import HostKeeper
from enginery.engine.watch import reap
from enginery.net.signals import KILL
from enginery.wire.messages import EngineExited

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from enginery.engine.begun import BegunCell
    from enginery.engine.channel import Channel, ToHost
    from enginery.engine.options import EngineOptions
    from enginery.net.segment_folder import SegmentFolder

log = logging.getLogger(__name__)

#: How often a lost nanny is replaced.
SPARE: Final = 1
#: How long a nanny may take to say its last words, in seconds.
FAREWELL: Final = 1.0
#: Deaths that are told again to a nanny that takes over; the last one may have been lost on the way.
REMEMBERED: Final = 64


class Nannies:
    """The nanny of one host, and its successor.

    ``hear`` is called with each message from it, ``lost`` when it is gone and ``SPARE`` others have been used up. With
    ``forget`` the nanny is a forked process, which calls that first to close what belongs to the host alone; without,
    it is a thread of this process. ``segments`` is the folder for what is relayed to engines.
    """

    def __init__(
        self,
        options: EngineOptions,
        selector: selectors.BaseSelector,
        *,
        hear: Callable[[ToHost], None],
        lost: Callable[[], None],
        forget: Callable[[], None] | None,
        segments: SegmentFolder | None = None,
    ) -> None:
        self._options = options
        self._segments = segments
        self._selector = selector
        self._hear = hear
        self._lost = lost
        self._forget = forget
        self._channel: Channel | None = None
        self._pid = 0
        self._count = 0
        self._cells: Sequence[BegunCell] = ()
        self._started: dict[str, Started] = {}
        self._told: deque[EngineExited] = deque(maxlen=REMEMBERED)
        #: no successor is wanted any more
        self.leaving = False

    def __repr__(self) -> str:
        return f"<Nannies pid={self._pid or 'thread'} number={self._count} engines={len(self._started)}>"

    def start(self, engines: Sequence[str], cells: Sequence[BegunCell]) -> None:
        """Start the first one, with the names of the engines there will be and the cells they will write to."""
        self._cells = cells
        self._start(engines, dict(zip(engines, cells, strict=True)))

    def tell_started(self, started: Started) -> None:
        """An engine process is there."""
        self._started[started.uuid] = started
        self._tell(started)

    def tell_exited(self, exited: EngineExited) -> None:
        """An engine process has ended."""
        self._started.pop(exited.uuid, None)
        self._told.append(exited)
        self._tell(exited)

    def dismiss(self, reason: str) -> None:
        """Let the nanny say its last words and leave; the end of the channel shows that it has."""
        self.leaving = True
        self._tell(Leave(reason))
        deadline = time.monotonic() + FAREWELL
        while self._channel is not None and (left := deadline - time.monotonic()) > 0:
            for key, _ in self._selector.select(left):
                key.data()

    def close(self) -> None:
        """End it, whatever it does."""
        self.leaving = True
        if self._channel is not None:
            self._hang_up(self._channel)

    def forget(self) -> None:
        """In a forked child: close the host's end of the channel."""
        if self._channel is not None:
            self._channel.close()

    # --- one nanny ------------------------------------------------------------------------------------------------

    def _start(self, engines: Sequence[str], expected: Mapping[str, BegunCell]) -> None:
        self._count += 1
        self._channel, other = channel_pair()
        keeper = HostKeeper(other, self._cells, os.getpid(), expected)
        if self._forget is None:
            work = self._be_thread
            threading.Thread(target=work, args=(keeper, other, engines), name="nanny", daemon=True).start()
        else:
            self._pid = children.fork(lambda: self._be_process(keeper, engines))
            # Only the nanny holds its end, so that its death is the end of the channel.
            other.close()
        self._selector.register(self._channel.fileno(), selectors.EVENT_READ, self._ready)

    def _be_process(self, keeper: HostKeeper, engines: Sequence[str]) -> int:
        assert self._forget is not None
        self._forget()
        children.begin_as_nanny()
        nanny.watch_over(keeper, self._options, engines, self._segments)
        return 0

    def _be_thread(self, keeper: HostKeeper, channel: Channel, engines: Sequence[str]) -> None:
        try:
            nanny.watch_over(keeper, self._options, engines, self._segments)
        except Exception:
            log.exception("the nanny failed")
        finally:
            channel.close()

    def _tell(self, *messages: Started | EngineExited | Leave) -> None:
        if self._channel is not None:
            self._channel.send(*messages)
            self._select_for(self._channel)

    def _select_for(self, channel: Channel) -> None:
        wanted = selectors.EVENT_READ | (selectors.EVENT_WRITE if channel.unsent else 0)
        self._selector.modify(channel.fileno(), wanted, self._ready)

    def _ready(self) -> None:
        channel = self._channel
        assert channel is not None
        if channel.unsent:
            channel.flush()
            self._select_for(channel)
        for message in channel.receive_at_host():
            self._hear(message)
        if channel.closed:
            self._hang_up(channel)
            self._replace()

    def _hang_up(self, channel: Channel) -> None:
        self._selector.unregister(channel.fileno())
        channel.close()
        self._channel = None
        if self._pid:
            # Its end is closed, so it is as good as gone; one that hangs all the same must not hang us.
            os.kill(self._pid, KILL)
            reap(self._pid)
            self._pid = 0

    def _replace(self) -> None:
        if self.leaving:
            return
        if self._count > SPARE:
            log.error("engines=%d the nanny died again", len(self._started))
            self._lost()
            return
        log.warning("engines=%d the nanny died; another one takes over", len(self._started))
        self._start(list(self._started), {})
        # The controller ignores news that it has: rather tell it twice than never.
        self._tell(*self._told, *self._started.values())
