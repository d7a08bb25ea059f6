"""Conditions of functions, here and after a journey: @require, @depend, dependent, @interactive."""

from __future__ import annotations

import functools
import json
import math
import pickle
import sys
import threading
from types import FunctionType

import pytest

from enginery.errors import UnmetDependency
from enginery.wire.callables import pack_function, unpack_function
from enginery.wire.exceptions import MOST, pack_exception, unpack_exception
from enginery.wire.interactive import interactive
from enginery.wire.requirements import Requirement, depend, dependent, require


def over_there(function, namespace=None):
    return unpack_function(pack_function(function).body, {"__name__": "__main__"} if namespace is None else namespace)


def at_home(source, **names):
    """A function as if it had been typed in: its globals are a ``__main__`` of its own."""
    variables = {"__name__": "__main__", **names}
    exec(source, variables)
    return next(value for value in variables.values() if type(value) is FunctionType)


# --- conditions -----------------------------------------------------------------------------------------------------


def test_a_condition_decides():
    @depend(lambda least, most: least <= 3 <= most, 1, most=5)
    def work(x):
        """Work."""
        return -x

    assert work(2) == -2
    assert (work.__name__, work.__doc__) == ("work", "Work.")
    assert over_there(work)(2) == -2
    with pytest.raises(TypeError):
        work.dkwargs["most"] = 2
    with pytest.raises(UnmetDependency, match=r"\(4, most=5\) returned False"):
        over_there(dependent(work.f, work.df, 4, most=5))(2)


@pytest.mark.parametrize(
    ("returned", "met"), [(True, True), (None, True), (3, True), (False, False), (0, False), ([], False)]
)
def test_what_counts_as_met(returned, met):
    work = dependent(lambda: "done", lambda: returned)
    if met:
        assert work() == "done"
    else:
        with pytest.raises(UnmetDependency):
            work()


def test_other_errors_of_a_condition_are_errors():
    with pytest.raises(ZeroDivisionError):
        dependent(int, lambda: 1 / 0)()


def test_conditions_upon_conditions():
    inner = dependent(lambda: "done", lambda: True)
    assert over_there(dependent(inner, lambda: True))() == "done"
    with pytest.raises(UnmetDependency):
        over_there(dependent(dependent(int, lambda: False), lambda: True))()


def test_a_function_that_calls_itself_by_its_decorated_name():
    source = "def fact(n):\n    return 1 if n < 2 else n * fact(n - 1)\n"
    fact = at_home(source)
    fact.__globals__["fact"] = decorated = dependent(fact, bool, 1)
    assert over_there(decorated)(5) == 120


# --- requirements ---------------------------------------------------------------------------------------------------


def test_modules_are_imported_where_the_function_looks():
    work = require("json", "xml.dom")(at_home("def work(): return json.dumps(xml.dom.XMLNS_NAMESPACE[:4])"))
    assert over_there(work)() == '"http"'
    assert work() == '"http"'


def test_modules_and_objects_by_every_name():
    def helper(x):
        return x + 1

    class Thing:
        size = 3

    work = require(math, helper, Thing, factor=2)(
        at_home("def work(x): return math.floor(helper(x) * factor) + Thing.size")
    )
    namespace = {"__name__": "__main__", "factor": 99}
    assert over_there(work, namespace)(1) == 7
    assert namespace["factor"] == 2
    assert work(1) == 7


def test_missing_modules_are_unmet():
    work = require("no_such_module")(lambda: None)
    with pytest.raises(UnmetDependency, match="'no_such_module' cannot be imported there"):
        over_there(work)()
    assert repr(work.df) == "require('no_such_module')"


def test_things_without_a_name_need_one():
    with pytest.raises(TypeError, match="require\\(name=value\\)"):
        require(5)
    with pytest.raises(TypeError, match="not functools.partial"):
        require(functools.partial(int))


def test_functions_that_are_not_plain():
    work = require(k=4)(functools.partial(at_home("def work(a, b): return a + b + k"), 1))
    assert over_there(work)(2) == 7
    assert require("json")(int)("11") == 11


def test_a_requirement_as_a_condition_of_its_own(monkeypatch):
    monkeypatch.delattr(sys.modules["__main__"], "json", raising=False)
    Requirement(("json",), {})()
    assert sys.modules["__main__"].json is json
    monkeypatch.delattr(sys.modules["__main__"], "json")


# --- packing --------------------------------------------------------------------------------------------------------


def test_constant_ones_are_packed_once():
    def condition(number):
        return number

    for work in (dependent(lambda: 1, condition, 5), require("json", condition, k=3)(lambda: 2)):
        assert work.is_constant()
        assert pack_function(work) is pack_function(work)
    changeable = dependent(lambda: 1, condition, [5])
    assert not changeable.is_constant()
    first = pack_function(changeable)
    changeable.dargs[0].append(6)
    assert pack_function(changeable) != first
    assert not require(k=[1])(lambda: 1).is_constant()


def test_they_can_be_pickled_plainly():
    assert pickle.loads(pickle.dumps(dependent(math.sqrt, bool, 1)))(9) == 3


# --- interactive ----------------------------------------------------------------------------------------------------


def test_interactive_functions_live_in_main():
    def work(a, b=2, *, c=3):
        """Work."""
        return a + b + c

    work.mark = "kept"
    made = interactive(work)
    assert made.__globals__ is vars(sys.modules["__main__"])
    assert (made(1), made.__module__, made.__doc__, made.mark) == (6, "__main__", "Work.", "kept")
    namespace = {"__name__": "__main__"}
    assert over_there(made, namespace).__globals__ is namespace


def test_interactive_classes_go_by_value():
    @interactive
    class Thing:
        size = 3

    assert Thing.__module__ == "__main__"


# --- exceptions -----------------------------------------------------------------------------------------------------


class Odd(ValueError):
    pass


class Fussy(Exception):
    def __init__(self, one, two):
        super().__init__(f"{one} {two}")


def test_exceptions_travel_as_they_are():
    error = unpack_exception(pack_exception(Odd("so", 3)))
    assert type(error) is Odd
    assert error.args == ("so", 3)


def test_exceptions_that_cannot_travel():
    assert pack_exception(KeyboardInterrupt()) == b""
    assert pack_exception(ValueError("x" * MOST)) == b""
    assert pack_exception(ValueError(lambda: (yield))) != b""
    assert pack_exception(ValueError(threading.Lock())) == b""
    assert unpack_exception(pack_exception(Fussy(1, 2))) is None
    assert unpack_exception(b"no pickle") is None
    assert unpack_exception(pickle.dumps(3)) is None
