"""What a task may wait for: Dependency, and the many forms in which ``after`` and ``follow`` are given. No I/O."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, Final

from enginery.client.described import Described
from enginery.client.metadata import message_id
from enginery.wire import messages

if TYPE_CHECKING:
    from enginery.client.jobs import Jobs

_NO_DEPENDENCY: Final = "{!r} is no dependency: give message ids, results, a collection of them, or a Dependency."


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
    raise ValueError(_NO_DEPENDENCY.format(value))


def for_wire(value: Any, client: Jobs) -> messages.Dependency | None:
    """What ``after=value`` or ``follow=value`` means, in ids; None for no dependency.

    Raises ValueError for message ids that are not this client's, and for everything else that is no dependency.
    """
    # Hot: bench/ submits graphs of tasks, each with two of these. Results give their ids without a detour over texts.
    if value is None:
        return None
    if type(value) is list or type(value) is tuple:
        ids = []
        for each in value:
            if isinstance(each, Described) and each.client is client and each._many is None and not each._texts:
                ids.append(each._first)
            else:
                ids += _ids(each, client)
    elif isinstance(value, Dependency):
        ids = _ids(sorted(value), client)
        return messages.Dependency(ids, value.all, value.success, value.failure) if ids else None
    elif isinstance(value, Mapping):
        return for_wire(Dependency(**value), client)
    else:
        ids = _ids(value, client)
    if not ids:
        return None
    return messages.Dependency(list(dict.fromkeys(ids)) if len(ids) > 1 else ids)


def _ids(value: Any, client: Jobs) -> list[int]:
    if isinstance(value, Described):
        if value._texts:  # the ids under which it waits are none of the requests
            return _ids(list(value._texts), client)
        if value.client is client:
            return [value._first] if value._many is None else value._all_ids()
        other = value.client.session
        return _ids([message_id(other, task) for task in value._all_ids()], client)
    if isinstance(value, str):
        try:
            return [client.task_id(value)]
        except KeyError as error:
            raise ValueError(f"No dependency: {error.args[0]}") from None
    if hasattr(value, "msg_ids"):
        other = value.client.session
        return _ids([message_id(other, task) for task in value._all_ids()], client)
    if isinstance(value, Iterable):
        return [number for each in value for number in _ids(each, client)]
    raise ValueError(_NO_DEPENDENCY.format(value))
