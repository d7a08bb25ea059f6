"""A reader of logbooks that remembers the entries themselves."""

from __future__ import annotations

from enginery.core.recall import Recall


class Reader(Recall):
    """As any reader, and ``entries`` has what was read, with frames."""

    def __init__(self, **given):
        super().__init__(**given)
        self.entries = []

    def read(self, entry, frames):
        self.entries.append((entry, frames))
        super().read(entry, frames)
