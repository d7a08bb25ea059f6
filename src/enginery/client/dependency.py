"""What a task may wait for: Dependency, and the many forms in which ``after`` and ``follow`` are given. No I/O."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from enginery.wire import messages


class Dependency(set[str]):
    """A set of message ids that must have ended.

    Args:
        dependencies: Message ids, results, or a collection of them.
        all: Whether all of them must have ended, or any one.
        success: Whether ending well counts.
        failure: Whether ending badly counts.

    Raises ValueError if neither success nor failure counts, for nothing could ever meet it.
    """

    def __init__(self, dependencies: Any = (), all: bool = True, success: bool = True, failure: bool = False) -> None:
        if not (success or failure):
            raise ValueError("A Dependency must count success, failure or both: with neither it can never be met.")
        super().__init__(_texts(dependencies))
        self.all = all
        self.success = success
        self.failure = failure

    def _relevant(self, completed: set[str], failed: set[str] | None) -> tuple[set[str], set[str]]:
        """Those ended as wanted, and those ended otherwise."""
        failed = failed or set()
        wanted = (completed if self.success else set()) | (failed if self.failure else set())
        other = (set() if self.success else completed) | (set() if self.failure else failed)
        return wanted, other

    def check(self, completed: set[str], failed: set[str] | None = None) -> bool:
        """Whether it is met, given the ids of all tasks that completed and that failed."""
        wanted, _ = self._relevant(completed, failed)
        if not self:
            return True
        return self <= wanted if self.all else not self.isdisjoint(wanted)

    def unreachable(self, completed: set[str], failed: set[str] | None = None) -> bool:
        """Whether it can never be met any more, given the ids of all tasks that completed and that failed."""
        _, other = self._relevant(completed, failed)
        if not self:
            return False
        return not self.isdisjoint(other) if self.all else self <= other

    def as_dict(self) -> dict[str, Any]:
        """It as plain values."""
        return {"all": self.all, "success": self.success, "failure": self.failure, "dependencies": sorted(self)}


def _texts(value: Any) -> list[str]:
    if value is None:
        return []
    if isinstance(value, str):
        return [value]
    if hasattr(value, "msg_ids"):
        return list(value.msg_ids)
    if isinstance(value, Iterable):
        return [text for each in value for text in _texts(each)]
    raise ValueError(f"{value!r} is no dependency: give message ids, results, a collection of them, or a Dependency.")


def for_wire(value: Any, id_of: Callable[[str], int]) -> messages.Dependency | None:
    """What ``after=value`` or ``follow=value`` means, in ids; None for no dependency.

    ``id_of`` turns a message id into an id and raises KeyError if it cannot. Raises ValueError for everything else
    that is no dependency.
    """
    if value is None:
        return None
    if isinstance(value, Mapping):
        value = Dependency(**value)
    texts = sorted(value) if isinstance(value, Dependency) else list(dict.fromkeys(_texts(value)))
    if not texts:
        return None
    try:
        ids = [id_of(text) for text in texts]
    except KeyError as error:
        raise ValueError(f"No dependency: {error.args[0]}") from None
    if isinstance(value, Dependency):
        return messages.Dependency(ids, value.all, value.success, value.failure)
    return messages.Dependency(ids)
