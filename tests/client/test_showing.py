"""Output of results shown: grouped, and of results made of others."""

from __future__ import annotations

import fake_link
import pytest

from enginery.client import showing
from enginery.client.result import AsyncResult


def speak(*pairs):
    for kind, text in pairs:
        fake_link.current.say(kind, text)


def engine_speaks():
    fake_link.current.say("stdout", f"I am {fake_link.current.engine}\n")
    fake_link.current.say("stderr", "the same\n")
    fake_link.current.say("stdout", "and so on\n")


def test_by_type(dview, capsys):
    dview.apply_async(engine_speaks).display_outputs()
    assert capsys.readouterr() == (
        "[stdout:0]\nI am 0\nand so on\n[stdout:1]\nI am 1\nand so on\n",
        "[stderr:0-1] the same\n",
    )


def test_by_engine_in_the_order_of_the_program(dview, capsys, monkeypatch):
    written = []
    monkeypatch.setattr("sys.stdout.write", written.append)
    monkeypatch.setattr("sys.stderr.write", written.append)
    dview.apply_async(engine_speaks).display_outputs("engine")
    assert [text.split("] ")[0] for text in written] == [
        "[stdout:0", "[stderr:0", "[stdout:0", "[stdout:1", "[stderr:1", "[stdout:1",
    ]  # fmt: skip


def test_parts_and_joined_results_show_their_share(dview, capsys):
    result = dview.apply_async(engine_speaks)
    result.get()
    part = result.split()[1]
    part.display_outputs()
    assert "I am 1" in capsys.readouterr().out
    other = dview.apply_async(speak, ("stdout", "other\n"))
    AsyncResult.join(part, other).display_outputs()
    out = capsys.readouterr().out
    assert "I am 1" in out
    assert "[stdout:0-1] other\n" in out
    assert "I am 0" not in out


def test_joined_results_stream(dview, link, capsys):
    link.held = True
    joined = AsyncResult.join(dview.apply_async(speak, ("stdout", "a\n")), dview.apply_async(speak, ("stdout", "b\n")))
    with joined.stream_output():
        link.run()
        joined.get()
    out = capsys.readouterr().out
    assert "a\n" in out
    assert "b\n" in out


def test_bars_of_the_past_are_shown_as_they_ended(dview, capsys):
    dview.apply_async(speak, ("stderr", "\r 0%"), ("stderr", "\r 50%"), ("stderr", "\r 100%\n")).display_outputs()
    assert capsys.readouterr().err == "[stderr:0-1]  100%\n"


def test_only_results(client, capsys):
    result = client[0].apply_async(speak, ("stdout", "a\n"))
    result.display_outputs(result_only=True)
    assert capsys.readouterr() == ("", "")


def test_replies_tell_what_output_did_not(client, capsys):
    result = client[0].execute("print(1)", silent=False)
    result.get()
    result.get().data = {"text/plain": "42"}
    result.display_outputs()
    assert capsys.readouterr().out.endswith("Out[0:7]: 42\n")
    shown = showing.live(result)
    showing.show_rest(result, shown)
    assert capsys.readouterr().out == "Out[0:7]: 42\n"


def test_whether_all_errors_were_shown(dview):
    said = dview.apply_async(_fail_loudly)
    silent = dview.apply_async(int, "x")
    said.wait()
    silent.wait()
    assert showing.show_all(said, "type", result_only=False)
    assert not showing.show_all(silent, "type", result_only=False)
    shown = showing.live(said)
    shown.finish()
    assert showing.errors_shown(said, shown)
    assert not showing.errors_shown(silent, showing.live(silent))


def _fail_loudly():
    fake_link.current.say("error", "Traceback …")
    raise ValueError


def test_no_such_grouping(dview):
    with pytest.raises(ValueError, match="'type', 'engine', 'order'"):
        dview.apply_async(abs, 1).display_outputs("colour")
