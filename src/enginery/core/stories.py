"""What happened to tasks whose life was not plain: the last few thousand that failed or were tried again. No I/O."""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from enginery.core.tasks import Rare
    from enginery.wire.messages import Result

#: Tasks remembered.
CAPACITY: Final = 10_000
#: Characters of an error that are kept.
SHOWN: Final = 200


class Stories:
    """Stories of ended tasks by id, the oldest forgotten first."""

    __slots__ = ("_stories",)

    def __init__(self) -> None:
        # Not a dict: finding its first entry takes the longer the more of the entries before it are gone.
        self._stories: OrderedDict[int, list[str]] = OrderedDict()

    def keep(self, task: int, rare: Rare | None, result: Result, engine: int) -> None:
        """A task has ended otherwise than well at its first attempt."""
        lines = [f"tried on {attempt}" for attempt in rare.attempts] if rare is not None else []
        self._stories[task] = [*lines, _ending(result, engine)]
        if len(self._stories) > CAPACITY:
            self._stories.popitem(last=False)

    def of(self, task: int) -> list[str] | None:
        """What happened to an ended task, the earliest first; None if nothing is remembered."""
        return self._stories.get(task)


def _ending(result: Result, engine: int) -> str:
    place = f"on engine {engine}" if engine >= 0 else "by the controller"
    fault = result.fault
    if not result.status:
        return f"ended well {place}"
    if fault is None:
        return f"failed {place}"
    said = f"{fault.ename}: {fault.evalue}"
    return f"ended {place} with {said if len(said) <= SHOWN else said[:SHOWN] + '…'}"
