"""Faults say what happened, with which value, and what to do next."""

from __future__ import annotations

import pytest

from enginery import errors
from enginery.core import faults
from enginery.core.engines import EngineRecord
from enginery.core.tasks import Rare
from enginery.wire.messages import EngineInfo, Status


@pytest.fixture
def engine():
    return EngineRecord(EngineInfo(3, "uuid", 4711, "node7"), 0.0)


@pytest.fixture
def rare():
    record = Rare()
    record.note_attempt("engine 1 (killed by SIGSEGV)")
    return record


def test_a_lost_engine_is_named_in_full(engine):
    text = faults.engine_lost(engine, "killed by SIGKILL").evalue
    assert text.startswith("Engine 3 (pid 4711 on node7) left: killed by SIGKILL.")
    assert "retries=1" in text


def test_a_request_is_not_told_to_retry(engine):
    text = faults.engine_lost(engine, "it left", direct=True).evalue
    assert "retries" not in text


def test_a_poisonous_task_is_called_so(engine, rare):
    rare.deaths = 3
    text = faults.engine_lost(engine, "it left", rare, poison=True).evalue
    assert "3 engines" in text
    assert "Earlier attempts: engine 1 (killed by SIGSEGV)." in text


def test_an_unknown_engine_is_shown_the_known_ones():
    assert "[0, 2]" in faults.no_such_engine(5, [0, 2]).evalue
    assert "No engines are registered" in faults.no_such_engine(5, []).evalue


@pytest.mark.parametrize(
    "fault",
    [
        faults.no_such_engine(1, []),
        faults.no_target_left(None, [1]),
        faults.impossible(None, "why"),
        faults.invalid([1, 2, 3, 4]),
        faults.timed_out(None, 2.0),
        faults.body_lost(b"\x01\x02"),
        faults.aborted(1, "why").fault,
    ],
)
def test_each_kind_is_an_exception_the_client_can_raise(fault):
    kind = getattr(errors, fault.kind)
    assert issubclass(kind, errors.IPythonError)
    assert fault.evalue


def test_a_result_without_a_value():
    result = faults.result_of(7, Status.LOST, faults.impossible(None, "why"))
    assert (result.id, result.status, result.payload, result.frames) == (7, Status.LOST, b"", 0)
