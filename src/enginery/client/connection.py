"""The life of the client's connection to the controller: dialling, waiting, losing it, and finding it again.

It marries the client's mind to a line, as that line's speaker. What is asked over it is the business of ``client.link``.
"""

from __future__ import annotations

import getpass
import logging
import os
import secrets
import socket
import time
from typing import TYPE_CHECKING, Final, Self

from enginery.client.callbacks import Callbacks
from enginery.client.sharing import Sharing
from enginery.core.requests import Requests
from enginery.errors import ConnectionLost, Refused, VersionMismatch
from enginery.net.addresses import quoted
from enginery.net.away import Away
from enginery.net.channel import ChannelClosed
from enginery.net.line import Line
from enginery.net.sockets import dial, is_deserted, key_for, redial
from enginery.wire import messages as m

if TYPE_CHECKING:
    from collections.abc import Callable

    from enginery.net.channel import Channel
    from enginery.net.connection_file import ConnectionInfo

log = logging.getLogger("enginery.client")

#: Heartbeats a controller may miss until the connection counts as lost.
MISSES: Final = 10
#: What to do where nobody answers, and nothing more is known of why.
LOOK: Final = (
    "Is it running? `ipcluster list` shows clusters; an old connection file is replaced when a cluster starts."
)
#: How long callbacks may take when the link is closed, in seconds.
LAST_CALLS: Final = 1.0


class Connection:
    """One client's connection. Thread-safe."""

    def __init__(self, info: ConnectionInfo, session: str = "") -> None:
        """Use ``Connection.connect``."""
        self.info = info
        # Several processes may go by one name; no two requests do.
        self.session = f"{session}.{secrets.token_hex(4)}" if session else secrets.token_hex(8)
        self.number = -1
        self._epoch = 0
        self.scheme = ""  #: how the controller finds engines for balanced tasks
        self._pid = os.getpid()
        self._requests = Requests(time.time)
        # The line's speaker has these two, straight from the mind: they are called several times in each round trip.
        self.next_message = self._requests.next_message
        self.sent = self._requests.sent
        self._lost: str | None = None
        self._away = Away()
        self._returns = False  #: another controller may take the place of this one
        self._callbacks: list[Callable[[list[m.EngineInfo], list[m.Departure]], None]] = []
        self._calls = Callbacks("enginery-callbacks")
        #: Has something of the user's called later, by a thread that does nothing else.
        self.call_back = self._calls.put
        self._period = 3.0
        self._heard = time.monotonic()
        self._next_ping = float("inf")
        channel = dial(info)
        self._key = key_for(info, channel)
        self._line = Line(channel, self, name="enginery-client-link")
        self._wake = self._line.wake
        self._sharing = Sharing("", 0, self._requests.say)

    # --- life ---------------------------------------------------------------------------------------------------

    @classmethod
    def connect(
        cls, info: ConnectionInfo, *, timeout: float = 10.0, trouble: Callable[[], str] = str, session: str = ""
    ) -> Self:
        """Dial the controller and introduce this client, by the name of a ``session`` if it has one.

        ``trouble`` tells what is known of why nobody answers.

        Raises TimeoutError if nothing answers within ``timeout`` seconds, Refused (VersionMismatch) if the
        controller does not want this client, and ConnectionLost if it hangs up.
        """
        try:
            link = cls(info, session)
        except ChannelClosed as error:
            msg = f"The controller at {quoted(info)} hung up at once: {error}. {trouble() or LOOK}"
            raise ConnectionLost(msg) from error
        except OSError as error:
            msg = (
                f"Nobody listens at {quoted(info)} ({error.strerror}): the controller (pid {info.pid}) is "
                "gone. `ipcluster list` shows clusters; an old connection file is replaced when a cluster starts."
            )
            raise TimeoutError(msg) from error
        requests = link._requests
        try:
            requests.say(link._hello())
            link._line.start()
            answered = link._line.wait_for(
                lambda: bool(requests.welcome or requests.refused or link._lost is not None), timeout
            )
            link._judge(answered=answered, timeout=timeout, trouble=trouble)
        except BaseException:
            link._line.close()
            raise
        return link

    def _hello(self) -> m.ClientHello:
        return m.ClientHello(m.VERSION, self.session, os.getpid(), socket.gethostname(), _user(), key=self._key)

    def _judge(self, *, answered: bool, timeout: float, trouble: Callable[[], str]) -> None:
        """Take the answer to the hello in, or raise."""
        welcome, refused = self._requests.welcome, self._requests.refused
        where = quoted(self.info)
        if refused is not None:
            kind = VersionMismatch if refused.kind == "VersionMismatch" else Refused
            raise kind(f"The controller at {where} refused this client: {refused.reason}")
        if welcome is None:
            who = f"controller pid {self.info.pid} on {self.info.location or 'this host'}"
            what = self._lost or f"Nothing answered within {timeout:g} s"
            msg = f"{what} ({who}, dialled at {where}). {trouble() or LOOK}"
            raise TimeoutError(msg) if answered is False else ConnectionLost(msg)
        self.number = welcome.number
        self._settle_in(welcome)

    def _settle_in(self, welcome: m.Welcome) -> None:
        """Take over what a controller says of itself."""
        self._epoch, self._returns = welcome.epoch, welcome.returns
        self.scheme = welcome.scheme
        self._period = welcome.period
        self._next_ping = time.monotonic() + self._period
        self._wake()  # its own thread knows of no deadline yet
        self._sharing = Sharing(welcome.runtime, self.number, self._requests.say)
        self._requests.lend = self._sharing.lend
        self._requests.take_shared = self._sharing.take

    @property
    def closed(self) -> bool:
        """Whether ``close`` was called."""
        return self._line.closed

    @property
    def engines(self) -> dict[int, m.EngineInfo]:
        """The live engines by id, ascending; a new dict after each change."""
        return self._requests.engines

    def silence(self) -> float:
        """Seconds since the controller was last heard."""
        return time.monotonic() - self._heard

    def trouble(self) -> str:
        """What is wrong with the connection, in words; empty while it is well."""
        away = self._away
        return away.describe(time.monotonic()) if away else ""

    def close(self) -> None:
        """Say good-bye and close. Tasks already submitted run on; whoever still waits gets ConnectionLost."""
        with self._line.lock:
            if self._line.closed:
                return
            self._requests.say(m.Bye("the client was closed"))
            self._line.flush()
            # Before the line is closed: who waits shall be woken by that, and then find the reason.
            self._lose("This client was closed")
        self._line.close()
        self.after_turn()
        self._calls.close(LAST_CALLS)

    # --- waiting ------------------------------------------------------------------------------------------------

    def wait_for(self, predicate: Callable[[], bool], timeout: float | None = None) -> bool:
        """Wait until ``predicate()`` is true. False if ``timeout`` seconds were over before.

        Raises ConnectionLost if that can never be because the connection is gone.
        """
        over = self._line.wait_for(lambda: predicate() or self._lost is not None, timeout)
        if self._lost is None:
            return over
        if predicate():
            return True
        self._fail_late()
        if predicate():
            return True
        raise ConnectionLost(self._lost)

    def _fail_late(self) -> None:
        """End what was submitted in the very moment in which the connection was lost, and would wait for ever."""
        assert self._lost is not None
        if os.getpid() != self._pid:
            return  # what is outstanding is the parent's, and may end well there
        with self._line.lock:  # which whoever loses the connection holds until everything outstanding has ended
            self._requests.fail_all(m.Fault("ConnectionLost", "ConnectionLost", self._lost))
        self.after_turn()

    def wake(self) -> None:
        """Have every thread that waits look at its condition again: it has come true without the controller."""
        self._line.announce()

    def add_news_callback(self, callback: Callable[[list[m.EngineInfo], list[m.Departure]], None]) -> None:
        """Call ``callback(joined, left)`` after each change of engines, outside of locks. It must be quick."""
        self._callbacks.append(callback)

    # --- the line's speaker -------------------------------------------------------------------------------------

    def heard(self, header: object, frames: list[memoryview]) -> None:
        """See ``net.line.Speaker``."""
        self._heard = time.monotonic()
        try:
            message = m.decode_to_client(header)  # type: ignore[arg-type]  # a buffer
        except m.UNDECODABLE as error:
            log.warning("a message of the controller could not be understood and was dropped: %s", error)
            return
        if type(message) is m.Refused and self._is_known():
            self._line.drop(message.reason)
            return
        self._requests.heard(message, frames)
        if self._away:
            self._greeted()
        if self._sharing.loans and type(message) is m.Results:
            self._sharing.ended(message.results)
        if self._requests.goodbye is not None:
            self._lose(self._requests.goodbye or "The controller has left")
        elif self._requests.refused is not None and self.number >= 0:
            self._lose(self._requests.refused.reason)

    def _is_known(self) -> bool:
        """Whether a refusal is no answer to a hello: libzmq has reconnected, before it was seen that the connection had ended."""
        welcome = self._requests.welcome
        return welcome is not None and welcome.patience > 0 and not self._away and self._lost is None

    def _greeted(self) -> None:
        """The controller has answered one who came back."""
        welcome = self._requests.welcome
        if self._requests.refused is not None or welcome is None:
            return
        log.warning("The connection to the controller is back.")
        self._away.back()
        self._next_ping = time.monotonic() + self._period
        if welcome.epoch != self._epoch:
            self._sharing.pool.close()  # its files are gone with the other controller
            self._settle_in(welcome)

    def lost(self, why: str) -> bool:
        """See ``net.line.Speaker``."""
        requests = self._requests
        patience = requests.welcome.patience if requests.welcome is not None else 0.0
        if patience and self.number >= 0 and self._lost is None and requests.goodbye is None:
            if not self._away:
                log.warning("The connection to the controller is lost (%s). It is waited for for %g s.", why, patience)
            if self._away.lost(why, time.monotonic(), patience):
                self._wake()
                return True
        self._lose(f"The connection to the controller is gone: {why}")
        return False

    def redial(self) -> Channel | None:
        """See ``net.line.Speaker``."""
        now = time.monotonic()
        if not self._away.may_dial(now):
            return None
        try:
            channel = redial(self.info)
        except OSError as error:
            if not self._returns and is_deserted(error):
                with self._line.lock:
                    self._lose(f"The connection to the controller is gone: {self._away.why}; {error.strerror}")
                    self._line.give_up()
            return None
        with self._line.lock:
            self._requests.come_back(self._hello())
            self._away.dialled(now)
            self._heard = now
        return channel

    def tick(self, now: float) -> None:
        """See ``net.line.Speaker``."""
        if self._away:
            self._wait_on(now)
            return
        if now - self._next_ping > self._period:
            self._heard = now  # this process was stopped itself, and what came meanwhile is still to be read
        self._next_ping = now + self._period
        silence = now - self._heard
        if silence > self._period * MISSES:
            self._line.drop(f"the controller has been silent for {silence:.0f} s")
        else:
            self._requests.say(m.Ping(0))
            self._sharing.pool.trim()

    def next_deadline(self) -> float:
        """See ``net.line.Speaker``."""
        return self._away.next_deadline() if self._away else self._next_ping

    def _wait_on(self, now: float) -> None:
        away = self._away
        if away.is_over(now):
            self._lose(f"The connection to the controller was lost ({away.why}), and did not come back in time")
            self._line.give_up()
        elif away.is_unanswered(now):
            self._line.drop("nobody answers there")

    def after_turn(self) -> None:
        """See ``net.line.Speaker``."""
        requests = self._requests
        if requests.news:
            self._tell_news()
        settled = requests.settled
        while settled:
            try:
                sink = settled.popleft()
            except IndexError:  # another thread was quicker
                return
            sink.settled()

    def _tell_news(self) -> None:
        while True:
            try:
                news = self._requests.news.popleft()
            except IndexError:
                return
            for callback in self._callbacks:
                callback(news.joined, news.left)

    def forked(self) -> None:
        """See ``net.line.Speaker``."""
        self._next_ping = float("inf")
        self._lost = (
            f"This client belongs to process {self._pid}, of which this process ({os.getpid()}) is a fork. "
            "Connect a new Client here."
        )

    def _lose(self, why: str) -> None:
        if self._lost is not None:
            return
        self._next_ping = float("inf")
        self._lost = f"{why.rstrip('.')}. Connect a new Client once a controller is running."
        self._requests.fail_all(m.Fault("ConnectionLost", "ConnectionLost", self._lost))
        self._sharing.pool.close()


def _user() -> str:
    try:
        return getpass.getuser()
    except (OSError, KeyError):  # a uid without a name, as in containers
        return str(os.getuid()) if hasattr(os, "getuid") else "unknown"
