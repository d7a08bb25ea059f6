"""How long a call of a function will probably take, learnt from the calls that ended. No I/O."""

from __future__ import annotations

from typing import Final

#: What a function nobody has run yet is taken for: so long that an engine gets one at a time.
UNKNOWN: Final = 1.0
#: Least cost of any task in seconds: receiving, unpacking and answering take this long even if the call is empty.
FLOOR: Final = 4e-6
#: Longest run time that is believed: a clock that jumped or an engine's nonsense must not spread.
LONGEST: Final = 1e6
#: Functions remembered; past that, the one learnt first is forgotten.
CAPACITY: Final = 10_000


class Estimates:
    """Smoothed run times in seconds by function digest."""

    __slots__ = ("_seconds",)

    def __init__(self) -> None:
        self._seconds: dict[bytes, float] = {}

    def of(self, function: bytes) -> float:
        """Expected seconds of one call."""
        return self._seconds.get(function, UNKNOWN)

    def learn(self, function: bytes, total: float, count: int) -> None:
        """Take in that ``count`` calls took ``total`` seconds together. Clocks that jump are cut off at zero."""
        mean = total / count
        if not 0.0 <= mean <= LONGEST:
            mean = LONGEST if mean > LONGEST else 0.0  # what is not a number becomes zero, too
        mean += FLOOR
        before = self._seconds.get(function)
        if before is None:
            if len(self._seconds) >= CAPACITY:
                del self._seconds[next(iter(self._seconds))]
            self._seconds[function] = mean
        else:
            # Many calls at once weigh more, and a slow one counts at once: too long a queue behind slow tasks
            # costs more than too short a queue before fast ones.
            weight = 0.5 if mean > before or count > 4 else 0.2  # noqa: PLR2004 - said in the comment above
            self._seconds[function] = before + weight * (mean - before)
