"""The record of one task: its keys, and how it is made from the messages that travelled. No I/O.

A record is a plain mapping. Times are datetimes (UTC), ``buffers`` and ``result_buffers`` lists of bytes of which the
first is the packed payload, everything else strings, numbers, and lists and mappings of them; None stands for what
there is not, or not yet.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

import msgspec

from enginery.wire.messages import CLIENT_SHIFT, Action, Status

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from enginery.wire.messages import EngineInfo, Fault, Options, Output, Result, Task

#: A record: its keys are ``KEYS``, and those of a part of a record some of them.
Record = dict[str, Any]

#: Keys whose values are datetimes.
TIMES: Final = ("submitted", "started", "completed", "received")
#: Keys whose values are lists of bytes, which come only where they are asked for.
BUFFERS: Final = ("buffers", "result_buffers")
#: Keys whose values are mappings or lists.
NESTED: Final = (
    "header", "metadata", "content", "result_header", "result_metadata", "result_content", "outputs", "execute_result",
)  # fmt: skip
#: Every key of a record.
KEYS: Final = (
    "msg_id",  #: ``<session>_<number>``
    "header",  #: ``msg_id msg_type session username date``
    "metadata",  #: what the request asked for: ``targets after follow timeout retries priority time_limit``
    "content",  #: ``action``, and ``function``: the digest of the function, in hexadecimal
    "buffers",  #: the packed arguments
    "submitted",  #: when it came to the controller
    "client_uuid",  #: the session of the client
    "engine_uuid",
    "engine_id",
    "started",  #: when the engine began and ended it, by the engine's clock
    "completed",
    "received",  #: when its result came to the controller
    "resubmitted",  #: message id of its repetition
    "result_header",  #: ``msg_type date engine_id engine_uuid``
    "result_metadata",  #: ``status started engine_uuid``
    "result_content",  #: ``status``, and of failures ``ename evalue traceback kind``
    "result_buffers",  #: the packed result
    "queue",  #: ``task`` for balanced requests, ``mux`` for those addressed to engines
    "status",  #: ``ok``, ``error``, ``aborted``, ``lost`` or ``unrunnable``
    "error",  #: the error in a line
    "execute_input",
    "execute_result",  #: what the last expression showed
    "stdout",
    "stderr",
    "outputs",  #: displays and the like: ``[kind, packed data]``
    "label",
)
_ACTIONS: Final = {action.value: action.name.lower() for action in Action}
_STATUSES: Final = {status.value: status.name.lower() for status in Status}
#: What a record has in the beginning. Whether a task was repeated is known to the store alone.
_EMPTY: Final = {**{key: None for key in KEYS if key != "resubmitted"}, "stdout": "", "stderr": ""}
_LOCAL: Final = (1 << CLIENT_SHIFT) - 1


class Origin(msgspec.Struct, frozen=True):
    """The client that submitted a task."""

    number: int
    session: str
    user: str

    def name(self, task: int) -> str:
        """The message id of one of its tasks."""
        return f"{self.session}_{task & _LOCAL}"


class Entry(msgspec.Struct):
    """All that is known of one task, as it travelled. Times are seconds since the epoch, 0 for not yet."""

    origin: Origin
    task: Any
    direct: bool = False
    engine: Any = None
    result: Any = None
    submitted: float = 0.0
    received: float = 0.0
    buffers: Any = ()  #: of the task: its payload, then its frames
    result_buffers: Any = ()
    said: Any = ()

    @property
    def msg_id(self) -> str:
        """Its message id."""
        return self.origin.name(self.task.id)


def record_of(entry: Entry) -> Record:
    """The record of a task. Of one that has not ended, what is known so far."""
    task: Task = entry.task
    options: Options | None = task.options
    msg_id, submitted = entry.msg_id, moment(entry.submitted)
    kind = "execute_request" if task.action == Action.EXECUTE else "apply_request"
    content: Record = {"action": _ACTIONS[task.action]}
    if task.function:
        content["function"] = task.function.hex()
    record: Record = {
        **_EMPTY,
        "msg_id": msg_id,
        "header": {
            "msg_id": msg_id,
            "msg_type": kind,
            "session": entry.origin.session,
            "username": entry.origin.user,
            "date": submitted.isoformat() if submitted else None,
        },
        "metadata": _options(entry, options),
        "content": content,
        "buffers": list(entry.buffers),
        "submitted": submitted,
        "client_uuid": entry.origin.session,
        "queue": "mux" if entry.direct else "task",
        "label": (options.label or None) if options is not None else None,
        "outputs": [],
    }
    if entry.engine is not None:
        record.update(engine_uuid=entry.engine.uuid, engine_id=entry.engine.id)
    if entry.result is not None:
        record.update(_ending(entry, entry.result, entry.engine, kind))
        record.update(_said(entry.said))
    return record


def _options(entry: Entry, options: Options | None) -> Record:
    if options is None:
        return {"retries": 0}
    found: Record = {"retries": options.retries, "priority": options.priority}
    for key, wanted in (("after", options.after), ("follow", options.follow)):
        if wanted is not None:
            found[key] = [entry.origin.name(each) for each in wanted.ids]
    for key in ("targets", "timeout", "time_limit"):
        value = getattr(options, key)
        if value is not None:
            found[key] = value
    return found


def _ending(entry: Entry, result: Result, engine: EngineInfo | None, kind: str) -> Record:
    status = _STATUSES[result.status]
    fault: Fault | None = result.fault
    started = moment(result.started)
    # A task that never ran ended when the controller said so.
    completed = moment(result.finished or entry.received)
    content: Record = {"status": status}
    if fault is not None:
        content.update(ename=fault.ename, evalue=fault.evalue, traceback=fault.traceback, kind=fault.kind)
    where: Record = {"engine_id": engine.id, "engine_uuid": engine.uuid} if engine is not None else {}
    return {
        "started": started,
        "completed": completed,
        "received": moment(entry.received),
        "status": status,
        "error": f"{fault.ename}: {fault.evalue}" if fault is not None else None,
        "result_header": {
            "msg_type": kind.replace("request", "reply"),
            "date": completed.isoformat() if completed else None,
            **where,
        },
        "result_metadata": {"status": status, "started": started.isoformat() if started else None, **where},
        "result_content": content,
        "result_buffers": list(entry.result_buffers),
    }


def _said(said: Sequence[Output]) -> Record:
    if not said:
        return {}
    found: Record = {
        kind: "".join(output.text for output in said if output.kind == kind) for kind in ("stdout", "stderr")
    }
    found["outputs"] = [[output.kind, output.data] for output in said if output.kind not in found]
    shown = [output.data for output in said if output.kind == "result"]
    if shown:
        found["execute_result"] = _unpacked(shown[-1])
    return found


def _unpacked(data: bytes) -> Any:
    try:
        return msgspec.msgpack.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None


def moment(seconds: float) -> datetime | None:
    """The datetime (UTC) for seconds since the epoch; None for 0, and for what is no time on any calendar."""
    if not seconds:
        return None
    try:
        return datetime.fromtimestamp(seconds, UTC)
    except (OverflowError, ValueError, OSError):
        return None


def size_of(record: Mapping[str, Any]) -> int:
    """Bytes that a record holds, roughly: its buffers and texts, and what a record costs."""
    size = 1000
    for value in record.values():
        if isinstance(value, str | bytes):
            size += len(value)
    for key in BUFFERS:
        for buffer in record.get(key) or ():
            size += buffer.nbytes if isinstance(buffer, memoryview) else len(buffer)
    for output in record.get("outputs") or ():
        size += len(output[1])
    content = record.get("result_content")
    return size + (len(str(content.get("traceback", ""))) if isinstance(content, dict) else 0)
