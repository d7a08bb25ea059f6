"""What a session of IPython is given to show."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from IPython.core.displaypub import CapturingDisplayPublisher

from enginery.client.pieces import Piece, bundle_piece
from enginery.notebook import render
from enginery.notebook.render import Notebook, painted


class Publisher:
    def __init__(self):
        self.published = []
        self.cleared = []

    def publish(self, data, metadata, *, transient, update):
        self.published.append((data, transient.get("display_id"), update))

    def clear_output(self, *, wait):
        self.cleared.append(wait)


@pytest.fixture
def shell():
    return SimpleNamespace(display_pub=Publisher(), kernel=object(), colors="neutral")


@pytest.fixture
def notebook(shell):
    return Notebook(shell)


def plot(kind="display", **more):
    return bundle_piece(kind, {"data": {"text/plain": "<Figure>", "image/png": "iVBOR"}, **more}, 3)


def test_rich_things_are_displayed_below_their_label(notebook, shell, capsys):
    notebook.show(plot(), [0, 1])
    notebook.show(plot("result"), [2])
    assert capsys.readouterr().out == "[output:0-1]\nOut[2:3]:\n"
    assert [data for data, _, _ in shell.display_pub.published] == [plot().bundle["data"]] * 2


def test_plain_things_are_text(notebook, shell, capsys):
    notebook.show(bundle_piece("result", {"data": {"text/plain": "42"}}, 3), [2])
    notebook.show(Piece("stderr", "oops\n"), [1])
    assert capsys.readouterr() == ("Out[2:3]: 42\n", "[stderr:1] oops\n")
    assert shell.display_pub.published == []


def test_a_terminal_shows_the_text_of_everything(capsys):
    terminal = Notebook(SimpleNamespace(display_pub=Publisher(), colors="nocolor"))
    terminal.show(plot(), [0])
    assert capsys.readouterr().out == "[output:0] <Figure>\n"


def test_programs_that_capture_displays_get_them():
    shell = SimpleNamespace(display_pub=CapturingDisplayPublisher(), colors="nocolor")
    terminal = Notebook(shell)
    terminal.show(plot(), [0])
    assert shell.display_pub.outputs[0]["data"]["image/png"] == "iVBOR"
    terminal.tail(["half a line"])
    assert len(shell.display_pub.outputs) == 1


def test_displays_are_updated_under_names_of_our_own(notebook, shell):
    name = {"transient": {"display_id": "theirs"}}
    notebook.show(plot(**name), [0])
    notebook.show(plot("update", **name), [0])
    notebook.show(plot("update", transient={"display_id": "unknown"}), [0])
    (_, first, new), (_, second, updated), (_, third, unknown) = shell.display_pub.published
    assert first == second != "theirs"
    assert third != first
    assert (new, updated, unknown) == (False, True, False)


def test_lines_that_change_are_one_display(notebook, shell):
    notebook.tail([])
    assert shell.display_pub.published == []
    notebook.tail(["a", "b"])
    notebook.tail(["c"])
    notebook.tail([])
    assert [(data, update) for data, _, update in shell.display_pub.published] == [
        ({"text/plain": "a\nb"}, False), ({"text/plain": "c"}, True), ({"text/html": ""}, True),
    ]  # fmt: skip
    assert len({name for _, name, _ in shell.display_pub.published}) == 1


def test_clearing_is_handed_on(notebook, shell):
    notebook.clear(wait=True)
    assert shell.display_pub.cleared == [True]


TRACEBACK = (
    'Traceback (most recent call last):\n  File "a.py", line 1, in f\n    1 / 0\nZeroDivisionError: division by zero\n'
)


def test_tracebacks_are_coloured_where_there_are_colours(monkeypatch, shell):
    monkeypatch.setattr(render, "get_ipython", lambda: shell)
    assert "\x1b[" in painted(TRACEBACK)
    assert painted("4 errors") == "4 errors"
    assert painted("\x1b[31m" + TRACEBACK) == "\x1b[31m" + TRACEBACK
    shell.colors = "NoColor"
    assert painted(TRACEBACK) == TRACEBACK
    monkeypatch.setattr(render, "get_ipython", lambda: None)
    assert painted(TRACEBACK) == TRACEBACK


def test_errors_are_coloured_below_their_label(monkeypatch, notebook, shell, capsys):
    monkeypatch.setattr(render, "get_ipython", lambda: shell)
    notebook.show(Piece("error", TRACEBACK), [0, 1, 2])
    assert capsys.readouterr().err.startswith("[0-2:execute]\nTraceback")
