"""The client's mind: what it has asked for and not got yet, what it wants to send, which engines there are. No I/O.

Callers of ``submit`` and its like only append: the deque is the hand-over from the user's threads to whoever sends
next, so nothing here takes a lock, and everything that has accumulated leaves as one message.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Final, Protocol

from enginery.core.kept import Kept
from enginery.wire import messages as m

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

#: What one outstanding task counts against the window, on top of large payloads: its share of every queue on the way.
OVERHEAD: Final = 600
#: Payloads from this size on are counted one by one.
HEAVY: Final = 1024
#: Tasks put into one message at most: what arrives later has not to wait for long.
MESSAGE_TASKS: Final = 2000

_NOTHING: Final[list[memoryview]] = []


class Sink(Protocol):
    """Who waits for results and output."""

    def arrived(self, result: m.Result, engine: int, buffers: list[memoryview], when: float) -> bool:
        """A result is here. True when everything the sink waits for has arrived. Quick, and runs no user code."""

    def said(self, output: m.Output, engine: int) -> None:
        """Output is here. Quick, and runs no user code."""

    def settled(self) -> None:
        """Everything has arrived: called once, without locks, so user code may run."""


Item = m.Task | m.Request | bytes


class Requests:
    """Outstanding requests and messages to send. ``heard`` and ``next_message`` belong to one thread at a time."""

    def __init__(self, wall: Callable[[], float]) -> None:
        """``wall`` tells the time of day, for the moment a result is received."""
        self.outstanding: dict[int, Sink] = {}
        self.engines: dict[int, m.EngineInfo] = {}
        self.answers: dict[int, m.Answer | None] = {}  #: by number of the question; None while it is awaited
        self.welcome: m.Welcome | None = None
        self.refused: m.Refused | None = None
        self.goodbye: str | None = None  #: why the controller left, once it has said so
        self.news: deque[m.News] = deque()
        self.settled: deque[Sink] = deque()
        #: puts the large buffers of a task, which has so many copies, into shared memory; returns the others
        self.lend: Callable[[m.Task, list[memoryview], int], list[memoryview]] = lambda _task, buffers, _copies: buffers
        #: makes the buffers of a result whole if some of them are in shared memory
        self.take_shared: Callable[[m.Result, list[memoryview]], list[memoryview]] = lambda _result, frames: frames
        self.heavy = 0  #: bytes of large payloads outstanding
        self._weights: dict[int, int] = {}
        self._wall = wall
        self._outgoing: deque[Item] = deque()
        self.frames: dict[int, list[memoryview]] = {}  #: of tasks that have not left yet
        self.bodies = Kept()  #: of functions introduced to the controller
        self._unsent: dict[bytes, bytes] = {}
        self._taken: list[object] | None = None
        self._message: tuple[bytes, list[object]] | None = None

    # --- asking -------------------------------------------------------------------------------------------------

    def submit(self, task: m.Task, buffers: list[memoryview], sink: Sink) -> None:
        """Ask for the result of a balanced task."""
        # Hot: once per task. Bench: no-op tasks.
        if buffers or len(task.payload) > HEAVY:
            self._weigh(task, task.id, 1, buffers)
        self.outstanding[task.id] = sink
        self._outgoing.append(task)

    def submit_request(self, request: m.Request, buffers: list[memoryview], sink: Sink) -> None:
        """Ask for the results of a task addressed to several engines, with consecutive ids."""
        task, count = request.task, len(request.targets)
        if buffers or len(task.payload) > HEAVY:
            self._weigh(task, task.id, count, buffers)
        self.outstanding.update(dict.fromkeys(range(task.id, task.id + count), sink))
        self._outgoing.append(request)

    def submit_many(self, tasks: Sequence[m.Task], sink: Sink) -> None:
        """Ask for balanced tasks without buffers, all for one sink."""
        for task in [task for task in tasks if len(task.payload) > HEAVY]:
            self._weigh(task, task.id, 1, [])
        self.outstanding.update(dict.fromkeys([task.id for task in tasks], sink))
        self._outgoing.extend(tasks)

    def introduce(self, digest: bytes, body: bytes) -> None:
        """Have a function's body sent before the next task. To be called unless ``digest`` is in ``bodies``."""
        self._unsent[digest] = body
        self.bodies.keep(digest, body)

    def say(self, message: m.FromClient) -> None:
        """Send a message of any other kind, after what was asked before.

        Raises what encoding it raises, for what it holds may come from a user.
        """
        self._outgoing.append(m.encode(message))

    def unsent(self, tasks: Sequence[int]) -> set[int]:
        """Those of some tasks that still wait to be sent. Linear: for questions only."""
        waiting: set[int] = set()
        for item in tuple(self._outgoing):
            if type(item) is m.Task:
                waiting.add(item.id)
            elif type(item) is m.Request:
                waiting.update(range(item.task.id, item.task.id + len(item.targets)))
        return waiting.intersection(tasks)

    def _weigh(self, task: m.Task, first: int, count: int, buffers: list[memoryview]) -> None:
        buffers = self.lend(task, buffers, count)
        size = len(task.payload) + sum(buffer.nbytes for buffer in buffers)
        if buffers:
            self.frames[first] = buffers
        share, rest = divmod(size, count)
        for at in range(count):  # each that arrives makes room for its share, in whatever order they come
            self._weights[first + at] = share + (at < rest)
        self.heavy += size

    # --- sending ------------------------------------------------------------------------------------------------

    def next_message(self) -> tuple[bytes, list[object]] | None:
        """See ``net.line.Speaker``."""
        if self._message is None and (self._outgoing or self._unsent):
            self._message = self._compose()
        return self._message

    def sent(self) -> None:
        """See ``net.line.Speaker``."""
        self._message = None

    def _compose(self) -> tuple[bytes, list[object]] | None:
        if self._unsent:
            bodies, self._unsent = self._unsent, {}
            return m.encode(m.Functions(bodies)), []
        outgoing = self._outgoing
        if not outgoing:
            return None
        kind = type(outgoing[0])
        if kind is bytes:
            return outgoing.popleft(), []  # type: ignore[return-value]  # see above
        if len(outgoing) == 1 and kind is m.Task:  # when idle, the rule
            task = outgoing.popleft()
            return m.encode(m.Submit([task])), self._frames([task])  # type: ignore[list-item]  # see above
        items: list[Item] = []
        take, put = outgoing.popleft, items.append
        while outgoing and type(outgoing[0]) is kind and len(items) < MESSAGE_TASKS:
            put(take())
        if kind is m.Task:
            return m.encode(m.Submit(items)), self._frames(items)  # type: ignore[arg-type]  # all of that kind
        return m.encode(m.Direct(items)), self._frames([item.task for item in items])  # type: ignore[arg-type,union-attr]

    def _frames(self, tasks: Sequence[object]) -> list[object]:
        if not self.frames:
            return []
        pop = self.frames.pop
        return [buffer for task in tasks for buffer in pop(task.id, ())]  # type: ignore[attr-defined]  # they are tasks

    # --- hearing ------------------------------------------------------------------------------------------------

    def heard(self, message: m.ToClient, frames: list[memoryview]) -> None:
        """Take in a message of the controller."""
        if type(message) is m.Results:
            self._results(message, frames)
        elif type(message) is m.Outputs:
            for output in message.outputs:
                sink = self.outstanding.get(output.task)
                if sink is not None:
                    sink.said(output, message.engine)
        elif type(message) is m.News:
            self._news(message)
        elif type(message) is m.Answer:
            if message.number in self.answers:  # else nobody waits for it any more
                self.answers[message.number] = message
        elif type(message) is m.Missing:
            self._supply(message.digests)
        elif type(message) is m.Welcome:
            self.welcome = message
            self.engines = _by_id({info.id: info for info in message.engines})
        elif type(message) is m.Refused:
            self.refused = message
        elif type(message) is m.Bye:
            self.goodbye = message.reason
        elif type(message) is m.Ping:
            self.say(m.Pong(message.number))

    def _results(self, message: m.Results, frames: list[memoryview]) -> None:
        # Hot: once per task. Bench: no-op tasks.
        take, done, engine, when = self.outstanding.pop, self.settled.append, message.engine, self._wall()
        results, nothing = message.results, _NOTHING
        if not frames:
            for result in results:
                mine = nothing if result.shared is None else self.take_shared(result, nothing)
                sink = take(result.id, None)
                if sink is not None and sink.arrived(result, engine, mine, when):
                    done(sink)
        else:
            at = 0
            for result in results:
                mine = frames[at : at + result.frames]
                at += result.frames
                if result.shared is not None:
                    mine = self.take_shared(result, mine)
                sink = take(result.id, None)
                if sink is not None and sink.arrived(result, engine, mine, when):
                    done(sink)
        if self._weights:
            for result in results:
                self.heavy -= self._weights.pop(result.id, 0)

    def _news(self, news: m.News) -> None:
        engines = dict(self.engines)
        engines.update((info.id, info) for info in news.joined)
        for departure in news.left:
            engines.pop(departure.id, None)
        self.engines = _by_id(engines)
        self.news.append(news)

    def _supply(self, digests: list[bytes]) -> None:
        # An empty body says that it is not here, either, so that nobody waits for it.
        self._unsent.update((digest, self.bodies.get(digest, b"")) for digest in digests)

    # --- the end ------------------------------------------------------------------------------------------------

    def fail_all(self, fault: m.Fault) -> None:
        """Nothing will come any more: everything outstanding ends with this fault."""
        when = self._wall()
        for number in list(self.outstanding):
            sink = self.outstanding.pop(number, None)
            result = m.Result(number, m.Status.LOST, b"", fault=fault)
            if sink is not None and sink.arrived(result, -1, [], when):
                self.settled.append(sink)
        self._weights.clear()
        self.heavy = 0


def _by_id(engines: dict[int, m.EngineInfo]) -> dict[int, m.EngineInfo]:
    # Ranks of an MPI job join in any order.
    return dict(sorted(engines.items()))
