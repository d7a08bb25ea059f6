"""A safe place in memory: pages are saved a moment after they were put there, and a crash keeps what was saved.

Of what was put there and not saved a crash keeps some, as a disk would: a beginning of any length.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from enginery.core import logbook

if TYPE_CHECKING:
    from collections.abc import Callable
    from random import Random

    from enginery.core.logbook import Page
    from enginery.core.recall import Recall
    from enginery.testing.clock import Clock

#: How likely it is after a page that it is worth while to begin anew.
ANEW: Final = 0.02
Written = tuple[bool, list[tuple[bytes, list[bytes]]]]


class MemoryPlace:
    """See ``controller.safe.Place``."""

    def __init__(
        self,
        clock: Clock,
        random: Random,
        slowest: float,
        on_saved: Callable[[], object],
        before: MemoryPlace | None = None,
    ) -> None:
        """Pages are saved within ``slowest`` seconds. What has survived in ``before`` is here."""
        self._pages: list[Written] = list(before._pages) if before is not None else []  # noqa: SLF001 - of this class
        self.saved = len(self._pages)
        self._clock = clock
        self._random = random
        self._slowest = slowest
        self._on_saved = on_saved
        self._clear_at = 0.0
        self._is_dead = False
        self._since_anew = 0

    @property
    def grown(self) -> bool:
        """See ``Place``."""
        return self._since_anew > 0 and self._random.random() < ANEW

    def put(self, page: Page) -> int:
        """See ``Place``."""
        self._since_anew += 1
        return self._put((False, _frozen(page)))

    def begin_anew(self, page: Page) -> int:
        """See ``Place``."""
        self._since_anew = 0
        return self._put((True, _frozen(page)))

    def _put(self, written: Written) -> int:
        self._pages.append(written)
        number = len(self._pages)
        self._clear_at = max(self._clear_at, self._clock.now + self._random.random() * self._slowest)
        self._clock.call_at(self._clear_at, lambda: self._save(number))
        return number

    def _save(self, number: int) -> None:
        if not self._is_dead:
            self.saved = number
            self._on_saved()

    def crash(self) -> None:
        """Who writes here is killed."""
        self._is_dead = True
        del self._pages[self._random.randint(self.saved, len(self._pages)) :]

    def read_into(self, recall: Recall) -> None:
        """Read what has survived."""
        begin = max((at for at, (is_anew, _) in enumerate(self._pages) if is_anew), default=0)
        for _, page in self._pages[begin:]:
            for header, frames in page:
                recall.read(logbook.decode(header), list(frames))


def _frozen(page: Page) -> list[tuple[bytes, list[bytes]]]:
    return [(logbook.encode(entry), [bytes(frame) for frame in frames]) for entry, frames in page]  # type: ignore[call-overload]  # buffers all
