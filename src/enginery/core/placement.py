"""Which engine gets the next task: one small class for each scheme, all in constant time. No I/O.

A scheme is told which engines are *open* (have room for a balanced task) and picks one of them. Randomness comes
in as an object, so that a seeded scheduler always decides alike.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Protocol

if TYPE_CHECKING:
    from collections.abc import Iterable

    from enginery.core.engines import EngineRecord


#: Engines beyond the open ones whose last turn ``TwoBin`` remembers.
FORGOTTEN: Final = 1000


class Random(Protocol):
    """The part of ``random.Random`` that schemes use."""

    def randrange(self, stop: int, /) -> int:
        """An integer in ``range(stop)``."""
        ...

    def random(self) -> float:
        """A float in [0, 1)."""
        ...


class Scheme(Protocol):
    """How open engines are kept and picked."""

    def __len__(self) -> int:
        """How many engines are open."""
        ...

    def open(self, engine: EngineRecord) -> None:
        """The engine has room, or its load has changed. Repeating it is allowed."""
        ...

    def close(self, engine: EngineRecord) -> None:
        """The engine has no room any more, or left. Repeating it is allowed."""
        ...

    def pick(self) -> EngineRecord:
        """The engine for the next task; it stays open. At least one must be."""
        ...


class LeastLoad:
    """The engine with the fewest tasks; among equals the one opened last, whose memory is still in the caches.

    Where one task follows another, that makes the round trip a tenth shorter than taking turns does.
    """

    def __init__(self, random: Random) -> None:
        del random  # decides without chance
        self._level: dict[int, int] = {}
        self._levels: dict[int, dict[int, EngineRecord]] = {}
        self._lowest = 0

    def __len__(self) -> int:
        return len(self._level)

    def open(self, engine: EngineRecord) -> None:
        """See ``Scheme.open``."""
        number, load = engine.info.id, engine.load
        before = self._level.get(number, -1)
        if before == load:
            return
        if before >= 0:
            self._leave(number, before)
        self._level[number] = load
        self._levels.setdefault(load, {})[number] = engine
        self._lowest = min(self._lowest, load)

    def close(self, engine: EngineRecord) -> None:
        """See ``Scheme.close``."""
        level = self._level.pop(engine.info.id, -1)
        if level >= 0:
            self._leave(engine.info.id, level)

    def pick(self) -> EngineRecord:
        """See ``Scheme.pick``. Amortized constant: the lowest level rises only as often as loads fell."""
        levels = self._levels
        while self._lowest not in levels:
            self._lowest += 1
        return next(reversed(levels[self._lowest].values()))

    def _leave(self, number: int, level: int) -> None:
        engines = self._levels[level]
        del engines[number]
        if not engines:
            del self._levels[level]


class LeastRecentlyUsed:
    """The engine that was given a task least recently."""

    def __init__(self, random: Random) -> None:
        del random  # decides without chance
        self._engines: dict[int, EngineRecord] = {}

    def __len__(self) -> int:
        return len(self._engines)

    def open(self, engine: EngineRecord) -> None:
        """See ``Scheme.open``."""
        self._engines.setdefault(engine.info.id, engine)

    def close(self, engine: EngineRecord) -> None:
        """See ``Scheme.close``."""
        self._engines.pop(engine.info.id, None)

    def pick(self) -> EngineRecord:
        """See ``Scheme.pick``; the picked engine goes to the end of the line."""
        number, engine = next(iter(self._engines.items()))
        del self._engines[number]
        self._engines[number] = engine
        return engine


class PlainRandom:
    """Any open engine, all with the same chance."""

    def __init__(self, random: Random) -> None:
        self._random = random
        self._engines: list[EngineRecord] = []
        self._place: dict[int, int] = {}

    def __len__(self) -> int:
        return len(self._engines)

    def open(self, engine: EngineRecord) -> None:
        """See ``Scheme.open``."""
        if engine.info.id not in self._place:
            self._place[engine.info.id] = len(self._engines)
            self._engines.append(engine)

    def close(self, engine: EngineRecord) -> None:
        """See ``Scheme.close``: the last engine takes the place of the one that leaves."""
        place = self._place.pop(engine.info.id, -1)
        if place < 0:
            return
        last = self._engines.pop()
        if last is not engine:
            self._engines[place] = last
            self._place[last.info.id] = place

    def pick(self) -> EngineRecord:
        """See ``Scheme.pick``."""
        return self._engines[self._random.randrange(len(self._engines))]


class Weighted(PlainRandom):
    """Of two engines drawn at random, one by chance, the less loaded the more likely."""

    def pick(self) -> EngineRecord:
        """See ``Scheme.pick``."""
        one, other = super().pick(), super().pick()
        weight, against = 1 + other.load, 1 + one.load
        return one if self._random.random() * (weight + against) < weight else other


class TwoBin(PlainRandom):
    """Of two engines drawn at random, the one given a task less recently."""

    def __init__(self, random: Random) -> None:
        super().__init__(random)
        self._turn = 0
        self._given: dict[int, int] = {}

    def pick(self) -> EngineRecord:
        """See ``Scheme.pick``."""
        one, other = super().pick(), super().pick()
        chosen = min(one, other, key=lambda engine: self._given.get(engine.info.id, -1))
        self._turn += 1
        self._given[chosen.info.id] = self._turn
        if len(self._given) > 2 * len(self._engines) + FORGOTTEN:
            self._given = {number: turn for number, turn in self._given.items() if number in self._place}
        return chosen


class Pure(LeastRecentlyUsed):
    """Round robin without looking at results, as a plain ZeroMQ queue deals them."""


SCHEMES: dict[str, type[LeastLoad | LeastRecentlyUsed | PlainRandom]] = {
    "leastload": LeastLoad,
    "lru": LeastRecentlyUsed,
    "plainrandom": PlainRandom,
    "weighted": Weighted,
    "twobin": TwoBin,
    "pure": Pure,
}


def least_loaded(engines: Iterable[EngineRecord]) -> EngineRecord | None:
    """The engine with the fewest tasks among a few named ones, None if there are none."""
    return min(engines, key=lambda engine: engine.load, default=None)
