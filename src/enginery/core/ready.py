"""Tasks that could run now, in order: fair between clients, highest priority first, constant time. No I/O."""

from __future__ import annotations

from bisect import insort
from collections import deque
from typing import TYPE_CHECKING, Final

from enginery.wire.messages import CLIENT_SHIFT

if TYPE_CHECKING:
    from collections.abc import Collection

    from enginery.wire.messages import Task

#: A lane is swept when it holds this many more dead entries than live ones.
SWEEP_AT: Final = 1000


class Bands:
    """One client's ready tasks: a queue for each priority in use, nearly always just the one for priority 0."""

    __slots__ = ("normal", "order", "others")

    def __init__(self) -> None:
        self.normal: deque[Task] = deque()
        self.others: dict[int, deque[Task]] = {}
        self.order: list[int] = []  #: negated priorities in use other than 0, ascending: highest priority first

    def __bool__(self) -> bool:
        return bool(self.normal) or bool(self.others)

    def queue(self, priority: int) -> deque[Task]:
        """The queue of a priority, made if need be."""
        if not priority:
            return self.normal
        queue = self.others.get(priority)
        if queue is None:
            queue = self.others[priority] = deque()
            insort(self.order, -priority)
        return queue

    def first(self) -> deque[Task]:
        """The queue to take from: of the highest priority. There must be a task."""
        if not self.others or (self.order[0] > 0 and self.normal):
            return self.normal
        return self.others[-self.order[0]]

    def tidy(self) -> None:
        """Forget queues that have run empty."""
        while self.order and not self.others[-self.order[0]]:
            del self.others[-self.order.pop(0)]

    def tasks(self) -> list[Task]:
        """Every entry, dead ones included, best first."""
        high = [task for key in self.order if key < 0 for task in self.others[-key]]
        low = [task for key in self.order if key > 0 for task in self.others[-key]]
        return [*high, *self.normal, *low]


class Lane:
    """Ready tasks with the same restriction on engines. Clients take turns.

    A task that ends while it stands here is not searched for: its id is noted as dead and its entry passed over. Clients
    that are held back have no turn; their tasks stand aside.
    """

    __slots__ = ("_aside", "_bands", "_dead", "_held_back", "_turns", "aside", "live")

    def __init__(self, held_back: Collection[int] = ()) -> None:
        """``held_back`` are the clients that have no turn now; tell of changes by ``hold_back`` and ``let_on``."""
        self._bands: dict[int, Bands] = {}
        self._turns: deque[int] = deque()
        self._dead: set[int] = set()
        self._held_back = held_back
        self._aside: dict[int, Bands] = {}  #: of clients that are held back
        self.live = 0  #: tasks that may be taken
        self.aside = 0  #: tasks of clients that are held back

    def extend(self, client: int, tasks: list[Task]) -> None:
        """Add tasks of one client that have no options, in order."""
        if not tasks:
            return
        normal = self._of(client).normal
        normal.extend(tasks)
        if client in self._aside:
            self.aside += len(tasks)
        else:
            self.live += len(tasks)

    def push(self, task: Task, *, front: bool = False) -> None:
        """Add a task; at the front when it has waited its turn before."""
        bands = self._of(task.id >> CLIENT_SHIFT)
        queue = bands.normal if task.options is None else bands.queue(task.options.priority)
        if front:
            queue.appendleft(task)
        else:
            queue.append(task)
        if self._aside and task.id >> CLIENT_SHIFT in self._aside:
            self.aside += 1
        else:
            self.live += 1

    def hold_back(self, client: int) -> None:
        """A client is among those held back now."""
        bands = self._bands.pop(client, None)
        if bands is not None:
            self._turns.remove(client)
            self._aside[client] = bands
            self._count(bands, aside=True)

    def let_on(self, client: int) -> None:
        """A client is not held back any more."""
        bands = self._aside.pop(client, None)
        if bands is not None:
            self._count(bands, aside=False)
            self._bands[client] = bands
            self._turns.append(client)

    def _count(self, bands: Bands, *, aside: bool) -> None:
        dead = self._dead.intersection([task.id for task in bands.tasks()])
        moved = len(bands.tasks()) - len(dead)
        self.aside += moved if aside else -moved
        self.live -= moved if aside else -moved

    def peek(self) -> Task:
        """The task that ``take`` would give first. ``live`` must be positive."""
        while True:
            bands = self._bands[self._turns[0]]
            queue = bands.first()
            if not self._dead or queue[0].id not in self._dead:
                return queue[0]
            self._dead.remove(queue.popleft().id)
            self._leave(bands, turn=False)

    def take(self, count: int) -> list[Task]:
        """Take up to ``count`` tasks of the client whose turn it is, all calling the same function.

        At least one is returned; ``live`` must be positive. With several clients a turn is a fair part of ``count``.
        """
        # Hot: once per task. Bench: no-op tasks.
        function = self.peek().function
        bands = self._bands[self._turns[0]]
        queue = bands.first()
        count = max(1, count // len(self._turns))
        if count >= len(queue):
            tasks = list(queue)
            queue.clear()
        else:
            pop = queue.popleft
            tasks = [pop() for _ in range(count)]
        if other := next((at for at, task in enumerate(tasks) if task.function != function), 0):
            queue.extendleft(reversed(tasks[other:]))
            del tasks[other:]
        if self._dead:
            dead = self._dead.intersection([task.id for task in tasks])
            self._dead -= dead
            tasks = [task for task in tasks if task.id not in dead]
        self.live -= len(tasks)
        self._leave(bands, turn=True)
        return tasks

    def drop(self, task: int) -> None:
        """A task that stands here has ended."""
        self._dead.add(task)
        if self._aside and task >> CLIENT_SHIFT in self._aside:
            self.aside -= 1
        else:
            self.live -= 1
        if len(self._dead) > self.live + self.aside + SWEEP_AT:
            alive = [t for bands in self._all() for t in bands.tasks() if t.id not in self._dead]
            self._bands.clear()
            self._aside.clear()
            self._turns.clear()
            self._dead.clear()
            self.live = self.aside = 0
            for one in alive:
                self.push(one)

    def ids(self) -> list[int]:
        """Ids of all live tasks, client by client. Linear: for questions and checks only."""
        return [t.id for bands in self._all() for t in bands.tasks() if t.id not in self._dead]

    def _all(self) -> list[Bands]:
        return [*self._bands.values(), *self._aside.values()]

    def ahead_of(self, task: int) -> int:
        """How many live tasks of the same client stand before this one. Linear: for questions only."""
        client = task >> CLIENT_SHIFT
        bands = self._bands.get(client) or self._aside.get(client)
        ids = [t.id for t in bands.tasks() if t.id not in self._dead] if bands is not None else []
        return ids.index(task) if task in ids else 0

    def _of(self, client: int) -> Bands:
        bands = self._bands.get(client)
        if bands is None and client in self._aside:
            return self._aside[client]
        if bands is None and client in self._held_back:
            bands = self._aside[client] = Bands()
        elif bands is None:
            bands = self._bands[client] = Bands()
            self._turns.append(client)
        return bands

    def _leave(self, bands: Bands, *, turn: bool) -> None:
        """Tasks of the client at the head were removed; ``turn``: and it has had its turn."""
        if bands.others:
            bands.tidy()
        client = self._turns[0]
        if not bands:
            del self._bands[client]
            self._turns.popleft()
        elif turn and len(self._turns) > 1:
            self._turns.rotate(-1)
