"""How long requests took, and how far they are: the timing half of AsyncResult."""

from __future__ import annotations

import datetime as dt
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from enginery.client.handle import Handle, seconds
from enginery.client.progress import BYTES, INTERVAL, PATIENCE, Progress, are_wanted, wait_shown

Moments = dt.datetime | Iterable[dt.datetime]


class Timed(Handle):
    """Timing of a result. Counts are in items of the user's, not in messages."""

    _fname: str
    _submitted: float
    #: Bytes that each request takes to its engine, where they are what takes long.
    _weights: Sequence[int] | None = None

    def __len__(self) -> int:
        raise NotImplementedError

    def _all_times(self) -> list[tuple[float, float, float]]:
        """Started, finished and received of every reply that has arrived."""
        raise NotImplementedError

    def _check_ready(self) -> None:
        """Raise TimeoutError unless it ended."""
        raise NotImplementedError

    def _arrived_bytes(self) -> int:
        """How much of ``_weights`` has reached its engine."""
        raise NotImplementedError

    @property
    def progress(self) -> int:
        """How many items are done."""
        raise NotImplementedError

    @property
    def elapsed(self) -> float:
        """Seconds since it was submitted; stands still once it is done."""
        if self.done():
            received = [received for _, _, received in self._all_times()]
            return max(received, default=self._submitted) - self._submitted
        return time.time() - self._submitted

    @property
    def serial_time(self) -> float:
        """Seconds that engines spent on it, added up. Raises TimeoutError before it is done."""
        self._check_ready()
        return sum(finished - started for started, finished, _ in self._all_times() if started)

    @property
    def wall_time(self) -> float:
        """Seconds from submission to the last reply. Raises TimeoutError before it is done."""
        self._check_ready()
        return self.elapsed

    @staticmethod
    def timedelta(
        start: Moments,
        end: Moments,
        start_key: Callable[[Iterable[dt.datetime]], dt.datetime] = min,
        end_key: Callable[[Iterable[dt.datetime]], dt.datetime] = max,
    ) -> float:
        """Seconds between two moments. Of several, ``start_key`` and ``end_key`` pick: earliest and latest."""
        first = start if isinstance(start, dt.datetime) else start_key(start)
        last = end if isinstance(end, dt.datetime) else end_key(end)
        return (last - first).total_seconds()

    def _wait_with_bar(
        self, interval: float, timeout: float | None, widget: bool | None, enough: Any, after: float = 0.0
    ) -> bool:
        """Wait until ``enough()``, showing a progress bar that is renewed every ``interval`` seconds."""
        weights = self._weights
        if weights is None:
            progress = Progress(self._fname, lambda: len(self), lambda: self.progress, after, widget=widget)
        else:
            progress = Progress(
                self._fname, lambda: sum(weights), self._arrived_bytes, after, widget=widget, unit=BYTES
            )
        return wait_shown(
            progress, self._wait_until, enough, timeout=seconds(timeout), tell=self._tell_wait, interval=interval
        )

    def _get_shown(self) -> Any:
        """As ``get()``; where people look at it, a progress bar is shown if it takes long."""
        if not self.done() and are_wanted():
            self._wait_with_bar(INTERVAL, None, None, self.done, PATIENCE)
        return self.result()
