"""Which cells need IPython, and what plain ones do without."""

from __future__ import annotations

import builtins
import subprocess
import sys
import textwrap

import pytest

from enginery.engine.cells import Cells, compile_plain
from enginery.engine.namespace import Namespace
from enginery.engine.output import Outputs


@pytest.mark.parametrize(
    "code",
    [
        "",
        "a = 1",
        "import os; os.getpid()",
        "def f():\n    return 1\n",
        "print",
        "known",
        "known + 1",
        "ls = 1",
        "# a comment",
        "None",
        "ls\nls",
    ],
)
def test_plain_python_is_plain(code):
    assert compile_plain(code, "<cell>", {"known": 1}).co_filename == "<cell>"


@pytest.mark.parametrize(
    "code",
    [
        "%pwd",
        "!ls",
        "pwd",
        "ls -l",
        " pwd ",
        "a?",
        "await x",
        "x = await y",
        "return 1",
        "%%bash\nls",
        "a b",
        "a = !ls",
        "\0",
    ],
)
def test_everything_else_is_not(code):
    assert compile_plain(code, "<cell>", {"known": 1}) is None


@pytest.fixture
def cells(monkeypatch):
    monkeypatch.setattr(Cells, "shell", lambda self: pytest.fail("IPython was asked for"))
    namespace = Namespace(3)
    cells = Cells(namespace, Outputs(lambda _: None, lambda _: None, logs={}), config={}, profile_dir=None)
    cells.namespace = namespace
    return cells


def test_a_silent_plain_cell_runs_without_ipython(cells):
    reply = cells.run("a = engine_id + 1; a", silent=True)
    assert reply == {
        "status": "ok",
        "execution_count": 1,
        "data": None,
        "metadata": {},
        "source": "a = engine_id + 1; a",
    }
    assert cells.namespace.variables["a"] == 4


def test_its_errors_are_raised(cells):
    with pytest.raises(ZeroDivisionError):
        cells.run("1 / 0")


def test_clearing_needs_no_ipython_either(cells):
    cells.run("a = 1")
    cells.clear()
    assert "a" not in cells.namespace.variables
    assert cells.namespace.variables["engine_id"] == 3


def run(program):
    """What a process of its own prints: what is tested changes builtins and the way modules are imported."""
    head = """
        import sys
        from enginery.engine.cells import Cells
        from enginery.engine.namespace import Namespace
        from enginery.engine.output import Outputs

        said, made = [], []
        namespace = Namespace(0)
        namespace.become_main()
        outputs = Outputs(said.append, lambda seconds: None, logs={"stdout": sys.stdout, "stderr": sys.stderr})
        cells = Cells(namespace, outputs, config={}, profile_dir=None)
        cells.prepare()
        outputs.task = 1
        """
    source = textwrap.dedent(head) + textwrap.dedent(program)
    done = subprocess.run([sys.executable, "-c", source], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_shell_comes_with_the_first_import_of_ipython():
    said = run("""
        assert "IPython" not in sys.modules
        cells.run("from IPython import get_ipython")
        print(cells.run("type(get_ipython()).__name__", silent=False)["data"])
    """)
    assert said == "{'text/plain': \"'EngineShell'\"}\n"


@pytest.mark.parametrize(
    "code", ["get_ipython().user_ns['a'] = 1", "display(1); a = 1", "import IPython.display; a = 1"]
)
def test_and_with_the_names_that_notebooks_have(code):
    assert run(f"""
        cells.run({code!r})
        print(namespace.variables["a"], type(cells.shell()).__name__, [output.kind for output in said])
    """).startswith("1 EngineShell")


def test_what_is_displayed_before_there_is_a_shell_is_displayed():
    said = run("""
        from msgspec import msgpack
        cells.run("display('text')")
        print(msgpack.decode(said[0].data)["data"])
    """)
    assert said == "{'text/plain': \"'text'\"}\n"


def test_this_process_was_left_alone():
    assert not hasattr(builtins, "get_ipython")
