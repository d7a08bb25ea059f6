"""Output of a result's requests shown to people: as it comes, or all of it, grouped."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Final

from enginery.client.execute_reply import ExecuteReply
from enginery.client.live import Live, streamed
from enginery.client.outputs import Spoken
from enginery.client.pieces import Piece, bundle_piece, folded, merged, overwritten, shown_in_the_end
from enginery.client.screen import screen

if TYPE_CHECKING:
    from enginery.client.described import Described
    from enginery.client.screen import Screen

_STREAMS: Final = ("stdout", "stderr")
_GROUPS: Final = ("type", "engine", "order")


def live(result: Described) -> Live:
    """What shows the output of a result as it comes."""
    sources, _ = _kept(result)
    return Live(sources, screen(), len(sources) if len(sources) > 1 else result._size())


def stream(result: Described) -> AbstractContextManager[None]:
    """While the block runs, show the output of a result as it comes."""
    sources, _ = _kept(result)
    return streamed(live(result), [spoken for spoken, _ in sources])


def show_rest(result: Described, shown: Live) -> None:
    """Show what expressions gave, of requests whose reply says so and whose output did not."""
    _, places = _kept(result)
    rest = []
    for index, place in enumerate(places):
        if place not in shown.results and (piece := _reply_piece(result, index)) is not None:
            rest.append((result.reply_engine(index), [piece]))
    _show(rest, screen())


def errors_shown(result: Described, shown: Live) -> bool:
    """Whether every request that failed has shown its error."""
    _, places = _kept(result)
    return all(places[index] in shown.errors for index in range(result._size()) if result.reply_status(index))


def show_all(result: Described, groupby: str, *, result_only: bool) -> bool:
    """Show all output of a result that is done, grouped. Returns whether every request that failed has shown its error.

    Raises ValueError for a grouping that there is none of.
    """
    if groupby not in _GROUPS:
        raise ValueError(f"groupby must be {', '.join(map(repr, _GROUPS))}, not {groupby!r}.")
    said = [(result.reply_engine(index), _pieces(result, index)) for index in range(result._size())]
    failed = [index for index in range(result._size()) if result.reply_status(index)]
    all_told = all(any(piece.kind == "error" for piece in said[index][1]) for index in failed)
    if result_only:
        said = [(engine, [piece for piece in pieces if piece.kind == "result"]) for engine, pieces in said]
    place = screen()
    if groupby == "engine":
        _show(said, place)
    else:
        for part in _by_type(said, collate=groupby == "order"):
            _show(part, place)
    return all_told and not result_only


def _by_type(said: Sequence[tuple[int, list[Piece]]], *, collate: bool) -> Iterable[list[tuple[int, list[Piece]]]]:
    """The pieces kind by kind; with ``collate`` the first displays of all engines, then the second ones …"""
    for kind in _STREAMS:
        yield [(engine, merged(piece for piece in pieces if piece.kind == kind)) for engine, pieces in said]
    displays = [(engine, [piece for piece in pieces if piece.kind == "display"]) for engine, pieces in said]
    if collate:
        for number in range(max((len(pieces) for _, pieces in displays), default=0)):
            yield [(engine, pieces[number : number + 1]) for engine, pieces in displays]
    else:
        yield displays
    for kind in ("result", "error"):
        yield [(engine, [piece for piece in pieces if piece.kind == kind]) for engine, pieces in said]


def _show(said: Iterable[tuple[int, Sequence[Piece]]], place: Screen) -> None:
    for engines, pieces in folded(said):
        for piece in pieces:
            place.show(piece, engines)


def _pieces(result: Described, index: int) -> list[Piece]:
    """All that is to be seen of one request."""
    spoken, inner = result._place(index)
    pieces = [
        Piece(piece.kind, overwritten(piece.text)) if piece.kind in _STREAMS else piece
        for piece in shown_in_the_end(output for _, _, output in spoken.entries_of(inner))
    ]
    if spoken.dropped and pieces:
        pieces.insert(0, Piece("stderr", f"[{spoken.dropped} bytes of earlier output were dropped]\n"))
    if all(piece.kind != "result" for piece in pieces) and (piece := _reply_piece(result, index)) is not None:
        pieces.append(piece)
    return pieces


def _reply_piece(result: Described, index: int) -> Piece | None:
    """What the expression of a cell gave, from its reply."""
    if not result.reply_arrived(index) or result.reply_status(index):
        return None
    reply = result.reply_outcome(index)
    if not isinstance(reply, ExecuteReply) or not reply.data:
        return None
    return bundle_piece("result", {"data": reply.data, "metadata": reply.metadata}, reply.execution_count or None)


def _kept(result: Described) -> tuple[list[tuple[Spoken, frozenset[int] | None]], list[tuple[int, int]]]:
    """Where the output of a result is kept, and the place of each request in it: (number of the source, index there)."""
    count = result._size()
    if not result._is_joined():
        return [(result._spoken_now(), None)], [(0, index) for index in range(count)]
    found: dict[int, tuple[int, Spoken, set[int]]] = {}
    places: list[tuple[int, int]] = []
    for index in range(count):
        spoken, inner = result._place(index)
        number, _, wanted = found.setdefault(id(spoken), (len(found), spoken, set()))
        wanted.add(inner)
        places.append((number, inner))
    return [(spoken, frozenset(wanted)) for _, spoken, wanted in found.values()], places
