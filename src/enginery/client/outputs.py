"""What engines print and display while they run a request: kept with its result.

A result keeps the newest 10 MB of it. When it drops older output, the text it returns says so, and so does who shows it.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from itertools import islice
from typing import TYPE_CHECKING, Any, Final

from enginery.client.pieces import decoded, shown_in_the_end

if TYPE_CHECKING:
    from enginery.wire.messages import Output

#: How many characters and bytes of output a result keeps.
LIMIT: Final = 10_000_000
#: What an entry costs besides its text.
_OVERHEAD: Final = 200

#: Index of the request, engine, output.
Entry = tuple[int, int, "Output"]


class Spoken:
    """Output of the requests of one result, oldest first. Added to under the link's lock, read by anybody."""

    __slots__ = (
        "_added",
        "_by_index",
        "_entries",
        "_guard",
        "_latest",
        "_size",
        "_total",
        "data",
        "dropped",
        "listeners",
    )

    def __init__(self) -> None:
        self._entries: deque[Entry] = deque()
        self._guard = threading.Lock()
        self._by_index: dict[int, list[Entry]] | None = None
        self._latest: dict[int, int] = {}
        self._size = 0
        self._added = 0
        self._total = 0
        #: How much was dropped, in characters and bytes.
        self.dropped = 0
        #: What engines published, by index of the request and by name: packed values.
        self.data: dict[int, dict[str, tuple[bytes, list[bytes]]]] = {}
        #: Called after each output, under the link's lock.
        self.listeners: list[Callable[[], object]] = []

    def add(self, index: int, engine: int, output: Output) -> None:
        """Keep an output, and drop the oldest ones if there are too many."""
        if output.kind == "data":
            # Unpacked by who asks: here, under the link's lock, the user's classes must not run.
            self.data[index] = self.data.get(index, {}) | decoded(output)
        else:
            with self._guard:
                self._keep((index, engine, output))
        for listener in self.listeners:
            listener()

    def _keep(self, entry: Entry) -> None:
        self._entries.append(entry)
        self._by_index = None
        length = _length(entry)
        self._added += 1
        self._latest[entry[0]] = self._added
        self._total += length
        self._size += length + _OVERHEAD
        while self._size > LIMIT:
            length = _length(self._entries.popleft())
            self._size -= length + _OVERHEAD
            self.dropped += length

    @property
    def has_any(self) -> bool:
        """Whether there was any output."""
        return bool(self._added or self.data)

    # --- reading --------------------------------------------------------------------------------------------------

    def entries(self) -> list[Entry]:
        """All that is kept."""
        with self._guard:
            return list(self._entries)

    def entries_of(self, index: int) -> list[Entry]:
        """What is kept of one request."""
        with self._guard:
            found = self._by_index
            if found is None:
                found = {}
                for entry in self._entries:
                    found.setdefault(entry[0], []).append(entry)
                self._by_index = found
            return found.get(index, [])

    def published(self, index: int) -> dict[str, tuple[bytes, list[bytes]]]:
        """The newest value of each name that one request published, packed."""
        return self.data.get(index, {})

    def text(self, kind: str, index: int) -> str:
        """All stdout or stderr of one request."""
        parts = [output.text for _, _, output in self.entries_of(index) if output.kind == kind]
        if self.dropped and parts:
            parts.insert(0, f"[{self.dropped} bytes of earlier output were dropped: a result keeps {LIMIT}]\n")
        return "".join(parts)

    def bundles(self, kind: str, index: int) -> list[dict[str, Any]]:
        """What was displayed (kind display) or shown as a result (kind result): ``{"data": …, "metadata": …}``."""
        outputs = [output for _, _, output in self.entries_of(index)]
        return [piece.bundle for piece in shown_in_the_end(outputs) if piece.kind == kind and piece.bundle is not None]

    def error(self, index: int) -> str:
        """The tracebacks that one request sent while it ran."""
        outputs = [output for _, _, output in self.entries_of(index) if output.kind == "error"]
        return "\n".join(piece.text for piece in shown_in_the_end(outputs))


class Cursor:
    """Reads what a result keeps from the oldest output on, each one once. For one reader."""

    def __init__(self, spoken: Spoken) -> None:
        self.spoken = spoken
        self._taken = 0
        self._passed = 0

    def has_news(self) -> bool:
        """Whether there is something that was not taken yet."""
        return self.spoken._added > self._taken

    def count_fresh(self) -> int:
        """How many requests have said something that was not taken yet."""
        with self.spoken._guard:
            return sum(number > self._taken for number in self.spoken._latest.values())

    def take(self) -> tuple[list[Entry], int]:
        """What has come since the last time, and how many characters of that were dropped before they could be read."""
        spoken = self.spoken
        with spoken._guard:
            count = min(spoken._added - self._taken, len(spoken._entries))
            found = list(islice(reversed(spoken._entries), count))[::-1]
            lost = max(0, spoken.dropped - self._passed)
            self._taken, self._passed = spoken._added, spoken._total
        return found, lost


def _length(entry: Entry) -> int:
    return len(entry[2].text) + len(entry[2].data)
