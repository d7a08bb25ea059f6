"""The user's variables on an engine."""

from __future__ import annotations

import inspect
import types

import pytest

from enginery.engine.namespace import Namespace


@pytest.fixture
def namespace():
    return Namespace(3)


def test_it_knows_its_engine(namespace):
    assert namespace.pull("engine_id") == 3


def test_names_are_set_and_evaluated(namespace):
    namespace.push({"a": 20})
    assert namespace.pull("a") == 20
    assert namespace.pull(["a", "a + 1"]) == [20, 21]


def test_dotted_names_set_attributes(namespace):
    namespace.push({"box": types.SimpleNamespace()})
    namespace.push({"box.inside": 1})
    assert namespace.pull("box.inside") == 1


def test_an_unknown_name_is_an_error(namespace):
    with pytest.raises(NameError):
        namespace.pull("nobody")


def test_source_text_is_run_and_found_by_tracebacks(namespace):
    source = "x = 2\ndef f():\n    return x * 3\n"
    namespace.execute(compile(source, "<engine cell 1>", "exec"), source)
    assert namespace.pull("f()") == 6
    assert inspect.getsource(namespace.variables["f"]) == "def f():\n    return x * 3\n"


def test_functions_find_builtins_though_nothing_was_executed_before(namespace):
    # C code that imports something while a Python function runs looks for __builtins__ in that function's globals.
    assert "__builtins__" in namespace.variables
    function = types.FunctionType((lambda: __import__("json").dumps([1])).__code__, namespace.variables)
    assert function() == "[1]"


def test_clear_forgets_what_the_user_set_and_nothing_else(namespace):
    namespace.push({"a": 1})
    namespace.execute(compile("def f(): return engine_id", "<cell>", "exec"), "")
    namespace.clear()
    assert set(namespace.variables) == set(Namespace(3).variables)
    assert namespace.pull("engine_id") == 3
