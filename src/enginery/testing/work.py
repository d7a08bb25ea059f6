"""What tasks of a simulated cluster do: how long they take, and how they end."""

from __future__ import annotations

import msgspec
from msgspec import Struct

from enginery.wire.messages import Fault, Status


class Work(Struct, array_like=True):
    """What one task does. It is the payload of the task that does it.

    ``endings`` says how each attempt ends, the last one for all that follow:

    - ``ok``: with a value that names the task
    - ``raise``: user code raises
    - ``unmet``: the engine does not meet the task's requirement
    - ``die``: the engine's process is killed at the end of the task
    - ``hang``: it does not end at all, unless it is interrupted

    ``heedless`` work goes on when it is interrupted.
    """

    seconds: float = 0.001
    endings: tuple[str, ...] = ("ok",)
    heedless: bool = False

    def ending(self, attempt: int) -> str:
        """How attempt number ``attempt`` (from 0 on) ends."""
        return self.endings[min(attempt, len(self.endings) - 1)]


ENDINGS = ("ok", "raise", "unmet", "die", "hang")
pack = msgspec.msgpack.Encoder().encode
unpack = msgspec.msgpack.Decoder(Work).decode


def value_of(task: int) -> bytes:
    """The value of a task that ends well."""
    return b"value of %d" % task


def outcome(ending: str) -> tuple[int, Fault | None]:
    """Status and fault of a result for an ending that has one."""
    if ending == "ok":
        return Status.OK, None
    if ending == "unmet":
        return Status.ERROR, Fault("UnmetDependency", "UnmetDependency", "it needs what is not here")
    if ending == "interrupted":
        return Status.ABORTED, Fault("TaskAborted", "KeyboardInterrupt", "interrupted because it was aborted")
    return Status.ERROR, Fault("remote", "ValueError", "as it was told to")
