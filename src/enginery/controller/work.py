"""What clients and engines say of tasks, results and data: checked, recorded, and told to the scheduler."""

from __future__ import annotations

from typing import TYPE_CHECKING

from enginery.wire import messages as m

if TYPE_CHECKING:
    from enginery.controller.peers import Peers
    from enginery.controller.ports import Handler, Peer
    from enginery.controller.recording import Recorder
    from enginery.controller.relaying import Relaying
    from enginery.controller.sharing import Sharing
    from enginery.controller.unread import Unread
    from enginery.core.scheduler import Scheduler


class Work:
    """A method per message that is about work. Belongs to the loop's thread."""

    def __init__(
        self,
        scheduler: Scheduler,
        peers: Peers,
        *,
        sharing: Sharing,
        relaying: Relaying,
        unread: Unread,
        recorder: Recorder | None,
    ) -> None:
        self._scheduler = scheduler
        self._peers = peers
        self._sharing = sharing
        self._relaying = relaying
        self._unread = unread
        self._recorder = recorder
        self.of_clients: dict[type, Handler] = {
            m.Functions: self.functions,
            m.Submit: self.submit,
            m.Direct: self.direct,
            m.Abort: self.abort,
            m.Forget: self.forgotten,
        }
        self.of_engines: dict[type, Handler] = {
            m.Done: self.done,
            m.Said: self.said_output,
            m.Returned: self.returned,
            m.Paused: self.paused,
            m.Missing: self.missing,
            m.Holds: self.holds,
            m.Want: self.want,
        }

    def functions(self, peer: Peer, functions: m.Functions, _frames: list[object], _now: float) -> None:
        """A client sends bodies of functions."""
        self._scheduler.functions_arrived(self._scheduler.clients[peer.number], functions.bodies)
        if self._recorder is not None:
            self._recorder.functions_come(functions.bodies)

    def submit(self, peer: Peer, submit: m.Submit, frames: list[object], now: float) -> None:
        """A client submits balanced tasks."""
        # Also where none have come: what one task lacks would be taken from another one's on the way to its engine.
        if not self._peers.frames_fit(peer, sum([task.frames for task in submit.tasks]), frames):
            return
        self._scheduler.tasks_submitted(self._scheduler.clients[peer.number], submit.tasks, frames, now)
        if self._recorder is not None:
            self._recorder.submitted(peer.number, submit.tasks, frames, now)

    def direct(self, peer: Peer, direct: m.Direct, frames: list[object], now: float) -> None:
        """A client addresses tasks to engines."""
        if not self._peers.frames_fit(peer, sum([request.task.frames for request in direct.requests]), frames):
            return
        self._scheduler.requests_submitted(self._scheduler.clients[peer.number], direct.requests, frames, now)
        if self._recorder is not None:
            self._recorder.addressed(peer.number, direct.requests, frames, now)

    def abort(self, peer: Peer, abort: m.Abort, _frames: list[object], _now: float) -> None:
        """A client takes tasks back."""
        client = self._scheduler.clients[peer.number]
        self._scheduler.abort_requested(client, abort.ids, interrupt=abort.interrupt)

    def forgotten(self, peer: Peer, forget: m.Forget, _frames: list[object], _now: float) -> None:
        """A client needs kept values no more."""
        self._scheduler.places.forgotten(peer.number, forget.values)

    def done(self, peer: Peer, done: m.Done, frames: list[object], now: float) -> None:
        """An engine has results."""
        if frames and not self._peers.frames_fit(peer, sum(result.frames for result in done.results), frames):
            return
        if self._recorder is not None and self._sharing.folder:
            self._recorder.results_come(done.results)
        if self._sharing.folder and any([result.shared for result in done.results]):  # noqa: C419 - twice as fast
            self._unread.results_come(done.results)
        self._scheduler.results_arrived(self._scheduler.engines[peer.number], done.results, frames, now)
        if self._relaying.nannies:
            self._relaying.ended(peer.number, done.results)

    def said_output(self, peer: Peer, said: m.Said, _frames: list[object], _now: float) -> None:
        """An engine has output of tasks."""
        self._scheduler.output_arrived(self._scheduler.engines[peer.number], said.outputs)

    def returned(self, peer: Peer, returned: m.Returned, _frames: list[object], now: float) -> None:
        """An engine hands back tasks it has not begun."""
        self._scheduler.tasks_returned(self._scheduler.engines[peer.number], returned.ids, now)

    def paused(self, peer: Peer, paused: m.Paused, _frames: list[object], _now: float) -> None:
        """An engine has set tasks aside that are addressed to it."""
        self._scheduler.tasks_paused(self._scheduler.engines[peer.number], paused.ids)

    def missing(self, peer: Peer, missing: m.Missing, _frames: list[object], _now: float) -> None:
        """An engine lacks functions."""
        self._scheduler.functions_missing(self._scheduler.engines[peer.number], missing.digests)

    def holds(self, peer: Peer, holds: m.Holds, _frames: list[object], _now: float) -> None:
        """An engine says which data it has."""
        self._scheduler.places.told(self._scheduler.engines[peer.number], holds)

    def want(self, peer: Peer, want: m.Want, _frames: list[object], _now: float) -> None:
        """An engine lacks kept values."""
        self._scheduler.places.wanted(self._scheduler.engines[peer.number], want.values)
