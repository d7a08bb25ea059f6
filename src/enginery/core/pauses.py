"""What an engine was asked to do and does not begin for now: tasks of clients that do not read results. No I/O."""

from __future__ import annotations

from typing import TYPE_CHECKING

from enginery.wire.messages import CLIENT_SHIFT

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

    from enginery.core.membership import Held


class Pauses:
    """Tasks set aside, each client's in their order. Belongs to who holds the line's lock."""

    __slots__ = ("_aside", "clients")

    def __init__(self) -> None:
        self.clients: frozenset[int] = frozenset()  #: nothing of theirs is to be begun
        self._aside: dict[int, list[Held]] = {}

    def __contains__(self, held: Held) -> bool:
        """Whether a task is not to be begun for now."""
        return held.task.id >> CLIENT_SHIFT in self.clients

    def put(self, tasks: Iterable[Held]) -> list[int]:
        """Set tasks aside, after those that stand there. Returns their ids."""
        ids = []
        for held in tasks:
            self._aside.setdefault(held.task.id >> CLIENT_SHIFT, []).append(held)
            ids.append(held.task.id)
        return ids

    def change(self, clients: Collection[int]) -> list[Held]:
        """From now on it is these clients. Returns the tasks of others, which may be begun."""
        self.clients = frozenset(clients)
        over = [client for client in self._aside if client not in self.clients]
        return [held for client in over for held in self._aside.pop(client)]

    def remove(self, ids: Collection[int]) -> list[int]:
        """Forget those of some tasks that stand here. Returns which they are."""
        removed: list[int] = []
        for client, tasks in list(self._aside.items()):
            gone = [held.task.id for held in tasks if held.task.id in ids]
            if gone:
                removed += gone
                self._aside[client] = [held for held in tasks if held.task.id not in ids]
        return removed

    def ids(self) -> list[int]:
        """The tasks that stand here."""
        return [held.task.id for tasks in self._aside.values() for held in tasks]
