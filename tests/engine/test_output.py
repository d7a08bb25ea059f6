"""What tasks print, before it leaves the engine: chunks, order, streams, and what is dropped."""

from __future__ import annotations

import io

import pytest
from msgspec import msgpack

from enginery.engine.output import CHUNK, ENOUGH, MOST, Outputs, Stream


class Desk:
    """Outputs with everything around them in the test's hands."""

    def __init__(self):
        self.said = []
        self.soon = []
        self.waiting = 0
        self.logs = {"stdout": io.StringIO(), "stderr": io.StringIO()}
        self.outputs = Outputs(self.said.append, self.soon.append, logs=self.logs, backlog=lambda: self.waiting)
        self.out = Stream("stdout", self.outputs, 1)
        self.err = Stream("stderr", self.outputs, 2)

    def run(self, task=7):
        self.outputs.task = task
        return self

    @property
    def texts(self):
        return [(output.kind, output.text) for output in self.said]


@pytest.fixture
def desk():
    return Desk()


# --- chunks and order -------------------------------------------------------------------------------------------------


def test_text_of_one_stream_is_one_chunk(desk):
    print("a", 1, file=desk.run().out)
    print("b", file=desk.out)
    assert desk.said == []
    desk.outputs.end()
    assert desk.texts == [("stdout", "a 1\nb\n")]
    assert desk.said[0].task == 7


def test_it_is_sent_soon_while_the_task_runs_on(desk):
    print("a", file=desk.run().out)
    assert len(desk.soon) == 1
    assert 0 < desk.soon[0] < 1


def test_a_large_chunk_is_handed_on_at_once(desk):
    desk.run().out.write("x" * CHUNK)
    assert desk.texts == [("stdout", "x" * CHUNK)]
    assert 0.0 in desk.soon


def test_a_change_of_streams_ends_a_chunk(desk):
    desk.run().out.write("1")
    desk.err.write("2")
    desk.out.write("3")
    desk.outputs.end()
    assert desk.texts == [("stdout", "1"), ("stderr", "2"), ("stdout", "3")]


def test_what_was_written_past_python_is_looked_for_once_more_after_some_of_it_was_read(desk):
    """A thread reads one piece of it, the next comes, and then Python writes."""
    written: list[str] = []
    desk.outputs.unread = lambda _timeout, _events: written
    desk.outputs.read = lambda: desk.outputs.overheard("stdout", written.pop())
    print("python 1", file=desk.run().out)
    with desk.outputs.lock:
        desk.outputs.overheard("stdout", "c 1\n")
    written.append("c 2\n")
    print("python 2", file=desk.out)
    desk.outputs.end()
    assert desk.texts == [("stdout", "python 1\nc 1\nc 2\npython 2\n")]


def test_what_is_shown_stands_behind_the_text_before_it(desk):
    desk.run().out.write("before")
    desk.outputs.show("display", b"data")
    desk.out.write("after")
    desk.outputs.end()
    assert [output.kind for output in desk.said] == ["stdout", "display", "stdout"]
    assert desk.said[1].data == b"data"


def test_without_a_task_text_goes_to_the_log_and_what_is_shown_nowhere(desk):
    print("idle", file=desk.out)
    print("idle", file=desk.err)
    desk.outputs.show("display", b"data")
    assert desk.logs["stdout"].getvalue() == desk.logs["stderr"].getvalue() == "idle\n"
    assert desk.said == []


def test_a_log_that_is_closed_ends_nobody(desk):
    desk.logs["stdout"].close()
    print("idle", file=desk.out)
    desk.out.flush()


def test_what_c_code_wrote_comes_first(desk):
    unread = ["c\n"]
    desk.outputs.unread = lambda _timeout, _events: unread
    desk.outputs.read = lambda: desk.outputs.add("stdout", unread.pop()) if unread else None
    desk.run().out.write("python\n")
    desk.outputs.end()
    assert "".join(text for _, text in desk.texts) == "c\npython\n"


def test_short_tasks_leave_the_look_for_what_c_code_wrote_to_the_next_one(desk):
    looks = []
    desk.run().outputs.unread = lambda _timeout, _events: looks.append(desk.outputs.task)
    desk.outputs.end(1e-6, sure=False)
    assert looks == []
    desk.outputs.end(1e-6)
    desk.outputs.end(1e-3, sure=False)
    assert len(looks) == 2
    desk.outputs.is_wary = True
    desk.outputs.end(1e-6, sure=False)
    assert len(looks) == 3


def test_what_python_code_wrote_is_never_left(desk):
    print("a", file=desk.run().out)
    desk.outputs.end(1e-6, sure=False)
    assert desk.texts == [("stdout", "a\n")]


def test_c_code_is_flushed_after_tasks_that_could_have_run_some(desk):
    flushed = []
    desk.outputs.flush_c = lambda: flushed.append(1)
    desk.run().outputs.end(1e-6)
    assert not flushed
    desk.outputs.end(1e-3)
    assert flushed


def test_a_child_writes_to_the_descriptors(desk, capfd):
    desk.run().out.write("the parent's")
    desk.outputs.end_in_child()
    print("the child's", file=desk.out)
    desk.out.flush()
    desk.outputs.end()
    assert desk.said == []
    assert capfd.readouterr().out == "the child's\n"


def test_it_can_be_diverted_for_a_while(desk):
    elsewhere = []
    desk.run().out.write("task")
    back = desk.outputs.divert(99, elsewhere.append)
    desk.out.write("visit")
    back()
    desk.out.write(" goes on")
    desk.outputs.end()
    assert "".join(text for _, text in desk.texts) == "task goes on"
    assert [(output.task, output.text) for output in elsewhere] == [(99, "visit")]


# --- what is dropped --------------------------------------------------------------------------------------------------


def test_too_much_is_dropped_and_told(desk):
    desk.run().waiting = MOST + 1
    for _ in range(3):
        desk.out.write("x" * CHUNK)
    assert desk.said == []
    desk.waiting = ENOUGH + 1
    desk.out.write("x" * CHUNK)
    assert desk.said == []  # not yet: it would stop and go
    desk.waiting = ENOUGH
    desk.out.write("y" * CHUNK)
    assert desk.texts == [
        (
            "stdout",
            f"\n[{4 * CHUNK:,} characters of stdout were dropped here: they came faster than they could be sent]\n",
        ),
        ("stdout", "y" * CHUNK),
    ]


def test_what_was_dropped_is_told_at_the_end_at_the_latest(desk):
    desk.run().waiting = MOST + 1
    desk.err.write("x" * CHUNK)
    desk.outputs.show("display", b"")
    desk.outputs.end()
    assert len(desk.said) == 2
    assert "characters of stderr were dropped" in desk.said[0].text
    assert "1 outputs of the kind 'display' were dropped" in desk.said[1].text
    desk.outputs.end()
    assert len(desk.said) == 2


def test_results_and_errors_are_never_dropped(desk):
    desk.run().waiting = MOST + 1
    desk.outputs.show("result", msgpack.encode({}))
    desk.outputs.show("error", msgpack.encode({}))
    assert [output.kind for output in desk.said] == ["result", "error"]


# --- streams ----------------------------------------------------------------------------------------------------------


def test_streams_take_text_only(desk):
    with pytest.raises(TypeError, match="must be str, not bytes"):
        desk.out.write(b"bytes")


def test_bytes_go_to_the_buffer(desk):
    text = "ä€"
    for byte in text.encode():
        desk.run().out.buffer.write(bytes([byte]))
    desk.out.buffer.flush()
    desk.outputs.end()
    assert "".join(text for _, text in desk.texts) == text


def test_what_is_no_character_is_escaped(desk):
    desk.run().out.write("name \udc80 ü\n")
    desk.outputs.end()
    assert desk.texts == [("stdout", "name \\udc80 ü\n")]
    msgpack.encode(desk.said[0])


def test_a_stream_looks_like_one_of_python(desk):
    assert desk.out.writable()
    assert not desk.out.isatty()
    assert (desk.out.encoding, desk.out.errors, desk.out.name) == ("utf-8", "backslashreplace", "<stdout>")
    assert desk.err.fileno() == 2
    assert desk.out.buffer.fileno() == 1
