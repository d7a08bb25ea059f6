"""What may go wrong between peers, by name: drawn from a seed, and counted.

========  ==========================================================================================================
lose      a message is lost, and with it its connection: nothing passes any more, either way, and nobody is told
delay     a message takes much longer; what follows on the same connection waits behind it
repeat    a message between a client and the controller arrives twice
reorder   a message is held up until others, of other peers, have overtaken it; its own peer's stay in order
kill      an engine's process ends, at any moment of its life
========  ==========================================================================================================

Single messages are never lost from a connection that goes on, nor do they overtake one another there: no transport
we use does that.
"""

from __future__ import annotations

from collections import Counter
from random import Random
from typing import Final

NAMES: Final = ("lose", "delay", "repeat", "reorder", "kill")


class Faults:
    """Faults with their probabilities, each drawn from a generator of its own.

    So changing the probability of one leaves the draws of the others alone, and a failure found by seed stays close
    while one fault after the other is switched off.
    """

    def __init__(
        self,
        seed: int = 0,
        *,
        lose: float = 0.0,
        delay: float = 0.0,
        repeat: float = 0.0,
        reorder: float = 0.0,
        kill: float = 0.0,
        latency: tuple[float, float] = (0.0001, 0.001),
        long_delay: float = 0.5,
    ) -> None:
        """Probabilities are for each message, of ``kill`` for each task an engine begins or ends.

        ``latency`` is the least and the most a message usually takes, ``long_delay`` what a delayed one takes more
        at most, all in seconds.
        """
        self.probabilities = {"lose": lose, "delay": delay, "repeat": repeat, "reorder": reorder, "kill": kill}
        self.latency = latency
        self.long_delay = long_delay
        self.counts: Counter[str] = Counter()
        self._chance = {name: Random(f"{seed} {name}") for name in (*NAMES, "travel")}  # noqa: S311 - no secrets

    def strikes(self, name: str) -> bool:
        """Whether the named fault happens now. Counted if it does."""
        probability = self.probabilities[name]
        if not probability or self._chance[name].random() >= probability:
            return False
        self.counts[name] += 1
        return True

    def travel_time(self) -> float:
        """How long a message takes, delays and hold-ups included."""
        low, high = self.latency
        draw = self._chance["travel"].random
        seconds = low + draw() * (high - low)
        if self.strikes("reorder"):
            seconds += 3 * high
        if self.strikes("delay"):
            seconds += draw() * self.long_delay
        return seconds

    def stop(self) -> None:
        """From now on nothing goes wrong any more."""
        self.probabilities = dict.fromkeys(NAMES, 0.0)

    def __repr__(self) -> str:
        return f"<Faults {', '.join(f'{name}={count}' for name, count in sorted(self.counts.items())) or 'none'}>"
