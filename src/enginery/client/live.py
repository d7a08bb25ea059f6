"""Output of engines shown while it arrives.

Rules of the room:

1. Each engine's output is shown in its order. What several engines say at the same time is shown once, with their ids.
2. Whole lines are written for good. A line that is not complete (a progress bar, a prompt) is shown below them, where it
   can change, until it is.
3. Nothing is queued here: what is not shown yet stays with the result, which keeps a bounded amount and counts the rest.
"""

from __future__ import annotations

import contextvars
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

from enginery.client.outputs import Cursor, Entry, Spoken
from enginery.client.pieces import Piece, folded, label, merged, overwritten, piece_of
from enginery.client.screen import Screen

if TYPE_CHECKING:
    from enginery.wire.messages import Output

#: Seconds to wait for the other engines once one has said something: they may say the same.
GATHER: Final = 0.2
#: Requests up to which it is waited for others: more are the tasks of a map, which have little in common.
MANY: Final = 2000
#: Characters of a line without an end that are kept back.
LONGEST_LINE: Final = 10_000
#: Incomplete lines shown at once.
TAIL: Final = 8

#: What a result has kept, and which of its requests are meant (None: all).
Source = tuple[Spoken, "frozenset[int] | None"]
#: Waits for a predicate, or for some seconds; returns whether it is true.
Wait = Callable[[Callable[[], bool], "float | None"], bool]


class Live:
    """Shows the output of some requests, a step at a time. For one thread."""

    def __init__(self, sources: Iterable[Source], screen: Screen, requests: int) -> None:
        """``requests`` is how many there are: when all have said something, nobody needs to be waited for."""
        self._sources = [(Cursor(spoken), wanted) for spoken, wanted in sources]
        self._screen = screen
        self._requests = requests
        self._open: dict[tuple[int, str], str] = {}
        self._displays: dict[tuple[int, str], Piece] = {}
        self._has_tail = False
        self._unshown: list[tuple[Piece, list[int]]] = []
        #: Requests whose result, and whose error, have been shown: (number of the source, index).
        self.results: set[tuple[int, int]] = set()
        self.errors: set[tuple[int, int]] = set()

    def has_news(self) -> bool:
        """Whether there is something to show."""
        return any(cursor.has_news() for cursor, _ in self._sources)

    def _all_have_news(self) -> bool:
        return sum(cursor.count_fresh() for cursor, _ in self._sources) >= self._requests

    def step(self, wait: Wait, until: Callable[[], bool], timeout: float | None = None) -> bool:
        """Wait for news, at most ``timeout`` seconds, and show it. Returns whether ``until()`` is true."""
        wait(lambda: self.has_news() or until(), timeout)
        if self.has_news() and 1 < self._requests <= MANY and not until():
            wait(lambda: until() or self._all_have_news(), GATHER)
        self.show()
        return until()

    def show(self) -> None:
        """Show what has come."""
        self._show_unshown()
        for number, (cursor, wanted) in enumerate(self._sources):
            entries, lost = cursor.take()
            if lost:
                self._screen.write("stderr", f"[output] {lost} characters were dropped before they could be shown.\n")
            mine = entries if wanted is None else [entry for entry in entries if entry[0] in wanted]
            if mine:
                self._note(number, mine)
                self._show(mine)

    def finish(self) -> None:
        """Show what has come, and lines that will not be completed."""
        self.show()
        rest: dict[int, list[Piece]] = {}
        for (engine, kind), text in self._open.items():
            if (line := overwritten(text)).strip():
                rest.setdefault(engine, []).append(Piece(kind, line))
        for (engine, _), piece in self._displays.items():
            rest.setdefault(engine, []).append(piece)
        self._open, self._displays = {}, {}
        self._show_tail()
        self._write(rest)

    def _note(self, number: int, entries: Sequence[Entry]) -> None:
        self.results.update((number, index) for index, _, output in entries if output.kind == "result")
        self.errors.update((number, index) for index, _, output in entries if output.kind == "error")

    def _show(self, entries: Sequence[Entry]) -> None:
        said: dict[int, list[Piece]] = {}
        for _, engine, output in entries:
            mine = said.setdefault(engine, [])
            if output.kind == "clear":
                self._clear(engine, mine)
            else:
                self._take(engine, output, mine)
        self._write({engine: self._whole_lines(engine, pieces) for engine, pieces in said.items()})
        self._show_tail()

    def _take(self, engine: int, output: Output, mine: list[Piece]) -> None:
        piece = piece_of(output)
        if piece is None:
            return
        if piece.kind == "update" and piece.display_id is not None and not piece.is_rich:
            # It will be updated again, most likely: it is the text of a progress bar.
            self._displays[engine, piece.display_id] = piece
        else:
            mine.append(piece)

    def _clear(self, engine: int, mine: list[Piece]) -> None:
        mine.clear()
        for key in [key for key in self._open if key[0] == engine]:
            del self._open[key]
        if self._requests == 1:
            self._screen.clear(wait=True)

    def _whole_lines(self, engine: int, pieces: Iterable[Piece]) -> list[Piece]:
        """The pieces without the beginnings of lines, which are kept back until their ends come."""
        found: list[Piece] = []
        for piece in merged(pieces):
            if piece.kind not in {"stdout", "stderr"}:
                # What was begun before it stands before it.
                begun = self._open.pop((engine, "stdout"), "")
                if begun.strip():
                    found.append(Piece("stdout", overwritten(begun)))
                found.append(piece)
                continue
            text = self._open.pop((engine, piece.kind), "") + piece.text
            end = text.rfind("\n") + 1
            rest = _kept_back(text[end:])
            if rest:
                self._open[engine, piece.kind] = rest
            else:
                end = len(text)
            if end:
                found.append(Piece(piece.kind, overwritten(text[:end])))
        return found

    def _write(self, said: dict[int, list[Piece]]) -> None:
        self._unshown += [(piece, engines) for engines, pieces in folded(sorted(said.items())) for piece in pieces]
        self._show_unshown()

    def _show_unshown(self) -> None:
        # One leaves the list only when it has been shown: Ctrl-C may come while the screen writes.
        while self._unshown:
            self._screen.show(*self._unshown[0])
            del self._unshown[0]

    def _show_tail(self) -> None:
        pieces = [(engine, Piece(kind, overwritten(text).strip())) for (engine, kind), text in self._open.items()]
        pieces += [(engine, piece) for (engine, _), piece in self._displays.items()]
        lines = [
            f"{label(group[0], engines)} {group[0].text.splitlines()[-1]}"
            for engines, group in folded((engine, [piece]) for engine, piece in pieces if piece.text)
        ]
        if len(lines) > TAIL:
            lines[TAIL - 1 :] = [f"… and {len(lines) - TAIL + 1} more"]
        if lines or self._has_tail:
            self._screen.tail(lines)
            self._has_tail = bool(lines)


def _kept_back(line: str) -> str:
    """What is to be kept of the beginning of a line; empty if it is too long to be kept."""
    if len(line) <= LONGEST_LINE:
        return line
    # Written over many times, most likely.
    last = overwritten(line) + ("\r" if line.endswith("\r") else "")
    return last if len(last) <= LONGEST_LINE else ""


@contextmanager
def streamed(live: Live, spoken: Sequence[Spoken]) -> Iterator[None]:
    """While the block runs, show output as it arrives, starting with what is there already.

    A thread of its own shows it: output arrives under the link's lock, where the user's ``sys.stdout`` must not run.
    """
    bell = threading.Condition()
    over = threading.Event()

    def ring() -> None:
        with bell:
            bell.notify()

    def wait(predicate: Callable[[], bool], timeout: float | None) -> bool:
        with bell:
            return bell.wait_for(predicate, timeout)

    def run() -> None:
        while not live.step(wait, over.is_set):
            pass
        live.finish()

    for each in spoken:
        each.listeners.append(ring)
    # In the context of the caller, by which notebooks know the cell that output belongs to.
    context = contextvars.copy_context()
    writer = threading.Thread(target=context.run, args=(run,), name="enginery-output", daemon=True)
    writer.start()
    try:
        yield
    finally:
        for each in spoken:
            each.listeners.remove(ring)
        over.set()
        ring()
        writer.join()
