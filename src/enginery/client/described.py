"""The telling half of AsyncResult: metadata and output of its requests."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any, cast

from enginery.client import debugging, replies, showing
from enginery.client.metadata import Metadata, message_id, moment
from enginery.client.receiver import Receiver
from enginery.client.replies import Failed, Joined

if TYPE_CHECKING:
    from enginery.client.outputs import Spoken


class _Entry:
    """An entry of the metadata as an attribute. A descriptor for the same reason as ``handle._OnDemand``."""

    def __set_name__(self, owner: type[Described], name: str) -> None:
        self.name = name

    def __get__(self, result: Described | None, owner: type[Described] | None = None) -> Any:
        return self if result is None else result._entry(self.name)


class Described(Receiver):
    """What is known about requests besides their values."""

    #: Message ids of the requests, where they are not this client's own or it has forgotten them; see AsyncHubResult.
    _texts: Sequence[str] = ()

    msg_id = _Entry()
    submitted = _Entry()
    started = _Entry()
    completed = _Entry()
    received = _Entry()
    engine_uuid = _Entry()
    engine_id = _Entry()
    follow = _Entry()
    after = _Entry()
    status = _Entry()
    execute_input = _Entry()
    execute_result = _Entry()
    error = _Entry()
    stdout = _Entry()
    stderr = _Entry()
    outputs = _Entry()
    data = _Entry()
    label = _Entry()
    is_broadcast = _Entry()
    is_coalescing = _Entry()

    @property
    def accepted(self) -> bool:
        """Whether the controller has all its requests. A durable one (``--restore``) has saved them then.

        What it has saved ends in a reply whatever happens to the controller, this process' connection, or engines, if
        there are retries. Other controllers on this host count as having it when it was sent.
        """
        return not self.client.link.unaccepted(self._open_ids())

    def wait_for_acceptance(self, timeout: float | None = -1) -> bool:
        """Wait until it is ``accepted``, at most ``timeout`` seconds (None or negative: as long as it takes); whether it is."""
        return self._wait_until(lambda: self.accepted, timeout)

    @property
    def msg_ids(self) -> list[str]:
        """The message ids of its requests."""
        return [self._message_id_at(index) for index in range(self._size())]

    def _message_id_at(self, index: int) -> str:
        """The message id of request ``index``."""
        if isinstance(self._many, Joined):
            part, inner = self._many.source(index)
            return cast("Described", part)._message_id_at(inner)
        return message_id(self.client.session, self._id_at(index))

    @property
    def metadata(self) -> Any:
        """A ``Metadata``, or a list of them if several engines were asked. What is not known yet is None."""
        return self.reply_metadata(0) if self._scalar else [self.reply_metadata(index) for index in range(self._size())]

    def _entry(self, key: str) -> Any:
        found = self.metadata
        return found[key] if self._scalar else [each[key] for each in found]

    def reply_metadata(self, index: int) -> Metadata:
        """What is known about request ``index``."""
        if isinstance(self._many, Joined):
            part, inner = self._many.source(index)
            return part.reply_metadata(inner)
        started, finished, received = self.reply_times(index)
        engine = self.reply_engine(index)
        info = self.client.engine_info(engine, self._method)
        found = Metadata(
            msg_id=self._message_id_at(index),
            submitted=moment(self._submitted),
            started=moment(started),
            completed=moment(finished),
            received=moment(received),
            engine_id=engine if engine >= 0 else None,
            engine_uuid=info["engine_uuid"] or None,
        )
        if self.reply_arrived(index):
            found["status"] = replies.status_word(self.reply_status(index))
        self._add_options(found)
        self._add_output(found, index)
        return found

    def _add_options(self, found: Metadata) -> None:
        found["is_broadcast"], found["is_coalescing"] = self._flavour
        options = self._options
        if options is not None:
            session = self.client.session
            found["label"] = options.label or None
            for key, wanted in (("after", options.after), ("follow", options.follow)):
                if wanted is not None:
                    found[key] = [message_id(session, each) for each in wanted.ids]

    def _add_output(self, found: Metadata, index: int) -> None:
        spoken = self._spoken
        if spoken is not None:
            found["stdout"] = spoken.text("stdout", index)
            found["stderr"] = spoken.text("stderr", index)
            found["error"] = spoken.error(index) or None
            found["outputs"] = spoken.bundles("display", index)
            found["execute_result"] = next(iter(spoken.bundles("result", index)), None)
            found["data"] = {
                name: replies.open_value(head, buffers) for name, (head, buffers) in spoken.published(index).items()
            }
        if self.reply_arrived(index) and found["error"] is None and self.reply_status(index):
            outcome = self.reply_outcome(index)
            if type(outcome) is Failed:
                found["error"] = str(outcome.error)

    # --- output ---------------------------------------------------------------------------------------------------

    def _is_joined(self) -> bool:
        """Whether its requests belong to other results, which keep their output."""
        return isinstance(self._many, Joined)

    def _place(self, index: int) -> tuple[Spoken, int]:
        """What keeps the output of request ``index``, and under which index."""
        if isinstance(self._many, Joined):
            part, inner = self._many.source(index)
            return cast("Described", part)._place(inner)
        return self._spoken_now(), index

    def stream_output(self) -> AbstractContextManager[None]:
        """While the block runs, show output as it comes, under the labels of its engines.

        What several engines say at the same time is shown once, with their ids.
        """
        return showing.stream(self)

    def display_outputs(self, groupby: str = "type", result_only: bool = False) -> None:
        """Show what the engines printed and displayed, once all of it is here.

        Args:
            groupby: ``"type"`` (all stdout, then all stderr, displays, results), ``"engine"`` (all of one engine, in
                the order in which it came), or ``"order"`` (as type, but the first displays of all engines, then the
                second ones, and so on).
            result_only: Show what expressions gave, not what was printed.
        """
        self._wait_until(self._is_settled, None)
        showing.show_all(self, groupby, result_only=result_only)

    # --- failures -------------------------------------------------------------------------------------------------

    def debug(self, engine: int | None = None) -> None:
        """Open pdb on the frame in which a request failed, on its engine, from this terminal or notebook.

        Engines keep the frames of their last failures for some minutes.

        Args:
            engine: Which engine's failure to look at; by default the first one.

        Raises:
            ValueError: Nothing has failed, or the engine is gone.
            LookupError: The engine has the frames no longer.
        """
        debugging.debug(self, engine)

    def traceback(self, locals: bool = False, engine: int | None = None) -> str:
        """The remote traceback of a request that failed, as text.

        Args:
            locals: Show the local variables of each frame. They are asked of the engine, which keeps them for some minutes.
            engine: Which engine's failure; by default the first one.

        Raises as ``debug``.
        """
        return debugging.traceback_text(self, engine, locals=locals)
