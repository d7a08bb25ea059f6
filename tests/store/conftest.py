"""Records as stores keep them, and a naive reference of the query language."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from enginery.store.records import KEYS

START = datetime(2026, 3, 1, 12, tzinfo=UTC)


def make_record(number: int, **given):
    """A record of a task that was submitted ``number`` seconds after START, and ended a second later."""
    record = dict.fromkeys(KEYS)
    record.update(
        msg_id=f"session_{number}",
        header={"msg_type": "apply_request", "session": "session"},
        metadata={"retries": 0},
        content={"action": "apply"},
        buffers=[b"arguments", b"more"],
        result_buffers=[b"value"],
        submitted=START + timedelta(seconds=number),
        started=START + timedelta(seconds=number, microseconds=123),
        completed=START + timedelta(seconds=number + 1, microseconds=456789),
        client_uuid="session",
        engine_uuid="engine-0",
        engine_id=0,
        queue="task",
        status="ok",
        stdout="",
        stderr="",
        outputs=[["display", b"data"]],
    )
    record.update(given)
    return record


@pytest.fixture
def record():
    return make_record
