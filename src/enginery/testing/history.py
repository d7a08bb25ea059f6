"""What happened in a simulated cluster, and whether it was allowed to happen.

The promises that ``complaints`` looks for:

1. Every accepted task ends in exactly one reply to its client, as long as that client is there.
2. Nothing is replied to that was not asked, and a value is the one of its own task, from an engine that computed it.
3. A task begins no more often than its retries and unmet requirements allow.
4. Tasks run only where they may; requests addressed to one engine begin in the order sent.
5. A task begins only after those it waits for have ended.
"""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING, Final, NamedTuple

from enginery.wire.messages import CLIENT_SHIFT

if TYPE_CHECKING:
    from collections.abc import Iterator

    from enginery.wire.messages import Options

#: Complaints shown in one failure.
SHOWN: Final = 5


class Event(NamedTuple):
    """Something that happened. ``who`` is an engine's or a client's number, -1 for the controller itself."""

    when: float
    what: str
    task: int
    who: int
    detail: str

    def __str__(self) -> str:
        return f"{self.when:9.4f}  {self.what:9}  task={self.task:#x} who={self.who} {self.detail}"


class Accepted(NamedTuple):
    """A task the controller has received for the first time."""

    when: float
    options: Options | None
    target: int | None  #: the engine it is addressed to, None for balanced tasks


class History:
    """Everything that happened, by time and by task."""

    def __init__(self) -> None:
        self.events: list[Event] = []
        self.accepted: dict[int, Accepted] = {}
        self.gone: set[int] = set()  #: clients that left, or whose connection was lost
        self._of: defaultdict[int, list[Event]] = defaultdict(list)

    def add(self, when: float, what: str, *, task: int = -1, who: int = -1, detail: str = "") -> None:
        """Something has happened."""
        event = Event(when, what, task, who, detail)
        self.events.append(event)
        if task >= 0:
            self._of[task].append(event)

    def accept(self, when: float, task: int, options: Options | None, target: int | None) -> None:
        """The controller has received a task; repetitions do not count."""
        if task not in self.accepted:
            self.accepted[task] = Accepted(when, options, target)
            self.add(when, "accepted", task=task)

    def of(self, task: int, what: str = "") -> list[Event]:
        """What happened to a task, or only how often one thing did."""
        return [event for event in self._of.get(task, ()) if not what or event.what == what]

    def story(self, task: int) -> str:
        """What happened to a task, a line each."""
        return "\n".join(str(event) for event in self._of.get(task, ()))

    # --- the promises ---------------------------------------------------------------------------------------------

    def complaints(self, *, finished: bool = True) -> list[str]:
        """Promises that were broken, in words. Without ``finished``, tasks may still be on their way."""
        found = [
            f"task {task:#x}: {complaint}\n{self.story(task)}"
            for task in self.accepted
            for complaint in self._task_complaints(task, finished=finished)
        ]
        found += [
            f"task {event.task:#x} was replied to without being accepted"
            for event in self.events
            if event.what == "replied"
            and event.task not in self.accepted
            and (event.who, event.detail) != (-1, "lost")  # which a client says of what it has sent to nobody
        ]
        return found + list(self._order_complaints())

    def check(self, *, finished: bool = True) -> None:
        """Raise AssertionError, with the story of the tasks concerned, if a promise was broken."""
        found = self.complaints(finished=finished)
        assert not found, f"{len(found)} promises broken:\n" + "\n".join(found[:SHOWN])

    def _task_complaints(self, task: int, *, finished: bool) -> Iterator[str]:
        accepted = self.accepted[task]
        options = accepted.options
        replies, begun = self.of(task, "replied"), self.of(task, "begun")
        if len(replies) > 1:
            yield f"{len(replies)} replies"
        if finished and not replies and task >> CLIENT_SHIFT not in self.gone:
            yield "no reply"
        ended = self.of(task, "ended")
        for reply in replies:
            if reply.detail == "ok" and not any(e.who == reply.who and e.detail == "ok" for e in ended):
                yield f"a value from engine {reply.who}, where it did not end well"
            if reply.detail == "wrong value":
                yield "the value is another task's"
        moves = sum(event.detail == "unmet" for event in ended)
        allowed = 1 + (options.retries if options is not None else 0) + moves
        if len(begun) > allowed:
            yield f"begun {len(begun)} times, {allowed} allowed"
        yield from self._place_complaints(accepted, begun)

    def _place_complaints(self, accepted: Accepted, begun: list[Event]) -> Iterator[str]:
        options = accepted.options
        for event in begun:
            if accepted.target is not None and event.who != accepted.target:
                yield f"addressed to engine {accepted.target}, begun on {event.who}"
            if options is None:
                continue
            if options.targets is not None and event.who not in options.targets:
                yield f"restricted to {options.targets}, begun on {event.who}"
            for dependency in (options.after, options.follow):
                if dependency is None or not dependency.all or dependency.failure:
                    continue
                for other in dependency.ids:
                    if not any(done.detail == "ok" and done.when <= event.when for done in self.of(other, "ended")):
                        yield f"begun before {other:#x}, on which it depends, had ended well"

    def _order_complaints(self) -> Iterator[str]:
        last: dict[tuple[int, int], int] = {}
        for event in self.events:
            if event.what != "begun" or event.task not in self.accepted or self.accepted[event.task].target is None:
                continue
            pair = (event.task >> CLIENT_SHIFT, event.who)
            if event.task < last.get(pair, -1):
                yield f"engine {event.who} began request {event.task:#x} after {last[pair]:#x}, which was sent later"
            last[pair] = event.task
