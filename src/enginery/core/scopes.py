"""What the holder of a key may say: scopes, and the messages and questions of each. No I/O.

Rules of the room:

1. A key has one scope. Those of clients include each other: whoever may ``submit`` may ``watch``, an ``admin`` may both.
2. What stands in no scope may be said by nobody; a question that is not listed here needs an ``admin``.
3. The controller looks here when a peer says hello, not for each message: a scope becomes the table of its handlers.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Final

from enginery.wire import messages as m


class Scope(StrEnum):
    """What a key is for."""

    WATCH = "watch"  #: look at queues, status and the stories of tasks
    SUBMIT = "submit"  #: also run tasks, take its own ones back, and read the records of all
    ADMIN = "admin"  #: also signal and stop engines, stop the controller, purge records, and make keys
    ENGINE = "engine"  #: join as an engine, or as the nanny of engines

    @property
    def port(self) -> str:
        """Which of the two ports it opens: that of clients or of engines."""
        return "engine" if self is Scope.ENGINE else "client"


Messages = frozenset[type]

_COURTESY: Final[Messages] = frozenset({m.Ping, m.Pong, m.Shares, m.Received, m.Bye})
_WATCH: Final[Messages] = _COURTESY | {m.ClientHello, m.Query}
_SUBMIT: Final[Messages] = _WATCH | {m.Functions, m.Submit, m.Direct, m.Abort, m.Release, m.Forget}
_ADMIN: Final[Messages] = _SUBMIT | {m.Signal, m.Shutdown}
_ENGINE: Final[Messages] = _COURTESY | {
    m.EngineHello,
    m.NannyHello,
    m.Done,
    m.Said,
    m.Returned,
    m.Paused,
    m.Missing,
    m.Holds,
    m.Want,
    m.Relayed,
    m.EngineExited,
    m.Release,
}

#: The messages of each scope.
MESSAGES: Final[dict[Scope, Messages]] = {
    Scope.WATCH: _WATCH,
    Scope.SUBMIT: _SUBMIT,
    Scope.ADMIN: _ADMIN,
    Scope.ENGINE: _ENGINE,
}
#: The least scope that may ask each question of the controller.
QUESTIONS: Final[dict[str, Scope]] = {
    "crashes": Scope.WATCH,
    "hub_history": Scope.WATCH,
    "sessions": Scope.WATCH,
    "task_status": Scope.WATCH,
    "db_query": Scope.SUBMIT,
    "follow": Scope.SUBMIT,
    "resubmit": Scope.SUBMIT,
    "purge": Scope.ADMIN,
    "queue_status": Scope.WATCH,
    "statistics": Scope.WATCH,
    "story": Scope.WATCH,
    "unknown": Scope.WATCH,
    "where": Scope.WATCH,
    "why": Scope.WATCH,
    "key_create": Scope.ADMIN,
    "key_list": Scope.ADMIN,
    "key_revoke": Scope.ADMIN,
    "key_rotate": Scope.ADMIN,
}


def allows(scope: Scope, message: type) -> bool:
    """Whether a holder of this scope may say this kind of message."""
    return message in MESSAGES[scope]


def may_ask(scope: Scope, question: str) -> bool:
    """Whether a holder of this scope may ask a question of this name."""
    return MESSAGES[QUESTIONS.get(question, Scope.ADMIN)] <= MESSAGES[scope]


def forbidden(scope: Scope, what: str) -> str:
    """Why it was not done, in a sentence, and what would help."""
    needed = next((each for each in Scope if each is not Scope.ENGINE and _includes(each, what)), Scope.ADMIN)
    return (
        f"This needs a key of scope {str(needed)!r}, and yours is of scope {str(scope)!r}. Use another connection file; "
        f"an admin makes one by `ipcluster key create --scope={needed}`."
    )


def _includes(scope: Scope, what: str) -> bool:
    return what in {each.__name__ for each in MESSAGES[scope]} or (what in QUESTIONS and may_ask(scope, what))
