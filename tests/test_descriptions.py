"""Exceptions of user code in words."""

from __future__ import annotations

from enginery import errors
from enginery.descriptions import describe_exception
from enginery.errors import collect_exceptions


def failing():
    return 1 / 0


def described(function):
    try:
        function()
    except BaseException as error:
        return describe_exception(error)
    raise AssertionError


def test_an_exception_is_described():
    ename, evalue, text = described(failing)
    assert (ename, evalue) == ("ZeroDivisionError", "division by zero")
    assert "return 1 / 0" in text
    assert text.endswith("ZeroDivisionError: division by zero\n")


def test_frames_of_this_package_above_the_users_are_hidden():
    def machinery():
        collect_exceptions(Results())

    class Results:
        def __iter__(self):
            raise ValueError("from the user's code")

    namespace = {"collect_exceptions": collect_exceptions, "Results": Results}
    exec(compile("def run():\n    collect_exceptions(Results())", errors.__file__, "exec"), namespace)
    try:
        namespace["run"]()
    except ValueError as error:
        error = error.with_traceback(error.__traceback__.tb_next)  # the test's own frame
        text = describe_exception(error)[2]
    assert "in __iter__" in text
    assert errors.__file__ not in text
    assert errors.__file__ in described(machinery)[2], "frames below the user's code stay"


def test_causes_are_described_too():
    def chained():
        try:
            failing()
        except ZeroDivisionError as error:
            raise RuntimeError("second") from error

    text = described(chained)[2]
    assert "in failing" in text
    assert "direct cause" in text


def test_broken_exceptions_are_described_all_the_same():
    class Broken(Exception):
        def __str__(self):
            raise RuntimeError

    def broken():
        raise Broken

    ename, evalue, text = described(broken)
    assert ename == "Broken"
    assert "RuntimeError" in evalue
    assert "broken" in text


def test_endless_texts_are_shortened():
    def endless():
        raise ValueError("x" * 10_000_000)

    _, evalue, text = described(endless)
    assert len(evalue) < 200_000
    assert len(text) < 400_000
    assert "characters left out" in evalue
