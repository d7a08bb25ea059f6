"""What engines said: read, put together, labelled."""

from __future__ import annotations

import pytest
from msgspec import msgpack

from enginery.client.pieces import (
    Piece,
    bundle_piece,
    folded,
    label,
    labelled,
    merged,
    overwritten,
    piece_of,
    shown_in_the_end,
)
from enginery.wire.messages import Output


def display(text, kind="display", **more):
    return Output(1, kind, data=msgpack.encode({"data": {"text/plain": text}, "metadata": {}, **more}))


@pytest.mark.parametrize(
    ("output", "shown"),
    [
        (Output(1, "stdout", "a\n"), "[stdout:3] a\n"),
        (Output(1, "stderr", "a\nb\n"), "[stderr:3]\na\nb\n"),
        (display("x"), "[output:3] x\n"),
        (display("x", "result", execution_count=5), "Out[3:5]: x\n"),
        (Output(1, "error", "Traceback"), "[3:execute] Traceback\n"),
    ],
)
def test_how_output_looks(output, shown):
    piece = piece_of(output)
    assert labelled(label(piece, [3]), piece.text) == shown


def test_what_cannot_be_read_is_said():
    assert "unreadable display" in piece_of(Output(1, "display", data=b"\xc1")).text
    assert piece_of(Output(1, "display", data=msgpack.encode([1]))).text == "[1]"
    assert piece_of(Output(1, "new kind")) is None


def test_several_engines_that_say_the_same_are_shown_once():
    at = "<object at 0x7f0000000{}>"
    said = [(engine, [Piece("stdout", at.format(engine))]) for engine in (0, 1, 2, 5)]
    said.insert(2, (9, [Piece("stdout", "something else")]))
    groups = folded([*said, (7, [])])
    assert [engines for engines, _ in groups] == [[0, 1, 2, 5], [9]]
    assert label(groups[0][1][0], groups[0][0]) == "[stdout:0-2,5]"


def test_rich_things_are_compared_by_all_they_are():
    def plot(png):
        return bundle_piece("display", {"data": {"text/plain": "<Figure>", "image/png": png}})

    groups = folded([(0, [plot("a")]), (1, [plot("b")]), (2, [plot("a")])])
    assert [engines for engines, _ in groups] == [[0, 2], [1]]
    assert plot("a").is_rich
    assert not bundle_piece("display", {"data": {"text/plain": "x"}}).is_rich


def test_widgets_fall_back_to_text():
    view = {"application/vnd.jupyter.widget-view+json": {"model_id": "1"}}
    piece = bundle_piece("display", {"data": {**view, "text/plain": "IntSlider(value=0)"}})
    assert piece.bundle["data"] == {"text/plain": "IntSlider(value=0)"}
    assert "widget" in bundle_piece("display", {"data": view}).text


def test_text_that_follows_itself_is_one():
    pieces = [
        Piece("stdout", "a"),
        Piece("stdout", "b"),
        Piece("stderr", "c"),
        Piece("display", "d"),
        Piece("stdout", "e"),
    ]
    assert [(piece.kind, piece.text) for piece in merged(pieces)] == [
        ("stdout", "ab"), ("stderr", "c"), ("display", "d"), ("stdout", "e"),
    ]  # fmt: skip
    assert merged([]) == []


def test_what_is_cleared_and_updated():
    name = {"transient": {"display_id": "bar"}}
    said = [Output(1, "stdout", "gone"), Output(1, "clear"), display("1 of 2", **name), Output(1, "stdout", "x")]
    said += [display("2 of 2", "update", **name), display("other", "update", transient={"display_id": "new"})]
    assert [(piece.kind, piece.text) for piece in shown_in_the_end(said)] == [
        ("display", "2 of 2"), ("stdout", "x"), ("display", "other"),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain\n", "plain\n"),
        ("\r 10%\r 20%\r 30%", " 30%"),
        ("a\r\nb\r\n", "a\nb\n"),
        ("done\r", "done"),
        ("\r 50% \r      \r", ""),
        ("\r 1st\n\r 2nd\x1b[A\r 1st again", " 1st\n 1st again"),
    ],
)
def test_lines_that_were_written_over(text, shown):
    assert overwritten(text) == shown
