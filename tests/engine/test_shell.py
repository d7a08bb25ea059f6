"""The shell of an engine, without an engine around it."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import textwrap

import pytest
from msgspec import msgpack

from enginery.engine.namespace import Namespace
from enginery.engine.output import Outputs, Stream

shell_room = pytest.importorskip("enginery.engine.shell")

CONFIG = {
    "InteractiveShell": {"xmode": "Plain", "autocall": "1"},
    "ZMQInteractiveShell": {"xmode": "Verbose", "colors": "nocolor"},
    "PlainTextFormatter": {"pprint": False},
}


class Engine:
    def __init__(self, shell, outputs, namespace, said):
        self.shell, self.outputs, self.namespace, self.said = shell, outputs, namespace, said

    def run(self, code, *, silent=False, store_history=None):
        del self.said[:]
        self.outputs.task = 1
        out, err = Stream("stdout", self.outputs, 1), Stream("stderr", self.outputs, 2)
        try:
            with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
                keep = not silent if store_history is None else store_history
                return self.shell.run(code, silent=silent, store_history=keep)
        finally:
            self.outputs.end()
            self.outputs.task = -1

    def bundles(self, kind):
        return [msgpack.decode(output.data) for output in self.said if output.kind == kind]

    @property
    def text(self):
        return "".join(output.text for output in self.said if output.kind == "stdout")


@pytest.fixture(scope="module")
def shell(tmp_path_factory):
    # Not by `instance()`: other tests of this process may have a shell of their own.
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(shell_room.EngineShell, "instance", shell_room.EngineShell)
        patch.setitem(sys.modules, "__main__", sys.modules["__main__"])
        for name in ("ps1", "ps2", "ps3"):
            patch.setattr(sys, name, "", raising=False)
        said = []
        outputs = Outputs(said.append, lambda _: None, logs={"stdout": sys.stdout, "stderr": sys.stderr})
        namespace = Namespace(3)
        made = shell_room.make_shell(namespace.module, outputs, CONFIG, tmp_path_factory.mktemp("profile"))
        for each in shell_room.EngineShell._walk_mro():
            patch.setattr(each, "_instance", made, raising=False)
        yield Engine(made, outputs, namespace, said)


def test_a_shell_without_a_profile_leaves_no_folder_behind(tmp_path):
    code = """
        import os, sys
        from enginery.engine.namespace import Namespace
        from enginery.engine.output import Outputs
        from enginery.engine.shell import make_shell

        outputs = Outputs(lambda _: None, lambda _: None, logs={"stdout": sys.stdout, "stderr": sys.stderr})
        shell = make_shell(Namespace(0).module, outputs, {}, None)
        assert shell.run_cell("a = 6 * 7").success
        os._exit(shell.user_ns["a"])
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)], check=False, env=os.environ | {"TMPDIR": str(tmp_path)}
    )
    assert done.returncode == 42
    assert list(tmp_path.iterdir()) == []


@pytest.fixture
def engine(shell, monkeypatch):
    monkeypatch.setattr(shell.shell, "execution_count", 1)
    return shell


# --- results ----------------------------------------------------------------------------------------------------------


def test_a_result_is_shown_counted_and_replied(engine):
    reply = engine.run("a = 20\na * 2 + engine_id")
    assert reply == {
        "status": "ok",
        "execution_count": 1,
        "data": {"text/plain": "43"},
        "metadata": {},
        "source": "a = 20\na * 2 + engine_id",
    }
    assert engine.bundles("result") == [{"data": {"text/plain": "43"}, "metadata": {}, "execution_count": 1}]
    assert engine.namespace.variables["a"] == 20
    assert engine.run("_")["execution_count"] == 2
    assert engine.run("Out[1] + 1")["data"] == {"text/plain": "44"}


def test_a_silent_cell_shows_nothing_and_does_not_count(engine):
    assert engine.run("5", silent=True)["data"] is None
    assert engine.bundles("result") == []
    assert engine.run("6")["execution_count"] == 1


def test_neither_does_one_that_ends_in_a_semicolon(engine):
    assert engine.run("5;")["data"] is None
    assert engine.run("5; # so", store_history=False)["data"] is None
    assert engine.run("';'", store_history=False)["data"] == {"text/plain": "';'"}


def test_the_result_of_an_earlier_cell_is_not_that_of_the_next(engine):
    engine.run("5")
    assert engine.run("x = 1")["data"] is None


# --- display ----------------------------------------------------------------------------------------------------------


def test_displays_stand_between_the_texts_around_them(engine):
    engine.run("print('before'); display(1); print('after')")
    assert [output.kind for output in engine.said] == ["stdout", "display", "stdout"]
    assert engine.bundles("display")[0]["data"] == {"text/plain": "1"}


def test_pictures_travel_as_jupyter_has_them(engine):
    engine.run("from IPython.display import Image\ndisplay(Image(data=b'\\x89PNG\\r\\n\\x1a\\n', format='png'))")
    assert engine.bundles("display")[0]["data"]["image/png"].strip() == "iVBORw0KGgo="


def test_displays_can_be_updated_and_cleared(engine):
    engine.run("h = display(1, display_id='me'); h.update(2)")
    assert engine.bundles("display")[0]["transient"] == {"display_id": "me"}
    assert engine.bundles("update")[0] == {
        "data": {"text/plain": "2"},
        "metadata": {},
        "transient": {"display_id": "me"},
    }
    engine.run("from IPython.display import clear_output\nclear_output(wait=True)")
    assert engine.bundles("clear") == [{"wait": True}]


def test_what_cannot_be_sent_is_sent_as_text(engine):
    engine.run("display({'application/json': {'a': object, 'b': 1}}, raw=True)")
    assert engine.bundles("display")[0]["data"] == {"application/json": {"a": "<class 'object'>", "b": 1}}


def test_help_is_displayed(engine):
    engine.run("len?")
    assert "Return the number of items" in str(engine.bundles("display"))


# --- what Python alone does not know ----------------------------------------------------------------------------------


def test_magics_commands_and_await(engine):
    assert engine.run("%env ENGINERY_TEST_RUN")["data"] is not None
    engine.run("!echo hello")
    assert engine.text.split() == ["hello"]
    engine.run("import asyncio\nawait asyncio.sleep(0)\nprint('awaited')")
    assert engine.text == "awaited\n"
    engine.run("%%capture held\nprint('held')")
    assert engine.text == ""


def test_variables_stand_in_commands(engine):
    engine.run("word = 'from python'\n!echo {word} $word")
    assert engine.text.split() == ["from", "python", "from", "python"]
    assert engine.namespace.variables["_exit_code"] == 0


def test_a_command_that_was_interrupted_interrupts_the_cell(engine):
    with pytest.raises(KeyboardInterrupt):
        engine.run("!kill -INT $$\nprint('not reached')")
    assert engine.text == ""


def test_commands_do_not_run_in_the_background(engine):
    with pytest.raises(OSError, match="in the background"):
        engine.run("!sleep 60 &")


# --- errors -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("code", "kind"),
    [("1 / 0", ZeroDivisionError), ("a b", SyntaxError), ("  x = 1\n y = 2", IndentationError), ("%nobody", Exception)],
)
def test_errors_are_raised_and_not_shown_as_well(engine, code, kind):
    with pytest.raises(kind):
        engine.run(code)
    assert engine.said == []
    assert engine.run("1")["status"] == "ok"


def test_errors_of_files_that_a_cell_runs_are_shown(engine, tmp_path):
    (tmp_path / "file.py").write_text("1 / 0\n")
    engine.run(f"%run {tmp_path / 'file.py'}")
    (error,) = engine.bundles("error")
    assert error["ename"] == "ZeroDivisionError"
    assert "file.py" in error["traceback"]


@pytest.mark.filterwarnings("ignore:To exit")
@pytest.mark.parametrize("code", ["exit()", "quit", "raise SystemExit(3)"])
def test_an_engine_is_not_stopped_from_inside(engine, code):
    with pytest.raises(SystemExit):
        engine.run(code)


# --- the shell itself -------------------------------------------------------------------------------------------------


def test_settings_are_those_of_the_command_line_and_of_older_names(engine):
    shell = engine.shell
    assert shell.autocall == 1
    assert shell.colors == "nocolor"
    assert shell.xmode == "Plain"
    assert not shell.display_formatter.formatters["text/plain"].pprint
    assert not shell.history_manager.enabled


def test_old_cells_leave_nothing_behind(engine, monkeypatch):
    import linecache

    monkeypatch.setattr(shell_room, "KEPT_CELLS", 5)
    before = len(linecache.cache)
    for number in range(20):
        engine.run(f"x = {number}", silent=True)
    assert len(linecache.cache) <= before + 6
    assert not engine.shell.history_manager.outputs


def test_front_ends_get_answers(engine):
    assert "engine_id" in engine.shell.complete_code("x = engine_i", 12)["matches"]
    assert engine.shell.complete_code("x = engine_i", 12)["cursor_start"] == 4
    assert engine.shell.inspect_code("len", 3, 0)["found"]
    assert not engine.shell.inspect_code("nobody_knows", 3, 0)["found"]
    assert engine.shell.check_code("for i in x:") == {"status": "incomplete", "indent": "    "}
