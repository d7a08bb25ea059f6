"""How engines leave: what their nanny says and what their connection says, put together, and in words.

A dying engine is noticed twice, in either order: its nanny reports how it ended, and its connection closes. What it
still said before is on that connection; how it ended is only in the report. So both are waited for, for a moment.
"""

from __future__ import annotations

import signal
from time import monotonic
from typing import TYPE_CHECKING, Final

from enginery.wire.messages import Departure

if TYPE_CHECKING:
    from collections.abc import Callable

    from enginery.core.scheduler import Scheduler
    from enginery.wire.messages import EngineExited

#: How long the end of a connection is waited for once the death was reported, in seconds.
PATIENCE: Final = 0.25
#: How long the report is waited for once the connection has ended. It says why, and comes within milliseconds unless the
#: machine is busy.
REPORT_PATIENCE: Final = 1.0
#: Ends of engines remembered, to recognize a hello that comes too late.
REMEMBERED: Final = 10_000


class Departures:
    """Engines of which one sign of their end has come, and not the other."""

    def __init__(
        self, scheduler: Scheduler, leave: Callable[..., None], clock: Callable[[], float] = monotonic
    ) -> None:
        """``leave(number, reason, balanced=…, end=…)`` lets an engine go."""
        self._scheduler = scheduler
        self._leave = leave
        self._clock = clock
        self._joined: dict[str, None] = {}
        self._exited: dict[str, EngineExited] = {}
        self._hung_up: set[int] = set()
        self._due: dict[int, float] = {}

    def joined(self, uuid: str) -> None:
        """An engine has said hello."""
        self._joined[uuid] = None
        if len(self._joined) > REMEMBERED:
            del self._joined[next(iter(self._joined))]

    def exited(self, exited: EngineExited) -> None:
        """A nanny says how an engine ended."""
        is_news = exited.uuid not in self._exited
        self._exited[exited.uuid] = exited
        if len(self._exited) > REMEMBERED:
            del self._exited[next(iter(self._exited))]
        for number, engine in self._scheduler.engines.items():
            if engine.info.uuid == exited.uuid:
                self._note(number)
                return
        if is_news and exited.uuid not in self._joined and has_crashed(exited):
            self._scheduler.engine_stillborn(departure(-1, exited))

    def hung_up(self, number: int, patience: float = 0.0) -> None:
        """The connection of an engine is closed. It may come back within ``patience`` seconds unless it has ended."""
        if number in self._scheduler.engines:
            self._hung_up.add(number)
            self._scheduler.engine_hung_up(number)
            self._note(number, patience)

    def returned(self, number: int) -> None:
        """An engine whose connection was closed has another one."""
        self._hung_up.discard(number)
        self._due.pop(number, None)

    def has_ended(self, uuid: str) -> bool:
        """Whether the end of an engine has been reported."""
        return uuid in self._exited

    def tick(self, now: float) -> None:
        """Stop waiting where it has been long enough."""
        for number in [number for number, due in self._due.items() if due <= now]:
            self._go(number)

    def next_deadline(self) -> float:
        """When ``tick`` is due; infinity for never."""
        return min(self._due.values()) if self._due else float("inf")

    def _note(self, number: int, patience: float = 0.0) -> None:
        engine = self._scheduler.engines[number]
        reported, hung_up = engine.info.uuid in self._exited, number in self._hung_up
        if (reported and hung_up) or (hung_up and engine.nanny < 0 and not patience):
            self._go(number)
        else:
            wait = PATIENCE if reported else max(REPORT_PATIENCE, patience)
            self._due.setdefault(number, self._clock() + wait)

    def _go(self, number: int) -> None:
        self._due.pop(number, None)
        self._hung_up.discard(number)
        engine = self._scheduler.engines.get(number)
        if engine is None:
            return
        exited = self._exited.get(engine.info.uuid)
        if exited is None:
            end = Departure(number, engine.info.uuid, "its connection broke", crashed=True)
            self._leave(number, end.reason, end=end)
        else:
            end = departure(number, exited)
            self._leave(number, end.reason, balanced=exited.balanced, end=end)


def departure(number: int, exited: EngineExited) -> Departure:
    """What clients are told of an engine's end."""
    crashed = has_crashed(exited)
    return Departure(number, exited.uuid, describe_exit(exited), crashed, exited.restarting, exited.code)


def has_crashed(exited: EngineExited) -> bool:
    """Whether an engine ended otherwise than it should."""
    return exited.code != 0 and not exited.expected


def describe_exit(exited: EngineExited) -> str:
    """Exit code or signal in words; the nanny's own words win."""
    if exited.note:
        return exited.note
    if exited.code < 0:
        try:
            name = signal.Signals(-exited.code).name
        except ValueError:
            name = f"signal {-exited.code}"
        return f"killed by {name}"
    return f"exited with code {exited.code}"
