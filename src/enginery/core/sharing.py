"""Which buffers of a message go through shared memory instead of its frames, and how they come together again. No I/O."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Protocol

from enginery.wire.messages import Segment

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from enginery.wire.messages import Result, Task

#: Buffers of this many bytes are worth a segment: below, the system calls it takes cost as much as the copies it saves.
WORTH: Final = 1 << 17
#: Index of the segment that holds the payload itself.
PAYLOAD: Final = -1


class Keeper(Protocol):
    """Who owns segments: ``net.segments.Pool``."""

    def put(self, data: memoryview, lease: float = ...) -> str | None:
        """Copy a buffer into a segment and return its name; None if there is no room."""

    def release(self, names: Iterable[str]) -> None:
        """Segments are not in flight any more."""


def set_aside(
    item: Task | Result, buffers: list[memoryview], keeper: Keeper, lease: float = float("inf")
) -> list[memoryview]:
    """Put the large buffers of a task or result, and its payload if that is large, into segments.

    The segments are noted in the item. Returns the buffers that stay frames, as ``own`` makes them.
    """
    frames: list[memoryview] = []
    shared: list[Segment] = []
    try:
        if len(item.payload) >= WORTH:
            name = keeper.put(memoryview(item.payload), lease)
            if name is not None:
                shared.append(Segment(PAYLOAD, name, len(item.payload)))
                item.payload = b""
        for index, buffer in enumerate(buffers):
            name = keeper.put(buffer, lease) if buffer.nbytes >= WORTH else None
            if name is None:
                frames.append(own(buffer))
            else:
                shared.append(Segment(index, name, buffer.nbytes))
    except BaseException:  # Ctrl-C while much is copied
        keeper.release([segment.name for segment in shared])
        raise
    item.frames = len(frames)
    item.shared = shared or None
    return frames


def own(buffer: memoryview) -> memoryview:
    """What is in a buffer now: frames leave later, and who sent an array may well write into it before they do."""
    return buffer if buffer.readonly else memoryview(bytes(buffer))


def put_together(
    item: Task | Result, frames: Sequence[object], read: Callable[[str, int], memoryview]
) -> tuple[bytes, list[object]]:
    """The payload and all buffers of a task or result, which stays as it is.

    ``read`` gives the contents of a segment by name and size; its errors come through.
    """
    payload, whole = item.payload, list(frames)
    for segment in item.shared or ():  # in ascending order of index, as `set_aside` made them
        contents = read(segment.name, segment.size)
        if segment.index == PAYLOAD:
            payload = bytes(contents)
        else:
            whole.insert(segment.index, contents)
    return payload, whole
