"""Output kept with results: bounded, and honest about it."""

from __future__ import annotations

import pytest
from msgspec import msgpack

from enginery.client.execute_reply import ExecuteReply
from enginery.client.outputs import LIMIT, Cursor, Spoken
from enginery.wire.messages import Output


def say(spoken, *texts, index=0, kind="stdout"):
    for text in texts:
        spoken.add(index, index, Output(1, kind, text))


def test_old_output_is_dropped_and_the_text_says_so():
    spoken = Spoken()
    say(spoken, *(str(number) * (LIMIT // 10) for number in range(20)))
    text = spoken.text("stdout", 0)
    assert len(text) < LIMIT * 2.1
    assert spoken.dropped
    assert text.startswith(f"[{spoken.dropped} bytes of earlier output were dropped")
    assert text.endswith("19")


def test_a_million_short_outputs_are_bounded_too():
    spoken = Spoken()
    output = Output(1, "stdout", "x")
    for _ in range(100_000):
        spoken.add(0, 0, output)
    assert len(spoken.entries()) < LIMIT // 200
    assert len(spoken.entries()) + spoken.dropped == 100_000


def test_data_is_merged():
    spoken = Spoken()
    for data in ({"a": 1}, {"b": 2}, {"a": 3}):
        spoken.add(0, 0, Output(1, "data", data=msgpack.encode(data)))
    assert spoken.data == {0: {"a": 3, "b": 2}}
    assert spoken.entries() == []
    assert spoken.has_any


def test_output_of_one_request_is_found():
    spoken = Spoken()
    say(spoken, "a", index=0)
    say(spoken, "b", index=1)
    assert spoken.text("stdout", 0) == "a"
    say(spoken, "c", index=0)
    assert spoken.text("stdout", 0) == "ac"
    assert spoken.text("stdout", 1) == "b"
    assert spoken.text("stderr", 1) == spoken.text("stdout", 2) == ""


def test_tracebacks():
    spoken = Spoken()
    say(spoken, "Traceback …", kind="error")
    spoken.add(1, 1, Output(1, "error", data=msgpack.encode({"ename": "E", "evalue": "v", "traceback": ["a", "b"]})))
    assert spoken.error(0) == "Traceback …"
    assert spoken.error(1) == "a\nb"
    assert spoken.error(2) == ""


def test_a_cursor_reads_everything_once():
    spoken = Spoken()
    say(spoken, "a", "b")
    cursor = Cursor(spoken)
    assert cursor.has_news()
    entries, lost = cursor.take()
    assert [output.text for _, _, output in entries] == ["a", "b"]
    assert not lost
    assert not cursor.has_news()
    assert cursor.take() == ([], 0)
    say(spoken, "c")
    assert [output.text for _, _, output in cursor.take()[0]] == ["c"]


def test_a_cursor_knows_what_was_dropped_before_it_could_read_it():
    spoken = Spoken()
    cursor = Cursor(spoken)
    chunk = LIMIT // 4
    say(spoken, "a" * chunk)
    cursor.take()
    say(spoken, *(letter * chunk for letter in "bcdefg"))
    entries, lost = cursor.take()
    assert [output.text[0] for _, _, output in entries] == ["e", "f", "g"]
    assert lost == 3 * chunk
    # What it had read before it was dropped is not lost.
    say(spoken, "h")
    assert cursor.take()[1] == 0


def test_listeners_hear_of_everything():
    spoken = Spoken()
    heard = []
    spoken.listeners.append(lambda: heard.append(1))
    say(spoken, "a", "b")
    spoken.add(0, 0, Output(1, "data", data=msgpack.encode({"a": 1})))
    assert len(heard) == 3


@pytest.fixture
def reply():
    data = {"text/plain": "42", "text/html": "<b>42</b>", "image/png": "iVBOR"}
    metadata = {"image/png": {"width": 3}}
    return ExecuteReply(1, {"execution_count": 2, "source": "x", "data": data, "metadata": metadata}, dict)


def test_an_execute_reply_without_a_value_shows_what_was_printed_first():
    said = {"stdout": "\nloaded 3 files\ndone\n"}
    assert repr(ExecuteReply(1, {"execution_count": 2}, lambda: said)) == "<ExecuteReply[2]: loaded 3 files>"
    assert repr(ExecuteReply(1, {"execution_count": 2}, lambda: {"stdout": ""})) == "<ExecuteReply[2]: no output>"


def test_execute_reply_shows_itself(reply, capsys):
    assert repr(reply) == "<ExecuteReply[2]: 42>"
    assert reply._repr_mimebundle_()[0]["text/plain"] == "Out[1:2]: 42"
    reply.display()
    assert capsys.readouterr().out == "Out[1:2]: 42\n"
    ExecuteReply(0, {}, dict).display()
    assert capsys.readouterr().out == ""


def test_execute_reply_has_representations(reply):
    assert reply._repr_html_() == reply._repr_mime_("text/html") == "<b>42</b>"
    assert reply._repr_png_() == ("iVBOR", {"width": 3})
    assert reply._repr_mime_("image/jpeg") is None
    others = ("markdown", "latex", "json", "javascript", "jpeg", "svg")
    assert [getattr(reply, f"_repr_{name}_")() for name in others] == [None] * 6
