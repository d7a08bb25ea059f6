"""Peers that may come back over another connection: what they have not got yet, and until when they are waited for.

A client or engine whose connection breaks stays known for the stated time. What is meant for it is kept, and sent once
it says hello again. Who that is, is never guessed: a client shows the token it was given, an engine the name of its
incarnation and the number of its connection, and both the epoch of the controller they knew.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from enginery.core.mail import Mail
from enginery.core.recall import Unheard
from enginery.wire.messages import Result, Results, decode_to_client

if TYPE_CHECKING:
    from enginery.core.actions import To

Who = tuple["To", int]


class Absences:
    """Mail of clients and engines, and which of them are away."""

    def __init__(self) -> None:
        self._mails: dict[Who, Mail] = {}
        self._until: dict[Who, float] = {}
        self._connections: dict[Who, int] = {}

    def __contains__(self, who: Who) -> bool:
        """Whether a peer is away and waited for."""
        return who in self._until

    def open(self, who: Who) -> Mail:
        """Begin to keep the mail of a peer, which has just been welcomed."""
        mail = self._mails[who] = Mail()
        return mail

    def mail_of(self, who: Who) -> Mail | None:
        """The mail of a peer that may come back."""
        return self._mails.get(who)

    def away(self, who: Who, until: float) -> bool:
        """The connection of a peer is lost. False if it is not to be waited for."""
        if who not in self._mails:
            return False
        self._until[who] = until
        return True

    def back(self, who: Who, connection: int = 0) -> Mail:
        """A peer is back. Its mail goes on."""
        self._until.pop(who, None)
        self._connections[who] = connection
        return self._mails.setdefault(who, Mail())

    def connection(self, who: Who) -> int:
        """The number of the connection by which a peer was last heard; -1 if it has said none."""
        return self._connections.get(who, -1)

    def forget(self, who: Who) -> None:
        """A peer has left for good."""
        self._mails.pop(who, None)
        self._until.pop(who, None)
        self._connections.pop(who, None)

    def overdue(self, now: float) -> list[Who]:
        """Those that were waited for long enough; they are no longer away."""
        over = [who for who, until in self._until.items() if until <= now]
        for who in over:
            del self._until[who]
        return over

    def next_deadline(self) -> float:
        """When ``overdue`` will give somebody; infinity for never."""
        return min(self._until.values()) if self._until else float("inf")


def results_in(header: bytes) -> list[Result]:
    """The results in a message to a client."""
    message = decode_to_client(header)
    return message.results if type(message) is Results else []


def unheard_in(mail: Mail | None) -> list[Unheard]:
    """Results that a client may not have."""
    unheard: list[Unheard] = []
    for header, frames in mail.kept() if mail is not None else ():
        message = decode_to_client(header)
        if type(message) is Results:
            at = 0
            for result in message.results:
                unheard.append(Unheard(message.engine, result, frames[at : at + result.frames]))
                at += result.frames
    return unheard
