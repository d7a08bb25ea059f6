"""How long requests took, and how far they are: the timing half of AsyncResult."""

from __future__ import annotations

import datetime as dt
import time
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

from enginery.client.handle import Handle, seconds

if TYPE_CHECKING:
    # What a bar looks like: tqdm's, or its notebook twin.
    from tqdm import tqdm

Moments = dt.datetime | Iterable[dt.datetime]


class Timed(Handle):
    """Timing of a result. Counts are in items of the user's, not in messages."""

    _fname: str
    _submitted: float

    def __len__(self) -> int:
        raise NotImplementedError

    def _all_times(self) -> list[tuple[float, float, float]]:
        """Started, finished and received of every reply that has arrived."""
        raise NotImplementedError

    def _check_ready(self) -> None:
        """Raise TimeoutError unless it ended."""
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

    def _wait_with_bar(self, interval: float, timeout: float | None, widget: bool | None, enough: Any) -> bool:
        """Wait until ``enough()``, showing a progress bar that is renewed every ``interval`` seconds."""
        deadline = None if (limit := seconds(timeout)) is None else time.monotonic() + limit
        with progress_bar(len(self), self._fname, widget) as bar:
            while not enough():
                bar.update(self.progress - bar.n)
                left = interval if deadline is None else min(interval, deadline - time.monotonic())
                if left <= 0:
                    return False
                self._wait_until(enough, left)
            bar.update(self.progress - bar.n)
        return True


def progress_bar(total: int, title: str, widget: bool | None = None, unit: str = "tasks") -> tqdm[Any]:
    """A progress bar on the terminal, or with ``widget=True`` as a notebook widget."""
    if widget:
        # Costs 100 ms and needs ipywidgets; only those who ask for a widget pay.
        from tqdm.notebook import tqdm_notebook

        return tqdm_notebook(total=total, desc=title, unit=unit)
    # Costs 30 ms, which most clients never need.
    from tqdm import tqdm

    return tqdm(total=total, desc=title, unit=unit)
