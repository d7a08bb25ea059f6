"""What engines said, cut into pieces that can be compared, put together and labelled. No I/O."""

from __future__ import annotations

import re
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final

from msgspec import msgpack

from enginery.error_texts import general, id_ranges

if TYPE_CHECKING:
    from enginery.wire.messages import Output

#: Representations that need a connection between page and engine, which there is none of; others stand in for them.
_LIVE_ONLY: Final = "application/vnd.jupyter.widget-view+json"
_COLOUR: Final = re.compile(r"\x1b\[[0-9;]*m")
#: Cursor movements by which bars below one another are drawn.
_MOVES: Final = re.compile(r"\x1b\[\d*[ABCDJK]")
#: Characters from which on text is compared as it is.
_LARGE: Final = 20_000

Bundle = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Piece:
    """Something that one request said. ``kind`` is stdout, stderr, display, update, result or error."""

    kind: str
    text: str
    bundle: Bundle | None = None
    count: int | None = None

    def key(self) -> Hashable:
        """Equal for pieces that look alike, but for addresses of objects and numbers of cells."""
        data = None if self.bundle is None else _alike(repr(self.bundle["data"]))
        return self.kind, _alike(self.text), data

    @property
    def is_rich(self) -> bool:
        """Whether there is more to it than text."""
        return self.bundle is not None and self.bundle["data"].keys() != {"text/plain"}

    @property
    def display_id(self) -> str | None:
        """The name under which a display can be updated."""
        transient = (self.bundle or {}).get("transient") or {}
        found = transient.get("display_id")
        return None if found is None else str(found)


def _alike(text: str) -> str:
    # Looking for particulars in masses of text would cost more than showing it twice.
    return text if len(text) > _LARGE else general(_COLOUR.sub("", text))


def decoded(output: Output) -> dict[str, Any]:
    """The mapping of an output. What cannot be read is shown as what it is, never lost in silence."""
    if not output.data:
        return {}
    try:
        found = msgpack.decode(output.data)
    except ValueError as error:
        return {"data": {"text/plain": f"<unreadable {output.kind}: {error}>"}, "metadata": {}}
    return found if isinstance(found, dict) else {"data": {"text/plain": repr(found)}, "metadata": {}}


def piece_of(output: Output) -> Piece | None:
    """The piece for an output; None for what is not to be seen."""
    kind = output.kind
    if kind in {"stdout", "stderr"}:
        return Piece(kind, output.text)
    if kind in {"display", "update", "result"}:
        found = decoded(output)
        return bundle_piece(kind, found, found.get("execution_count"))
    if kind == "error":
        return Piece(kind, output.text or _traceback(decoded(output)))
    return None


def bundle_piece(kind: str, bundle: Mapping[str, Any], count: int | None = None) -> Piece:
    """The piece for a bundle of representations."""
    data = dict(bundle.get("data") or {})
    if _LIVE_ONLY in data:
        del data[_LIVE_ONLY]
        data.setdefault("text/plain", "<a widget; it can be used where its engine runs only>")
    whole = {"data": data, "metadata": dict(bundle.get("metadata") or {})}
    if bundle.get("transient"):
        whole["transient"] = bundle["transient"]
    return Piece(kind, plain_text(whole), whole, count)


def _traceback(found: Mapping[str, Any]) -> str:
    lines = found.get("traceback") or ""
    text = lines if isinstance(lines, str) else "\n".join(map(str, lines))
    return text or f"{found.get('ename', 'error')}: {found.get('evalue', plain_text(found))}"


def plain_text(bundle: Mapping[str, Any]) -> str:
    """The text of a bundle of representations."""
    data = bundle.get("data") or {}
    if "text/plain" in data:
        return str(data["text/plain"])
    return f"<{', '.join(data) or 'nothing'}>"


# --- what is left in the end ----------------------------------------------------------------------------------------


def shown_in_the_end(outputs: Iterable[Output]) -> list[Piece]:
    """The pieces of one request after what it cleared is gone and what it updated is as it was last.

    Text of one stream that follows itself is one piece.
    """
    pieces: list[Piece] = []
    places: dict[str, int] = {}
    for output in outputs:
        if output.kind == "clear":
            pieces, places = [], {}
            continue
        piece = piece_of(output)
        if piece is None:
            continue
        name = piece.display_id
        if piece.kind == "update":
            piece = replace(piece, kind="display")
            if name in places:
                pieces[places[name]] = piece
                continue
        if name is not None:
            places[name] = len(pieces)
        pieces.append(piece)
    return merged(pieces)


def merged(pieces: Iterable[Piece]) -> list[Piece]:
    """The pieces, with text of one stream that follows itself put together."""
    found: list[Piece] = []
    texts: list[str] = []
    for piece in pieces:
        if texts and piece.kind == found[-1].kind:
            texts.append(piece.text)
            continue
        if texts:
            found[-1] = Piece(found[-1].kind, "".join(texts))
        found.append(piece)
        texts = [piece.text] if piece.kind in {"stdout", "stderr"} else []
    if texts:
        found[-1] = Piece(found[-1].kind, "".join(texts))
    return found


def overwritten(text: str) -> str:
    """Text as a terminal would show it: of what was written over one line, the last."""
    if "\r" not in text and "\x1b" not in text:
        return text
    lines = _MOVES.sub("", text).replace("\r\n", "\n").split("\n")
    return "\n".join(_last_version(line) for line in lines)


def _last_version(line: str) -> str:
    if "\r" not in line:
        return line
    return next((part.rstrip() for part in reversed(line.split("\r")) if part), "")


# --- together, and labelled -----------------------------------------------------------------------------------------


def folded(said: Iterable[tuple[int, Sequence[Piece]]]) -> list[tuple[list[int], Sequence[Piece]]]:
    """Engines that said the same, together, in order of first appearance: ``(engines, pieces)``."""
    groups: dict[Hashable, tuple[list[int], list[Piece]]] = {}
    for engine, pieces in said:
        if not pieces:
            continue
        engines, known = groups.setdefault(tuple(piece.key() for piece in pieces), ([], list(pieces)))
        engines.append(engine)
        for place, piece in enumerate(pieces):
            if piece.count != known[place].count:
                known[place] = replace(known[place], count=None)
    return [(engines, known) for engines, known in groups.values()]


def label(piece: Piece, engines: Sequence[int]) -> str:
    """What stands before a piece: ``[stdout:3]``, or ``[stdout:0-3]`` where several engines said the same.

    Results have the number of their cell as well, ``Out[3:7]:``, if it is the same on all engines.
    """
    who = id_ranges(engines)
    if piece.kind == "result":
        return f"Out[{who}]:" if piece.count is None else f"Out[{who}:{piece.count}]:"
    if piece.kind == "error":
        return f"[{who}:execute]"
    return f"[{'output' if piece.kind in {'display', 'update'} else piece.kind}:{who}]"


def labelled(name: str, text: str) -> str:
    """``text`` under a label: on the same line if it is one line."""
    text = text.removesuffix("\n")
    return f"{name}\n{text}\n" if "\n" in text else f"{name} {text}\n"
