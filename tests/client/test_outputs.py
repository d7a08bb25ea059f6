"""Output kept with results: bounded, and honest about it."""

from __future__ import annotations

import pytest
from msgspec import msgpack

from enginery.client.execute_reply import ExecuteReply
from enginery.client.outputs import LIMIT, Spoken, render
from enginery.wire.messages import Output


def test_old_output_is_dropped_and_the_text_says_so():
    spoken = Spoken()
    for number in range(20):
        spoken.add(0, 0, Output(1, "stdout", str(number) * (LIMIT // 10)))
    text = spoken.text("stdout", 0)
    assert len(text) < LIMIT * 2.1
    assert spoken.dropped
    assert text.startswith(f"[{spoken.dropped} bytes of earlier output were dropped")
    assert text.endswith("19")


def test_data_is_merged():
    spoken = Spoken()
    for data in ({"a": 1}, {"b": 2}, {"a": 3}):
        spoken.add(0, 0, Output(1, "data", data=msgpack.encode(data)))
    assert spoken.data == {0: {"a": 3, "b": 2}}
    assert spoken.entries() == []


@pytest.mark.parametrize(
    ("output", "shown"),
    [
        (Output(1, "stdout", "a\n"), ("stdout", "[stdout:3] a\n")),
        (Output(1, "stderr", "a\nb\n"), ("stderr", "[stderr:3]\na\nb\n")),
        (Output(1, "display", data=msgpack.encode({"data": {"text/plain": "x"}})), ("stdout", "[output:3] x\n")),
        (
            Output(1, "result", data=msgpack.encode({"data": {"text/plain": "x"}, "execution_count": 5})),
            ("stdout", "Out[3:5]: x\n"),
        ),
        (Output(1, "error", "Traceback"), ("stderr", "[error:3] Traceback\n")),
        (Output(1, "display", data=b"\xc1"), ("stdout", None)),
        (Output(1, "new kind"), ("stdout", "")),
    ],
)
def test_how_output_looks(output, shown):
    stream, text = render(output, 3)
    assert stream == shown[0]
    assert text == shown[1] if shown[1] is not None else "unreadable" in text


def test_execute_reply_shows_itself(capsys):
    content = {"execution_count": 2, "source": "x", "data": {"text/plain": "42", "text/html": "<b>42</b>"}}
    reply = ExecuteReply(1, content, dict)
    assert repr(reply) == "<ExecuteReply[2]: 42>"
    assert reply._repr_html_() == "<b>42</b>"
    assert reply._repr_png_() is None
    assert reply._repr_mimebundle_()[0]["text/plain"] == "42"
    reply.display()
    assert capsys.readouterr().out == "Out[1:2]: 42\n"
