"""What engines print and display while they run a request: kept with its result, and shown.

A result keeps the newest 10 MB of it. When it drops older output, the text it returns says so.
"""

from __future__ import annotations

import queue
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final, TextIO

from msgspec import msgpack

if TYPE_CHECKING:
    from enginery.wire.messages import Output

#: How many characters and bytes of output a result keeps.
LIMIT: Final = 10_000_000
#: What an entry costs besides its text.
_OVERHEAD: Final = 200

Listener = Callable[[int, int, "Output"], None]


class Spoken:
    """Output of the requests of one result, oldest first. Added to under the link's lock, read by anybody."""

    __slots__ = ("_entries", "_size", "data", "dropped", "listeners")

    def __init__(self) -> None:
        self._entries: deque[tuple[int, int, Output]] = deque()
        self._size = 0
        #: Bytes that were dropped.
        self.dropped = 0
        #: What engines published, by index of the request.
        self.data: dict[int, dict[str, Any]] = {}
        #: Called with index, engine and output, under the link's lock.
        self.listeners: list[Listener] = []

    def add(self, index: int, engine: int, output: Output) -> None:
        """Keep an output, and drop the oldest ones if there are too many."""
        if output.kind == "data":
            self.data.setdefault(index, {}).update(_mapping(output))
        else:
            self._entries.append((index, engine, output))
            self._size += _weight(output)
            while self._size > LIMIT:
                weight = _weight(self._entries.popleft()[2])
                self._size -= weight
                self.dropped += weight
        for listener in self.listeners:
            listener(index, engine, output)

    def entries(self) -> list[tuple[int, int, Output]]:
        """All that is kept, as ``(index, engine, output)``."""
        while True:
            try:
                return list(self._entries)
            except RuntimeError:  # another thread added one in between: look again
                continue

    def text(self, kind: str, index: int | None = None) -> str:
        """All stdout or stderr of one request, or of all of them."""
        parts = [out.text for at, _, out in self.entries() if out.kind == kind and index in {None, at}]
        if self.dropped and parts:
            parts.insert(0, f"[{self.dropped} bytes of earlier output were dropped: a result keeps {LIMIT}]\n")
        return "".join(parts)

    def bundles(self, kind: str, index: int) -> list[dict[str, Any]]:
        """What was displayed (kind display) or shown as a result (kind result): ``{"data": …, "metadata": …}``."""
        return [_mapping(out) for at, _, out in self.entries() if out.kind == kind and at == index]


def _weight(output: Output) -> int:
    return len(output.text) + len(output.data) + _OVERHEAD


def _mapping(output: Output) -> dict[str, Any]:
    """The msgpack mapping of an output. What cannot be read is shown as what it is, never lost in silence."""
    try:
        found = msgpack.decode(output.data)
    except ValueError as error:
        return {"data": {"text/plain": f"<unreadable {output.kind}: {error}>"}, "metadata": {}}
    return found if isinstance(found, dict) else {"data": {"text/plain": repr(found)}, "metadata": {}}


# --- as text --------------------------------------------------------------------------------------------------------


def plain_text(bundle: dict[str, Any]) -> str:
    """The text of a bundle of representations."""
    data = bundle.get("data") or {}
    if "text/plain" in data:
        return str(data["text/plain"])
    return f"<{', '.join(data) or 'nothing'}>"


def labelled(label: str, text: str) -> str:
    """``text`` under a label: on the same line if it is one line."""
    text = text.removesuffix("\n")
    return f"{label}\n{text}\n" if "\n" in text else f"{label} {text}\n"


def render(output: Output, engine: int) -> tuple[str, str]:
    """The stream (stdout or stderr) and the text by which a live view shows an output; empty text for nothing."""
    match output.kind:
        case "stdout" | "stderr":
            return output.kind, labelled(f"[{output.kind}:{engine}]", output.text)
        case "display":
            return "stdout", labelled(f"[output:{engine}]", plain_text(_mapping(output)))
        case "result":
            found = _mapping(output)
            return "stdout", labelled(f"Out[{engine}:{found.get('execution_count', '')}]:", plain_text(found))
        case "error":
            return "stderr", labelled(f"[error:{engine}]", output.text or plain_text(_mapping(output)))
        case _:
            return "stdout", ""


@contextmanager
def live(spoken: Spoken) -> Iterator[None]:
    """While the block runs, write output as it arrives, starting with what is there already.

    A thread of its own writes: output arrives under the link's lock, where the user's ``sys.stdout`` must not run.
    """
    lines: queue.SimpleQueue[tuple[int, Output] | None] = queue.SimpleQueue()

    def listen(index: int, engine: int, output: Output) -> None:  # noqa: ARG001 - the shape of a Listener
        lines.put((engine, output))

    # Listening first: an output that arrives in between is found among the entries and in the queue, once each.
    spoken.listeners.append(listen)
    early = spoken.entries()
    for _, engine, output in early:
        _write(*render(output, engine))
    writer = threading.Thread(target=_write_all, args=(lines, early), name="enginery-output", daemon=True)
    writer.start()
    try:
        yield
    finally:
        spoken.listeners.remove(listen)
        lines.put(None)
        writer.join()


def _write_all(lines: queue.SimpleQueue[tuple[int, Output] | None], early: list[tuple[int, int, Output]]) -> None:
    known = {id(output) for _, _, output in early}
    while (line := lines.get()) is not None:
        engine, output = line
        if id(output) not in known:
            _write(*render(output, engine))


def _write(stream: str, text: str) -> None:
    if text:
        out: TextIO = sys.stderr if stream == "stderr" else sys.stdout
        out.write(text)
        out.flush()


def display(engines: list[tuple[int, int]], spoken: Spoken | None, groupby: str, result_only: bool) -> None:
    """Write all output of some requests, given as ``(engine, index)``, grouped as ``display_outputs`` says."""
    if groupby not in {"type", "engine", "order"}:
        raise ValueError(f"groupby must be 'type', 'engine' or 'order', not {groupby!r}.")
    if spoken is None:
        return
    kinds = ["result"] if result_only else ["stdout", "stderr", "display", "result", "error"]
    entries = [entry for entry in spoken.entries() if entry[2].kind in kinds]
    if groupby == "order":
        for _, engine, output in entries:
            _write(*render(output, engine))
        return
    cells = [(kind, at) for kind in kinds for _, at in engines]
    if groupby == "engine":
        cells = [(kind, at) for _, at in engines for kind in kinds]
    for kind, at in cells:
        mine = [(engine, output) for index, engine, output in entries if index == at and output.kind == kind]
        if kind in {"stdout", "stderr"} and mine:
            _write(kind, labelled(f"[{kind}:{mine[0][0]}]", "".join(output.text for _, output in mine)))
        else:
            for engine, output in mine:
                _write(*render(output, engine))
