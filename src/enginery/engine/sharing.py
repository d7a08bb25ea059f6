"""An engine's large buffers in shared memory: those of tasks when they are run, those of results when they are made."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from enginery.core.membership import Held
from enginery.core.sharing import own, put_together, set_aside
from enginery.engine.deposit import PREFIX
from enginery.net.segment_folder import usable, word_of
from enginery.net.segments import Pool, read_segment

if TYPE_CHECKING:
    from enginery.wire.messages import Result

#: Seconds after which the memory of a result may be used again although nobody has said that it was taken. The controller
#: says so for clients that leave, so this is for what gets lost on the way.
LEASE: Final = 3600.0


class Sharing:
    """The shared memory of one engine. Thread-safe."""

    def __init__(self, folder: str, number: int, host_folder: str = "") -> None:
        """``folder`` is empty where there is no shared memory; one that is not here counts as none.

        ``host_folder`` is that of a host away from the controller, for what is relayed to its engines.
        """
        self.folder = folder = usable(folder)
        self.host_folder = usable(host_folder)
        self.place = word_of(self.host_folder)  #: what nannies that put something there say as well
        self.pool = Pool(folder, f"e{number}")

    def read(self, name: str, size: int) -> memoryview:
        """The contents of a segment. Raises OSError if it is not there."""
        return read_segment(self.host_folder if name.startswith(PREFIX) else self.folder, name, size)

    def complete(self, held: Held) -> Held:
        """The task with its payload in place and all its buffers as frames. Raises OSError if they are not there."""
        held.task.payload, frames = put_together(held.task, held.frames, self.read)
        held.task.shared = None
        return Held(held.task, frames, held.direct)

    def put(self, result: Result, buffers: list[memoryview]) -> list[memoryview]:
        """Put the large buffers of a result into segments; those that stay frames are returned."""
        if self.pool.closed:
            return [own(buffer) for buffer in buffers]
        return set_aside(result, buffers, self.pool, LEASE)
