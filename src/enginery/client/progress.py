"""Progress bars: of text in a terminal, widgets in a notebook that has them. They count items of the user's."""

from __future__ import annotations

import importlib.util
import os
import sys
import time
from collections.abc import Callable
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, Self

from enginery.client.active import NONINTERACTIVE, in_ipython
from enginery.client.silence import FIRST, Silence

if TYPE_CHECKING:
    # What a bar looks like: tqdm's, or its notebook twin.
    from tqdm import tqdm

#: Seconds until a bar appears that nobody has asked for.
PATIENCE: Final = 2.0
#: Seconds between two looks at how far it is.
INTERVAL: Final = 0.2
#: The unit of bars that show it in kilo-, mega- and gigabytes.
BYTES: Final = "B"


def progress_bar(total: int | None, title: str, widget: bool | None = None, unit: str = "tasks") -> tqdm[Any]:
    """A progress bar: a widget in a notebook that has them, else text. ``widget`` overrides what is found out."""
    if _has_widgets() if widget is None else widget:
        # Costs 100 ms and needs ipywidgets.
        from tqdm.notebook import tqdm_notebook

        return tqdm_notebook(total=total, desc=title, unit=unit, unit_scale=unit == BYTES)
    # Costs 30 ms, which most clients never need.
    from tqdm import tqdm

    return tqdm(total=total, desc=title, unit=unit, unit_scale=unit == BYTES)


def above(bar: tqdm[Any]) -> Callable[[str], None]:
    """Writes lines above a progress bar, on the standard error stream."""
    return lambda line: bar.write(line, file=sys.stderr)


def are_wanted() -> bool:
    """Whether bars are shown that nobody has asked for: where IPython runs, and people look at it."""
    return in_ipython() and not os.environ.get(NONINTERACTIVE)


def _has_widgets() -> bool:
    """Whether this is a notebook that can show widgets."""
    ipython = sys.modules.get("IPython")
    shell = None if ipython is None else ipython.get_ipython()
    return hasattr(shell, "kernel") and importlib.util.find_spec("ipywidgets") is not None


class Progress:
    """A progress bar that appears after some seconds, if it is not over by then.

    ``after`` of 0 shows it at once, a negative one never. As a context manager it ends with the block.
    """

    def __init__(
        self,
        title: str,
        total: Callable[[], int | None],
        done: Callable[[], int],
        after: float = PATIENCE,
        *,
        widget: bool | None = None,
        unit: str = "tasks",
    ) -> None:
        self._title = title
        self._total = total
        self._done = done
        self._widget = widget
        self._unit = unit
        self._due = None if after < 0 else time.monotonic() + after
        self._bar: tqdm[Any] | None = None

    def next_look(self) -> float | None:
        """Seconds until ``update`` is to be called again; None for never."""
        if self._bar is not None:
            return INTERVAL
        return None if self._due is None else max(0.0, self._due - time.monotonic())

    def update(self) -> None:
        """Show how far it is, if it is time for that."""
        if self._bar is None:
            if self._due is None or time.monotonic() < self._due:
                return
            self._bar = progress_bar(self._total(), self._title, self._widget, self._unit)
        if not self._move(self._bar):
            # Also when nothing is new: the bar shows how much time has passed.
            self._bar.refresh()

    def say(self, line: str) -> None:
        """Write a line to the standard error stream, above the bar if there is one."""
        if self._bar is not None:
            above(self._bar)(line)
        else:
            sys.stderr.write(line + "\n")
            sys.stderr.flush()

    def _move(self, bar: tqdm[Any]) -> bool:
        """Set how far it is. Returns whether the bar was drawn."""
        bar.total = self._total()  # maps over input of unknown length grow
        return bool(bar.update(self._done() - bar.n))

    def __enter__(self) -> Self:
        self.update()
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, tb: TracebackType | None) -> None:
        if self._bar is not None:
            self._move(self._bar)
            self._bar.close()


def wait_shown(
    progress: Progress,
    wait_for: Callable[[Callable[[], bool], float | None], bool],
    enough: Callable[[], bool],
    *,
    timeout: float | None,
    tell: Callable[[], str],
    interval: float = INTERVAL,
) -> bool:
    """Wait until ``enough()`` and show the progress meanwhile. False if ``timeout`` seconds were over before.

    Args:
        progress: What to show.
        wait_for: Waits for a predicate, or for some seconds.
        enough: Whether the wait is over.
        timeout: Seconds; None for ever.
        tell: Says what is awaited, should it take long.
        interval: Seconds between two looks.
    """
    deadline = None if timeout is None else time.monotonic() + timeout
    with progress:
        silence = Silence(tell, progress.say)
        while not enough():
            progress.update()
            left = interval if deadline is None else min(interval, deadline - time.monotonic())
            if left <= 0:
                return False
            wait_for(enough, min(left, FIRST))
            silence.check()
    return True
