"""How much output is on its way to one client, and what is dropped where that is too much. No I/O.

A client that is stopped, or at the end of a slow line, must not fill the controller's memory with what engines print. So
the controller asks it now and then whether it has read what was sent (``Ping``, with the count as its number), and
drops output while too much was not. Results are never dropped, and neither are errors.
"""

from __future__ import annotations

from typing import Final

from enginery.wire.messages import Output

#: Characters and bytes on their way until output is dropped, and until it is passed on again.
MOST: Final = 64 << 20
ENOUGH: Final = 16 << 20
#: Characters and bytes after which the client is asked whether it has read them.
ASK_EVERY: Final = 1 << 20
#: What an output costs besides its text.
OVERHEAD: Final = 100
#: Tasks remembered as told of; past that they are told again.
MOST_TOLD: Final = 10_000
_ALWAYS: Final = frozenset({"result", "error"})
_NOTICE: Final = (
    "\n[from here on output was dropped: the client had not read what was sent before ({size} MB and more)]\n"
)


class Flow:
    """The output of one client."""

    __slots__ = ("_asked", "_heard", "_is_dropping", "_said", "_told")

    def __init__(self) -> None:
        self._said = self._asked = self._heard = 0
        self._is_dropping = False
        self._told: set[int] = set()

    def __repr__(self) -> str:
        return f"<Flow under way={self._said - self._heard}{' dropping' if self._is_dropping else ''}>"

    def passed(self, output: Output) -> Output | None:
        """What to pass on for an output: itself, or a notice that output of its task is dropped, or nothing."""
        if self._said - self._heard > (ENOUGH if self._is_dropping else MOST):
            self._is_dropping = True
            if output.kind not in _ALWAYS:
                return self._notice(output.task)
        elif self._is_dropping:
            self._is_dropping = False
            self._told.clear()
        self._said += len(output.text) + len(output.data) + OVERHEAD
        return output

    def _notice(self, task: int) -> Output | None:
        if task in self._told:
            return None
        if len(self._told) >= MOST_TOLD:
            self._told.clear()
        self._told.add(task)
        return Output(task, "stderr", _NOTICE.format(size=MOST >> 20))

    def question(self) -> int:
        """The number with which to ask the client now; 0 if it need not be asked."""
        if self._said - self._asked < ASK_EVERY:
            return 0
        self._asked = self._said
        return self._said

    def last_question(self) -> int:
        """The number asked last: for a client that comes back, which may not have got it."""
        return self._asked

    def heard(self, number: int) -> None:
        """The client has answered: it has read everything up to there."""
        if number <= self._asked:
            self._heard = max(self._heard, number)
