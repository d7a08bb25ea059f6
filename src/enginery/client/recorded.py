"""The result of a request that the controller remembers, whoever asked for it: AsyncHubResult."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from enginery.client import explain
from enginery.client.map_result import as_items
from enginery.client.metadata import Metadata
from enginery.client.replies import Joined
from enginery.client.result import AsyncResult, as_execute_reply

if TYPE_CHECKING:
    from enginery.client.client import Client


class AsyncHubResult(AsyncResult):
    """The result of requests of other clients, of earlier sessions, or of requests this client has forgotten.

    It is an AsyncResult in every respect, except that only who asked for a request can take it back. Requests that have
    not ended are waited for: the controller sends what becomes of them.
    """

    #: What the record says of each request, by message id.
    _facts: Mapping[str, dict[str, Any]] = MappingProxyType({})

    @classmethod
    def _of(cls, client: Client, texts: list[str], first: int, *, scalar: bool) -> AsyncHubResult:
        """A result that waits for requests under ids from ``first`` on."""
        result = cls(client, first, "get_result", None, None if scalar else len(texts))
        result._texts = texts
        return result

    def _take_facts(self, facts: dict[str, dict[str, Any]]) -> None:
        """What the controller says of the requests."""
        self._facts = facts
        self._convert = _as_asked

    def _message_id_at(self, index: int) -> str:
        return self._texts[index] if self._texts else super()._message_id_at(index)

    def reply_metadata(self, index: int) -> Metadata:
        """What is known about request ``index``."""
        found = super().reply_metadata(index)
        facts = {} if isinstance(self._many, Joined) else self._facts.get(found.msg_id, {})
        for key in ("submitted", "label", "engine_uuid", "engine_id"):
            if facts.get(key) is not None:
                found[key] = facts[key]
        wanted = facts.get("metadata") or {}
        for key in ("after", "follow"):
            if key in wanted:
                found[key] = wanted[key]
        return found

    def abort(self, interrupt: bool = False, *, kill_after: float | None = None, restart: bool = False) -> None:
        """Raises RuntimeError for requests of others: only their own clients can take them back."""
        if self._texts:
            raise RuntimeError(f"{self!r} is of requests of another client, which alone can abort them.")
        super().abort(interrupt, kill_after=kill_after, restart=restart)

    def why(self) -> str:
        """Why it is not done: a sentence for each request that has not ended. Asks the controller."""
        if not self._texts or self.done():
            return super().why()
        missing = [index for index in range(self._size()) if not self.reply_arrived(index)][: explain.MOST]
        tasks = [self._facts.get(self._texts[index], {}).get("task", -1) for index in missing]
        sentences = explain.reasons(self.client, tasks)
        if self._size() == 1:
            return sentences[0]
        return "\n".join(f"{self._texts[at]}: {said}" for at, said in zip(missing, sentences, strict=False))

    def _tell_wait(self) -> str:
        return f"{self!r}: {self.why()}" if self._texts else super()._tell_wait()


def _as_asked(result: AsyncResult, index: int, value: Any, engine: int) -> Any:
    """A value as the client that asked for it would see it."""
    assert isinstance(result, AsyncHubResult), "nobody else converts like this"
    content = result._facts.get(result._message_id_at(index), {}).get("content") or {}
    action = content.get("action")
    if action == "execute":
        return as_execute_reply(result, index, value, engine)
    return as_items(result, index, value, engine) if action == "map" else value
