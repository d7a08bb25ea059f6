"""What a client has asked the controller and not been told, and what another controller is asked once more. No I/O.

A question that only looks may be asked twice: whoever waits for its answer when the controller is killed is answered by
the next one. So is who waits for a task of somebody else: that it is waited for is asked anew. What does something may
have been done, and is not repeated.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from enginery.wire import messages as m

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping

#: Questions that only look.
HARMLESS: Final = frozenset(
    {
        "crashes", "db_query", "follow", "hub_history", "queue_status", "sessions", "statistics", "story",
        "task_status", "where", "why",
    }
)  # fmt: skip
#: Number of the question which tasks a controller does not know. The numbers below are of tasks that are waited for anew.
UNKNOWN: Final = -1
#: What those are told whose task nobody remembers.
UNREMEMBERED: Final = (
    "The controller was restored, and what it had saved does not tell of this task. Whether it has run is not known."
)
FORGOTTEN: Final = (
    "The controller was restarted (epoch {} → {}) and does not remember what the one before it was asked. Whether the "
    "task has run is not known. Start the controller with --restore to have it remember."
)
_RESTARTED: Final = "The controller was restarted before it answered. Ask again."


class Asked:
    """Questions under way, and the tasks of others that are waited for. ``again`` belongs to who holds the line's lock."""

    def __init__(self) -> None:
        self.answers: dict[int, m.Answer | None] = {}  #: by number of the question; None while it is awaited
        self._headers: dict[int, bytes] = {}  #: of these, as they are sent
        self._harmless: set[int] = set()
        self._followed: dict[
            int, str
        ] = {}  #: message ids of tasks of others, by the id under which they are waited for

    def ask(self, question: m.Query | m.Signal | m.Shutdown) -> bytes:
        """Somebody waits for the answer to a question. Returns what is to be sent."""
        number, header = question.number, m.encode(question)
        self.answers[number] = None
        self._headers[number] = header
        if isinstance(question, m.Query) and question.name in HARMLESS:
            self._harmless.add(number)
        return header

    def done(self, number: int) -> m.Answer | None:
        """Nobody waits for an answer any more. Returns it, if it has come."""
        self._headers.pop(number, None)
        self._harmless.discard(number)
        return self.answers.pop(number, None)

    def heard(self, answer: m.Answer) -> None:
        """An answer has come."""
        if answer.number in self.answers:  # else nobody waits for it any more
            self.answers[answer.number] = answer

    def follow(self, texts: Mapping[int, str], outstanding: Collection[int]) -> None:
        """Tasks of others are waited for: their message ids, by the ids under which. ``outstanding`` are all ids in use."""
        self._followed = {alias: text for alias, text in self._followed.items() if alias in outstanding} | dict(texts)

    def followed(self, outstanding: Iterable[int]) -> dict[int, str]:
        """Those that are still waited for, of all that is."""
        return {alias: text for alias in outstanding if (text := self._followed.get(alias)) is not None}

    def again(self, unsent: Collection[bytes], outstanding: Iterable[int]) -> list[bytes]:
        """There is another controller: what it has to be asked. Questions that cannot be repeated are answered so.

        ``unsent`` are messages that have not left yet; none of ``outstanding`` is followed if the controller knows nothing.
        """
        waiting = {id(header) for header in unsent}
        again = []
        for number, header in list(self._headers.items()):
            if id(header) in waiting or self.answers.get(number, header) is not None:
                continue
            if number in self._harmless:
                again.append(header)
            else:
                self.heard(m.Answer(number, error=_RESTARTED))
        for alias, text in self.followed(outstanding).items():
            again.append(m.encode(m.Query(UNKNOWN - 1 - alias, "follow", {"ids": [text], "as": [alias]})))
        return again


def followed_by(number: int) -> int:
    """The id under which the task is waited for that the question of this number, below ``UNKNOWN``, was about."""
    return UNKNOWN - 1 - number
