"""Which buffers leave the pickle and travel beside it. No I/O."""

from __future__ import annotations

from collections.abc import Callable
from pickle import PickleBuffer
from typing import Final

#: Buffers of this many bytes travel as frames of their own.
THRESHOLD: Final = 4096


def aside_into(buffers: list[memoryview] | None) -> Callable[[PickleBuffer], bool] | None:
    """Return the callback for pickle that puts large buffers into a list; without a list all stay in the pickle."""
    if buffers is None:
        return None

    def aside(buffer: PickleBuffer) -> bool:
        raw = buffer.raw()
        if raw.nbytes < THRESHOLD:
            return True  # stays in the pickle
        buffers.append(raw)
        return False

    return aside
