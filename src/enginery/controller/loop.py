"""The controller's one loop: wait for descriptors, hear, act; nothing here decides.

libzmq's descriptors tell of changes, not of states, so while there are peers on zmq sockets these are asked after each
turn whether more waits.
"""

from __future__ import annotations

import logging
import os
from time import monotonic
from typing import TYPE_CHECKING, Final

from enginery.controller.readiness import READ, WRITE, Readiness
from enginery.net.channel import ChannelClosed

if TYPE_CHECKING:
    from collections.abc import Sequence

    from enginery.controller.log_file import LogFile
    from enginery.controller.ports import Peer, Port
    from enginery.controller.server import Server
    from enginery.net.beat import BeatWatch
    from enginery.net.curve import Doorkeeper
    from enginery.net.doorway import Doorway
    from enginery.net.signals import SignalWatch
    from enginery.store.writer import Writer

log = logging.getLogger("enginery.controller")

#: Messages taken in before something is done about them.
MOST_HEARD: Final = 32


class Loop:
    """Feeds a server from its ports until it is to stop, or a signal asks for it."""

    def __init__(self, server: Server, ports: list[Port], doorkeeper: Doorkeeper | None, signals: SignalWatch) -> None:
        self.wanted_end = ""
        self._server = server
        self._ports = ports
        self._doorkeeper = doorkeeper
        self._signals = signals
        self._readiness = Readiness()
        self._watch = self._readiness.watch
        self._routers = [port for port in ports if port.router is not None]
        self._has_routed_news = True
        self._heard = 0  #: messages that were not acted on yet
        self._writing: set[int] = set()
        for port in ports:
            if port.listener is not None:
                self._watch(port.listener.fileno(), _Accept(self, port))
            if port.router is not None:
                self._watch(port.router.fileno(), self._look_routed)
                self._watch(port.router.doorway.fileno(), _Note(port.router.doorway))
        if doorkeeper is not None:
            self._watch(doorkeeper.socket.FD, self._look_routed)
        server.on_forget = self._forget
        self._watch(signals.fileno(), self._signalled)

    def watch_owner(self, pid: int) -> None:
        """End when that process has gone."""
        if hasattr(os, "pidfd_open"):
            try:
                fd = os.pidfd_open(pid)
            except ProcessLookupError:
                self._owner_gone(pid)
            else:
                self._watch(fd, lambda _events: self._owner_gone(pid))

    def watch_beat(self, beat: BeatWatch) -> None:
        """End when the owner, on another host, has been silent for long."""

        def end(_events: int) -> None:
            self.wanted_end = f"nothing was heard of its owner for {beat.lease:g} s ({beat.path} has not changed)"

        self._watch(beat.fileno(), end)

    def watch_logbook(self, logbook: LogFile) -> None:
        """Go on with what waits for pages to be saved; end when they cannot be."""

        def saved(_events: int) -> None:
            logbook.wakeup.clear()
            if logbook.failure is not None:
                self.wanted_end = f"the logbook cannot be written ({logbook.failure})"
            else:
                self._server.release()

        self._watch(logbook.wakeup.fileno(), saved)

    def watch_store(self, writer: Writer) -> None:
        """Hand on what a store has to say."""

        def react(_events: int) -> None:
            writer.take_replies()
            self._heard += 1

        self._watch(writer.wakeup.fileno(), react)

    def run(self) -> str:
        """Serve. Returns why it ended."""
        server, poll, ports = self._server, self._readiness.poll, self._ports
        reactions = self._readiness.reactions
        due = 0.0
        while not (server.stopping or self.wanted_end):
            ready = poll(max(0.0, due - monotonic()))
            now = monotonic()
            for fd, events in ready:
                react = reactions.get(fd)
                if react is not None:  # else forgotten because of what was heard in this very turn
                    react(events)
            if self._heard:
                self._act()
            if due <= now:
                # As of then: what has come since waits to be read, and is neither silence nor a long task.
                server.look_around(now)
                server.act(monotonic())
            # Also after sending, which may have swallowed what their descriptors had to tell.
            if self._has_routed_news or self._has_routed():
                self._hear_routed()
            for port in ports:
                if port.stuck:
                    self._see_to_writers(port)
            due = server.next_deadline()
        return self.wanted_end or "a client asked for it"

    # --- input --------------------------------------------------------------------------------------------------

    def add(self, port: Port, peer: Peer) -> None:
        """Listen to a peer that has just connected."""
        if peer.stream is not None:
            self._watch(peer.stream.fileno(), _Hear(self, port, peer))

    def hear(self, port: Port, peer: Peer) -> None:
        """Take in what a peer has sent. It is acted on once everybody with something to say was heard.

        So that what several have said at once leaves in as few messages as can be.
        """
        server = self._server
        stream = peer.stream
        assert stream is not None
        try:
            for header, frames in stream.receive():
                self._take_in(port, peer, header, frames)
        except ChannelClosed:
            server.hung_up(port, peer)
            server.act(monotonic())

    def _take_in(self, port: Port, peer: Peer, header: object, frames: Sequence[object]) -> None:
        server = self._server
        try:
            server.hear(port, peer, header, frames, monotonic())  # type: ignore[arg-type]  # frames are opaque here
        except ChannelClosed:
            raise
        except Exception:
            # A fault of ours, which shall cost one message and not the whole cluster.
            server.rejected += 1
            log.exception("a message of %r could not be handled; going on without it", peer)
        self._heard += 1
        if self._heard >= MOST_HEARD:
            self._act()

    def _act(self) -> None:
        self._heard = 0
        try:
            self._server.act(monotonic())
        except Exception:  # likewise
            self._server.rejected += 1
            log.exception("something could not be done; going on without it")

    def _has_routed(self) -> bool:
        return any([port.has_routed for port in self._routers])  # noqa: C419 - twice as fast, and each turn asks

    def _look_routed(self, _events: int) -> None:
        self._has_routed_news = True

    def _hear_routed(self) -> None:
        self._has_routed_news = False
        if self._doorkeeper is not None:
            self._doorkeeper.answer()
        again = True
        while again:
            again = False
            for port in self._routers:
                for peer, header, frames in port.receive_routed():
                    self._take_in(port, peer, header, frames)
                    again = True
            if self._heard:
                self._act()

    # --- output that does not leave at once ---------------------------------------------------------------------

    def _see_to_writers(self, port: Port) -> None:
        for fd in port.stuck - self._writing:
            self._writing.add(fd)
            self._readiness.modify(fd, READ | WRITE)

    def write(self, port: Port, peer: Peer) -> None:
        """A stuck peer takes more."""
        assert peer.stream is not None
        fd = peer.stream.fileno()
        if not port.write(peer):
            self._server.hung_up(port, peer)
            self._server.act(monotonic())
            return
        if fd not in port.stuck:
            self._writing.discard(fd)
            self._readiness.modify(fd, READ)
        if self._server.relieve(peer):
            self._act()

    # --- the rest -----------------------------------------------------------------------------------------------

    def _forget(self, fd: int, peer: Peer) -> None:
        self._readiness.forget(fd)
        self._writing.discard(fd)
        if peer.stream is not None:
            peer.stream.close(0.0)

    def _signalled(self, _events: int) -> None:
        for number in self._signals.take():
            self.wanted_end = f"signal {number.name}"

    def _owner_gone(self, pid: int) -> None:
        self.wanted_end = f"its owner (pid {pid}) is gone"


class _Accept:
    """What is done when somebody knocks."""

    __slots__ = ("_loop", "_port")

    def __init__(self, loop: Loop, port: Port) -> None:
        self._loop = loop
        self._port = port

    def __call__(self, _events: int) -> None:
        for peer in self._port.accept():
            self._loop.add(self._port, peer)


class _Note:
    """What is done when connections of other hosts come and go."""

    __slots__ = ("_doorway",)

    def __init__(self, doorway: Doorway) -> None:
        self._doorway = doorway

    def __call__(self, _events: int) -> None:
        self._doorway.hear(monotonic())


class _Hear:
    """What is done when a peer speaks, or takes more of what it was sent."""

    __slots__ = ("_loop", "_peer", "_port")

    def __init__(self, loop: Loop, port: Port, peer: Peer) -> None:
        self._loop = loop
        self._port = port
        self._peer = peer

    def __call__(self, events: int) -> None:
        if events & WRITE:
            self._loop.write(self._port, self._peer)
        if events & ~WRITE:  # something to read, which includes the end
            self._loop.hear(self._port, self._peer)
