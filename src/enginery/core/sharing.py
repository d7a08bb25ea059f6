"""Which buffers of a message go through shared memory instead of its frames, and how they come together again. No I/O."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Protocol

from enginery.wire.messages import Segment

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

#: Buffers of this many bytes are worth a segment: below, the system calls it takes cost as much as the copies it saves.
WORTH: Final = 1 << 17


class Keeper(Protocol):
    """Who owns segments: ``net.segments.Pool``."""

    def put(self, data: memoryview, lease: float = ...) -> str | None:
        """Copy a buffer into a segment and return its name; None if there is no room."""

    def release(self, names: Iterable[str]) -> None:
        """Segments are not in flight any more."""


def set_aside(
    buffers: list[memoryview], keeper: Keeper, lease: float = float("inf")
) -> tuple[list[memoryview], list[Segment] | None]:
    """Part buffers into those that stay frames and the segments that hold the others.

    The second is None if there are no segments, as in ``Task.shared``.
    """
    frames: list[memoryview] = []
    shared: list[Segment] = []
    try:
        for index, buffer in enumerate(buffers):
            name = keeper.put(buffer, lease) if buffer.nbytes >= WORTH else None
            if name is None:
                frames.append(buffer)
            else:
                shared.append(Segment(index, name, buffer.nbytes))
    except BaseException:  # Ctrl-C while much is copied
        keeper.release([segment.name for segment in shared])
        raise
    return frames, shared or None


def put_together(
    frames: Iterable[object], shared: Sequence[Segment], read: Callable[[str, int], memoryview]
) -> list[object]:
    """All buffers in their order. ``read`` gives the contents of a segment by name and size; its errors come through."""
    whole = list(frames)
    for segment in shared:  # in ascending order of index, as `set_aside` made them
        whole.insert(segment.index, read(segment.name, segment.size))
    return whole
