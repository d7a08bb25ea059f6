"""Large buffers for several engines of one host: they go to its nanny once, which puts them into shared memory. No I/O.

    controller ── Relay, Relay, … ──> nanny      a portion each, the next ones when the first have come
    controller <── Relayed ────────── nanny      which has written the buffer into a segment of its host's
    controller ── Assign ──> engine, engine, …   which names the segment
    controller ── Release ──────────> nanny      once each of them has answered, or has left

Rules of the room:

1. Only what a turn asks for is looked at: direct tasks for two engines or more of one nanny, with the very same buffers.
2. What is said to an engine after such a task waits behind it, so that messages to one peer keep their order.
3. A nanny that is gone, silent, or without room costs time only: the task leaves as it came, with buffers of its own.
"""

from __future__ import annotations

from collections import defaultdict, deque
from typing import TYPE_CHECKING, Final, NamedTuple

import msgspec

from enginery.core.actions import Action, To
from enginery.core.sharing import PAYLOAD, WORTH
from enginery.wire.messages import Assign, Relay, Release, Segment

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from enginery.wire.messages import Task

#: Bytes sent to a nanny at once, and those that may be on the way to it: between two portions there is room for
#: heartbeats, and a slow line is not asked to keep all at once.
PORTION: Final = 4 << 20
WINDOW: Final = 4 * PORTION


class _Buffer(NamedTuple):
    """A large buffer of a task: its index `at` which it stands, what tells it from others in the same turn, and what it is."""

    at: int
    key: int | str
    size: int
    data: object  #: None for one in a segment, whose name is the key


class _Parcel:
    """A buffer on its way to a nanny, or there."""

    __slots__ = ("arrived", "data", "failed", "name", "nanny", "number", "sent", "size", "users")

    def __init__(self, number: int, nanny: int, data: memoryview) -> None:
        self.number = number
        self.nanny = nanny
        self.data = data
        self.size = data.nbytes
        self.sent = self.arrived = 0
        self.name = ""  #: of the segment, once all of it is there
        self.failed = False
        self.users: set[int] = set()  #: tasks that have not ended

    @property
    def is_settled(self) -> bool:
        return self.failed or bool(self.name)


class _Held(NamedTuple):
    """An action that waits, with the parcels that tasks of it wait for, by task and by index of the buffer."""

    action: Action
    parcels: dict[int, dict[int, _Parcel]]


class Relays:
    """What is relayed, and what waits for it. Each method returns what is to be performed now, in this order."""

    def __init__(self, nanny_of: Callable[[int], int], read: Callable[[str, int], memoryview]) -> None:
        """``nanny_of`` gives the nanny that relays to an engine, -1 for none.

        ``read`` gives the contents of a segment by name and size; its OSErrors are taken for answers.
        """
        self.uses: dict[int, dict[int, list[_Parcel]]] = {}  #: by engine and task
        self._nanny_of = nanny_of
        self._read = read
        self._count = 0
        self._parcels: dict[int, _Parcel] = {}  #: by number: those in use
        self._queues: dict[int, deque[_Parcel]] = {}  #: those not yet sent, by nanny
        self._held: dict[int, deque[_Held]] = {}  #: by engine

    def __repr__(self) -> str:
        return f"<Relays parcels={len(self._parcels)} held={sum(map(len, self._held.values()))}>"

    def waits_for(self) -> set[int]:
        """The nannies that have not answered yet."""
        return {parcel.nanny for parcel in self._parcels.values() if not parcel.is_settled}

    def sift(self, actions: Sequence[Action]) -> list[Action]:
        """The actions of one turn but those that have to wait, and what is to be sent to nannies."""
        made = self._make_parcels(actions)
        if not made and not self._held:
            return list(actions)
        now: list[Action] = []
        for action in actions:
            engine = action.number
            parcels = self._parcels_of(action, made) if made and action.to == To.ENGINE else {}
            if parcels:
                mine = self.uses.setdefault(engine, {})
                for task, each in parcels.items():
                    mine[task] = list(set(each.values()))
                    for parcel in mine[task]:
                        parcel.users.add(task)
            if action.to == To.ENGINE and (parcels or engine in self._held):
                self._held.setdefault(engine, deque()).append(_Held(action, parcels))
            else:
                now.append(action)
        for nanny in {parcel.nanny for parcel in made.values()}:
            now += self._send(nanny)
        return now

    def relayed(self, nanny: int, number: int, arrived: int, name: str) -> list[Action]:
        """A nanny has so many bytes of a buffer; all of them if it names the segment; -1 if it has no room."""
        parcel = self._parcels.get(number)
        if parcel is None or parcel.nanny != nanny or parcel.is_settled:
            return [_release(nanny, name)] if name else []  # nobody waited for it any longer
        if arrived >= 0 and not name:
            parcel.arrived = min(max(parcel.arrived, arrived), parcel.sent)
            return self._send(nanny)
        parcel.name, parcel.failed, parcel.arrived = name, not name, parcel.sent
        parcel.data = memoryview(b"")
        now = self._send(nanny)
        if not parcel.users:
            now += self._drop(parcel)
        return now + self._let_go()

    def ended(self, engine: int, tasks: Iterable[int]) -> list[Action]:
        """Tasks of an engine have ended."""
        now: list[Action] = []
        mine = self.uses.get(engine, {})
        for task in tasks:
            for parcel in mine.pop(task, ()):
                parcel.users.discard(task)
                if not parcel.users and parcel.is_settled:
                    now += self._drop(parcel)
        if not mine:
            self.uses.pop(engine, None)
        return now

    def engine_gone(self, engine: int) -> list[Action]:
        """An engine has left. What waited for it goes with it."""
        self._held.pop(engine, None)
        return self.ended(engine, list(self.uses.get(engine, ())))

    def given_up(self, nanny: int, *, gone: bool) -> list[Action]:
        """A nanny is gone, or silent: nobody waits for it any longer."""
        self._queues.pop(nanny, None)
        for parcel in [each for each in self._parcels.values() if each.nanny == nanny]:
            if not parcel.is_settled:
                parcel.failed, parcel.data = True, memoryview(b"")
            if gone or parcel.failed:
                del self._parcels[parcel.number]
        return self._let_go()

    # --- what is relayed ----------------------------------------------------------------------------------------

    def _make_parcels(self, actions: Sequence[Action]) -> dict[tuple[int, int | str], _Parcel]:
        """One for each large buffer that several engines of one nanny are to get."""
        wanted: defaultdict[tuple[int, int | str], set[int]] = defaultdict(set)
        buffers: dict[int | str, _Buffer] = {}
        for action in actions:
            for task, frames in _direct_tasks(action):
                large = _large(task, frames)
                if large and (nanny := self._nanny_of(action.number)) >= 0:
                    for buffer in large:
                        buffers[buffer.key] = buffer
                        wanted[nanny, buffer.key].add(action.number)
        made: dict[tuple[int, int | str], _Parcel] = {}
        for (nanny, key), engines in wanted.items():
            if len(engines) > 1 and (data := self._contents(buffers[key])) is not None:
                self._count += 1
                made[nanny, key] = parcel = _Parcel(self._count, nanny, data)
                self._parcels[self._count] = parcel
                self._queues.setdefault(nanny, deque()).append(parcel)
        return made

    def _contents(self, buffer: _Buffer) -> memoryview | None:
        if buffer.data is not None:
            return memoryview(buffer.data).cast("B")  # type: ignore[arg-type]  # a buffer
        try:
            return self._read(str(buffer.key), buffer.size)
        except OSError:
            return None  # who sends the task finds out again, and says so

    def _parcels_of(self, action: Action, made: dict[tuple[int, int | str], _Parcel]) -> dict[int, dict[int, _Parcel]]:
        """Those that the tasks of an action wait for: all large buffers of a task, or none."""
        nanny = self._nanny_of(action.number)
        found: dict[int, dict[int, _Parcel]] = {}
        for task, frames in _direct_tasks(action):
            large = _large(task, frames)
            if large and all((nanny, buffer.key) in made for buffer in large):
                found[task.id] = {buffer.at: made[nanny, buffer.key] for buffer in large}
        return found

    def _send(self, nanny: int) -> list[Action]:
        """As many portions as may be on the way."""
        now: list[Action] = []
        queue = self._queues.get(nanny)
        under_way = sum(each.sent - each.arrived for each in self._parcels.values() if each.nanny == nanny)
        while queue and under_way < WINDOW:
            parcel = queue[0]
            if parcel.is_settled or not (parcel.users or parcel.sent):  # it has no room, or nobody needs it any more
                queue.popleft()
                if not parcel.users:
                    self._parcels.pop(parcel.number, None)
                continue
            portion = parcel.data[parcel.sent : parcel.sent + PORTION]
            message = Relay(parcel.number, parcel.size, parcel.sent)
            now.append(Action(To.NANNY, nanny, message, [portion]))
            parcel.sent += portion.nbytes
            under_way += portion.nbytes
            if parcel.sent == parcel.size:
                queue.popleft()
        if not queue:
            self._queues.pop(nanny, None)
        return now

    def _drop(self, parcel: _Parcel) -> list[Action]:
        """Nobody needs a buffer any more."""
        is_there = self._parcels.pop(parcel.number, None) is not None  # else its nanny is gone
        return [_release(parcel.nanny, parcel.name)] if is_there and parcel.name else []

    # --- what waits ---------------------------------------------------------------------------------------------

    def _let_go(self) -> list[Action]:
        """What waits for nothing any more."""
        now: list[Action] = []
        for engine, queue in list(self._held.items()):
            while queue and all(each.is_settled for mine in queue[0].parcels.values() for each in mine.values()):
                now.append(self._made_over(queue.popleft()))
            if not queue:
                del self._held[engine]
        return now

    def _made_over(self, held: _Held) -> Action:
        """The action with segments of the engine's host in place of buffers, where they are there."""
        action = held.action
        if not held.parcels:
            return action
        assert isinstance(action.message, Assign)
        tasks: list[Task] = []
        sent: list[object] = []
        for original, frames in _direct_tasks(action):
            task, mine = original, frames
            parcels = held.parcels.get(task.id, {})
            if parcels and all(parcel.name for parcel in parcels.values()):
                task, mine = _with_segments(task, frames, parcels)
            tasks.append(task)
            sent += mine
        return Action(action.to, action.number, Assign(tasks, direct=True), sent)


def _release(nanny: int, name: str) -> Action:
    return Action(To.NANNY, nanny, Release([name]), [])


def _direct_tasks(action: Action) -> Iterator[tuple[Task, list[object]]]:
    """The tasks of an action that gives an engine direct ones, each with its frames."""
    message = action.message
    if type(message) is Assign and message.direct:
        at = 0
        for task in message.tasks:
            yield task, action.frames[at : at + task.frames]
            at += task.frames


def _large(task: Task, frames: Sequence[object]) -> list[_Buffer]:
    """The buffers of a task that are worth a segment, in ascending order of their indices."""
    found: list[_Buffer] = []
    if len(task.payload) >= WORTH:
        found.append(_Buffer(PAYLOAD, id(task.payload), len(task.payload), task.payload))
    shared = {segment.index: segment for segment in task.shared or ()}
    if frames or shared:
        left = iter(frames)
        found += [
            _Buffer(index, segment.name, segment.size, None) for index, segment in shared.items() if index == PAYLOAD
        ]
        for index in range(len(frames) + len(shared) - (PAYLOAD in shared)):
            segment = shared.get(index)
            if segment is not None:
                found.append(_Buffer(index, segment.name, segment.size, None))
            elif (size := memoryview(frame := next(left)).nbytes) >= WORTH:  # type: ignore[arg-type]  # a buffer
                found.append(_Buffer(index, id(frame), size, frame))
    return found


def _with_segments(task: Task, frames: Sequence[object], parcels: dict[int, _Parcel]) -> tuple[Task, list[object]]:
    """A copy of a task, whose large buffers are segments of its engine's host, and the frames that stay."""
    large = {id(buffer.data) for buffer in _large(task, frames) if buffer.data is not None}
    rest = [frame for frame in frames if id(frame) not in large]
    shared = [Segment(index, parcel.name, parcel.size) for index, parcel in parcels.items()]
    payload = b"" if PAYLOAD in parcels else task.payload
    # A copy: should this engine die, the next one may be on another host.
    return msgspec.structs.replace(task, payload=payload, frames=len(rest), shared=shared), rest
