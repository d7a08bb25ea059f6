"""The exception tree: what each tells, how it is shown, and how it comes out of words."""

from __future__ import annotations

import inspect
import pickle
import traceback

import pytest

from enginery import errors
from enginery.errors import (
    AlreadyDisplayedError,
    CompositeError,
    EngineError,
    RemoteError,
    collect_exceptions,
    exception_from_fault,
    unwrap_exception,
    wrap_exception,
)

CLASSES = [cls for _, cls in inspect.getmembers(errors, inspect.isclass) if issubclass(cls, errors.IPythonError)]


def remote(engine=0, ename="ZeroDivisionError", evalue="division by zero", method="apply"):
    text = f"Traceback (most recent call last):\n  File 'x', line 1, in f\n    1 / 0\n{ename}: {evalue}\n"
    return RemoteError(ename, evalue, text, {"engine_id": engine, "engine_uuid": f"u{engine}", "method": method})


def element(error):
    return error.ename, error.evalue, error.traceback, error.engine_info


def test_the_tree_has_the_names_of_the_interface():
    assert issubclass(errors.KernelError, errors.IPythonError)
    for name in ("EngineError", "NoEnginesRegistered", "TaskAborted", "TaskTimeout", "TaskRejectError"):
        assert issubclass(getattr(errors, name), errors.KernelError)
    assert issubclass(errors.ImpossibleDependency, errors.UnmetDependency)
    assert issubclass(errors.DependencyTimeout, errors.ImpossibleDependency)
    assert issubclass(errors.InvalidDependency, errors.ImpossibleDependency)
    assert issubclass(CompositeError, RemoteError)
    assert issubclass(AlreadyDisplayedError, RemoteError)
    assert issubclass(errors.ConnectionLost, ConnectionError)
    assert issubclass(errors.ConnectionFileError, ValueError)
    assert issubclass(errors.SerializationError, TypeError)
    assert errors.TimeoutError is TimeoutError


@pytest.mark.parametrize("cls", CLASSES, ids=lambda cls: cls.__name__)
def test_every_exception_survives_pickling(cls):
    made = {
        RemoteError: lambda: remote(3),
        CompositeError: lambda: CompositeError("several", [element(remote(i)) for i in range(3)]),
        AlreadyDisplayedError: lambda: AlreadyDisplayedError(remote()),
        EngineError: lambda: EngineError("gone", engine_id=3, pid=7, host="node", code=-9),
    }.get(cls, lambda: cls("what happened"))()
    again = pickle.loads(pickle.dumps(made))
    assert type(again) is cls
    assert str(again) == str(made)
    assert repr(again) == repr(made)
    assert set(vars(again)) == set(vars(made))


def test_attributes_survive_pickling():
    again = pickle.loads(pickle.dumps(EngineError("gone", engine_id=3, pid=7, host="node", code=-9)))
    assert (again.engine_id, again.pid, again.host, again.code) == (3, 7, "node", -9)
    again = pickle.loads(pickle.dumps(remote(5)))
    assert (again.ename, again.engine_info["engine_id"]) == ("ZeroDivisionError", 5)
    again = pickle.loads(pickle.dumps(errors.ConnectionFileError("bad", path="/x", key="url")))
    assert (again.path, again.key) == ("/x", "url")
    again = pickle.loads(pickle.dumps(errors.LauncherError("bad", command=["a"], code=2, output="o")))
    assert (again.command, again.code, again.output) == (["a"], 2, "o")


def test_a_remote_error_names_engine_class_and_text():
    error = remote(3)
    assert str(error) == "[3:apply]: ZeroDivisionError: division by zero"
    assert "3" in repr(error)


def test_a_plain_traceback_shows_the_remote_frames_too():
    try:
        raise remote(3)
    except RemoteError as error:
        shown = "".join(traceback.format_exception(error))
    assert "[3:apply]" in shown
    assert "in f\n" in shown


def test_ipython_shows_the_remote_frames_only():
    lines = remote(3)._render_traceback_()
    assert lines[0].startswith("[3:apply]")
    assert lines[-1] == "ZeroDivisionError: division by zero"
    assert not any("\n" in line for line in lines)


def test_a_remote_error_without_traceback_still_shows_something():
    assert RemoteError("ValueError", "no").render_traceback() == ["ValueError: no"]


def test_print_traceback_writes_it(capsys):
    remote(3).print_traceback()
    assert "[3:apply]" in capsys.readouterr().out


def test_the_host_is_named_where_it_is_known():
    error = RemoteError("ValueError", "no", "Traceback\nValueError: no", {"engine_id": 1, "host": "node7"})
    assert "node7" in error.render_traceback()[0]


# --- several engines -----------------------------------------------------------------------------------------------


def test_only_so_many_different_tracebacks_are_shown():
    error = CompositeError("many", [element(remote(i, evalue=f"number {i}")) for i in range(10)])
    assert str(error).count("ZeroDivisionError: number") == 4
    assert "6 more exceptions" in str(error)
    assert sum("Traceback" in line for line in error.render_traceback()) == 4
    error.tb_limit = 2
    assert sum("Traceback" in line for line in error.render_traceback()) == 2


def test_one_of_them_can_be_raised():
    error = CompositeError("many", [element(remote(i, evalue=f"number {i}")) for i in range(3)])
    with pytest.raises(RemoteError, match="number 1") as caught:
        error.raise_exception(1)
    assert caught.value.engine_info["engine_id"] == 1
    with pytest.raises(IndexError, match="no exception number 7"):
        error.raise_exception(7)


def test_one_of_them_can_be_shown(capsys):
    error = CompositeError("many", [element(remote(i, evalue=f"number {i}")) for i in range(3)])
    error.print_traceback(2)
    assert "number 2" in capsys.readouterr().out
    assert error.render_traceback(0)[0].startswith("[0:apply]")


def test_elements_are_tuples_of_four():
    error = CompositeError("", [element(remote(4))])
    ename, evalue, text, info = error.elist[0]
    assert (ename, evalue, info["engine_id"]) == ("ZeroDivisionError", "division by zero", 4)
    assert text.startswith("Traceback")


def test_collecting_passes_good_results_through():
    results = {0: 1, 1: 2}
    assert collect_exceptions(results) is results
    assert collect_exceptions([1, 2]) == [1, 2]
    assert collect_exceptions([ValueError("a value, not a failure")])


def test_collecting_raises_one_error_for_all():
    inner = CompositeError("", [element(remote(1)), element(remote(2))])
    with pytest.raises(CompositeError, match="raised in: execute") as caught:
        collect_exceptions({0: remote(0), 1: inner, 3: EngineError("died", engine_id=3), 4: 17}, "execute")
    assert [info["engine_id"] for *_, info in caught.value.elist] == [0, 1, 2, 3]


def test_errors_that_were_shown_show_their_number_only():
    several = CompositeError("", [element(remote(i)) for i in range(3)])
    assert AlreadyDisplayedError(several)._render_traceback_() == ["3 errors"]
    assert str(AlreadyDisplayedError(remote())) == "1 error"
    assert AlreadyDisplayedError(several).original_error is several


# --- words ---------------------------------------------------------------------------------------------------------


def failing():
    return 1 / 0


def test_wrapping_and_unwrapping():
    info = {"engine_id": 2, "method": "apply"}
    try:
        failing()
    except ZeroDivisionError:
        content = wrap_exception(info)
    error = unwrap_exception(content)
    assert isinstance(error, RemoteError)
    assert str(error) == "[2:apply]: ZeroDivisionError: division by zero"
    assert "in failing" in error.traceback
    with pytest.raises(RuntimeError, match="inside except"):
        wrap_exception()


def test_faults_of_user_code_are_remote_errors_whatever_their_name():
    error = exception_from_fault("remote", "TaskAborted", "no", "", {"engine_id": 1})
    assert type(error) is RemoteError
    assert error.ename == "TaskAborted"


@pytest.mark.parametrize(
    "kind",
    [
        "TaskAborted",
        "TaskTimeout",
        "ImpossibleDependency",
        "DependencyTimeout",
        "NoEnginesRegistered",
        "UnmetDependency",
    ],
)
def test_faults_named_by_kind_are_that_class(kind):
    error = exception_from_fault(kind, kind, "in words")
    assert type(error) is getattr(errors, kind)
    assert str(error) == "in words"


def test_a_lost_engine_brings_what_is_known_of_it():
    error = exception_from_fault("EngineError", "EngineError", "died", "", {"engine_id": 3, "pid": 7, "host": "n"})
    assert (error.engine_id, error.pid, error.host, error.code) == (3, 7, "n", None)


def test_a_kind_of_the_future_is_a_remote_error():
    assert type(exception_from_fault("Surprise", "X", "y")) is RemoteError
