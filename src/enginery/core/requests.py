"""The client's mind: what it has asked for and not got yet, what it wants to send, which engines there are. No I/O.

Callers of ``submit`` and its like only append: the deque is the hand-over from the user's threads to whoever sends
next, so nothing here takes a lock, and everything that has accumulated leaves as one message.

When the connection is lost and the controller can be waited for (``Welcome.patience``), what is asked meanwhile waits
in that deque. ``come_back`` makes the hello of the next connection, and the welcome decides: a controller that knows
this client gets again what it has not got, another one gets what no controller has got, and the rest is lost.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Final, Protocol

from enginery.core.asked import FORGOTTEN, UNKNOWN, UNREMEMBERED, Asked, followed_by
from enginery.core.kept import Kept
from enginery.core.mail import UNCOUNTED, Mail
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
#: What is said again to a restarted controller that remembers: it does no harm if that has heard it before.
_LASTING: Final = frozenset({m.Functions, m.Submit, m.Direct, m.Abort})


class Sink(Protocol):
    """Who waits for results and output."""

    def arrived(self, result: m.Result, engine: int, buffers: list[memoryview], when: float) -> bool:
        """A result is here. True when everything the sink waits for has arrived. Quick, and runs no user code."""

    def said(self, output: m.Output, engine: int) -> None:
        """Output is here. Quick, and runs no user code."""

    def settled(self) -> None:
        """Everything has arrived: called once, without locks, so user code may run."""


class Aside(bytes):
    """A message that is not counted and never sent again."""


Packed = tuple[bytes, list[object]]
Item = m.Task | m.Request | bytes | Packed


class Requests:
    """Outstanding requests and messages to send. ``heard`` and ``next_message`` belong to one thread at a time."""

    def __init__(self, wall: Callable[[], float]) -> None:
        """``wall`` tells the time of day, for the moment a result is received."""
        self.outstanding: dict[int, Sink] = {}
        self.engines: dict[int, m.EngineInfo] = {}
        self.asked = Asked()
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
        #: what is sent next: the above, but for a client that comes back, which has to be known first
        self._ready = self._outgoing
        self._stale: dict[int, Item] = {}  #: of the above, what only concerns a controller that is gone
        self.mail: Mail | None = None  #: of a controller that waits for clients to come back
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
        header = m.encode(message)
        self._outgoing.append(Aside(header) if type(message) in UNCOUNTED else header)

    def ask(self, question: m.Query | m.Signal | m.Shutdown) -> None:
        """Send a question; what is answered stands in ``asked.answers``. Raises as ``say``."""
        self._outgoing.append(self.asked.ask(question))

    def unsent(self, tasks: Sequence[int]) -> set[int]:
        """Those of some tasks that still wait to be sent. Linear: for questions only."""
        waiting: set[int] = set()
        for item in tuple(self._outgoing):
            if type(item) is m.Task:
                waiting.add(item.id)
            elif type(item) is m.Request:
                waiting.update(range(item.task.id, item.task.id + len(item.targets)))
        return waiting.intersection(tasks)

    def unaccepted(self, tasks: Sequence[int]) -> set[int]:
        """Those of some tasks that the controller has not said to have. Linear in what is under way: for questions only.

        Where messages are not counted, what has been sent counts as accepted.
        """
        waiting = self.unsent(tasks)
        for header, _ in self.mail.kept() if self.mail is not None else ():
            message = m.decode_from_client(header)
            if type(message) is m.Submit:
                waiting.update([task.id for task in message.tasks])
            elif type(message) is m.Direct:
                for request in message.requests:
                    waiting.update(range(request.task.id, request.task.id + len(request.targets)))
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
        if self._message is None and (self._ready or self._unsent):
            self._message = self._compose()
        return self._message

    def sent(self) -> None:
        """See ``net.line.Speaker``."""
        self._message = None

    def _compose(self) -> Packed | None:
        ready = self._ready
        if ready is not self._outgoing:
            return self._go_on()
        if self._unsent:
            bodies, self._unsent = self._unsent, {}
            return self._counted(m.encode(m.Functions(bodies)), [])
        if not ready:
            return None
        kind = type(ready[0])
        if kind is Aside:
            header = ready.popleft()
            if id(header) in self._stale:
                return self._compose()
            return header, []  # type: ignore[return-value]  # see above
        if kind is bytes:
            return self._counted(ready.popleft(), [])  # type: ignore[arg-type]  # see above
        if len(ready) == 1 and kind is m.Task:  # when idle, the rule
            task = ready.popleft()
            return self._counted(m.encode(m.Submit([task])), self._frames([task]))  # type: ignore[list-item]  # see above
        items: list[Item] = []
        take, put = ready.popleft, items.append
        while ready and type(ready[0]) is kind and len(items) < MESSAGE_TASKS:
            put(take())
        if kind is m.Task:
            return self._counted(m.encode(m.Submit(items)), self._frames(items))  # type: ignore[arg-type]  # all of that kind
        frames = self._frames([item.task for item in items])  # type: ignore[union-attr]  # likewise
        return self._counted(m.encode(m.Direct(items)), frames)  # type: ignore[arg-type]  # likewise

    def _counted(self, header: bytes, frames: list[object]) -> Packed:
        if self.mail is not None:
            self.mail.keep(header, frames)
        return header, frames

    def _go_on(self) -> Packed | None:
        """The hello of one who comes back, nothing until it is answered, and then what has to be sent again."""
        ready = self._ready
        if not ready:
            return None
        item = ready.popleft()
        if not ready and type(item) is not Aside:
            self._ready = self._outgoing
        return item if type(item) is tuple else (item, [])  # type: ignore[return-value]  # nothing else is here

    def _frames(self, tasks: Sequence[object]) -> list[object]:
        if not self.frames:
            return []
        pop = self.frames.pop
        return [buffer for task in tasks for buffer in pop(task.id, ())]  # type: ignore[attr-defined]  # they are tasks

    # --- hearing ------------------------------------------------------------------------------------------------

    def heard(self, message: m.ToClient, frames: list[memoryview]) -> None:
        """Take in a message of the controller."""
        mail = self.mail
        if mail is not None and type(message) not in UNCOUNTED and mail.came(frames):
            self.say(mail.receipt())
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
            self._answered(message)
        elif type(message) is m.Missing:
            self._supply(message.digests)
        elif type(message) is m.Received:
            if mail is not None:
                mail.heard_received(message.count)
        elif type(message) is m.Welcome:
            self._welcomed(message)
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

    # --- coming back --------------------------------------------------------------------------------------------

    def come_back(self, hello: m.ClientHello) -> None:
        """There is a new connection: its first message says who this was. All else waits for the answer."""
        welcome, mail = self.welcome, self.mail
        assert welcome is not None
        assert mail is not None
        hello.client, hello.token, hello.epoch, hello.received = (
            welcome.number,
            welcome.token,
            welcome.epoch,
            mail.received,
        )
        self._message = None  # if it was a counted one, it is kept
        self._ready = deque([Aside(m.encode(hello))])

    def _welcomed(self, welcome: m.Welcome) -> None:
        before = self.welcome
        if before is not None and self._ready is self._outgoing:
            return  # nobody waits for it
        self.welcome = welcome
        engines = _by_id({info.id: info for info in welcome.engines})
        if before is None:
            self.mail = Mail() if welcome.patience else None
            self.engines = engines
            return
        assert self.mail is not None
        if welcome.durable and before.durable and not self.mail.acknowledged:
            # It was killed before it had saved that this client is there: then it has begun nothing of what is kept here.
            welcome.resumed = True
        same = welcome.resumed and welcome.epoch == before.epoch
        again = self.mail.again(welcome.received) if welcome.resumed else []
        if not same:
            self._meet_another(before, welcome, again)
            self._compare(engines)
            again = self.mail.kept()
        self._ready = deque(again) if again else self._outgoing

    def _meet_another(self, before: m.Welcome, welcome: m.Welcome, again: list[Packed]) -> None:
        """The controller is another one in the place of the one before."""
        assert self.mail is not None
        self._stale = {id(item): item for item in tuple(self._outgoing) if type(item) is Aside}
        self.mail.restart([each for each in again if type(m.decode_from_client(each[0])) in _LASTING])
        headers = [item for item in tuple(self._outgoing) if type(item) is bytes]
        followed = self.asked.followed(list(self.outstanding)) if welcome.resumed else {}
        self._outgoing.extend(self.asked.again(headers, followed))
        unsent = self.unsent(list(self.outstanding))
        asked = [number for number in list(self.outstanding) if number not in unsent and number not in followed]
        if welcome.resumed:
            # A file cut short remembers less than was promised. By the time this is answered all that it knows to have
            # ended has arrived.
            for at in range(0, len(asked), MESSAGE_TASKS):
                self.say(m.Query(UNKNOWN, "unknown", {"tasks": asked[at : at + MESSAGE_TASKS]}))
        else:
            fault = m.Fault("ConnectionLost", "ConnectionLost", FORGOTTEN.format(before.epoch, welcome.epoch))
            self.fail(asked, fault)

    def _answered(self, answer: m.Answer) -> None:
        if answer.number == UNKNOWN:
            self._are_unknown(answer.value)
        elif answer.number > UNKNOWN:
            self.asked.heard(answer)
        elif answer.error:  # there is nothing to be waited for
            kind = answer.kind or "KernelError"
            self.fail([followed_by(answer.number)], m.Fault(kind, kind, answer.error))

    def _are_unknown(self, tasks: object) -> None:
        """A controller that was restored does not know these, although another one had taken them."""
        if isinstance(tasks, list):
            fault = m.Fault("ConnectionLost", "ConnectionLost", UNREMEMBERED)
            self.fail([number for number in tasks if isinstance(number, int)], fault)

    def _compare(self, engines: dict[int, m.EngineInfo]) -> None:
        """Tell of the engines that joined or left while nobody was there to say so."""
        known = {info.uuid for info in self.engines.values()}
        present = {info.uuid for info in engines.values()}
        left = [info for info in self.engines.values() if info.uuid not in present]
        news = m.News([info for info in engines.values() if info.uuid not in known])
        news.left = [m.Departure(info.id, info.uuid, "it was not there when the controller came back") for info in left]
        self.engines = engines
        if news.joined or news.left:
            self.news.append(news)

    # --- the end ------------------------------------------------------------------------------------------------

    def fail_all(self, fault: m.Fault) -> None:
        """Nothing will come any more: everything outstanding ends with this fault."""
        self.fail(list(self.outstanding), fault)
        self._weights.clear()
        self.heavy = 0

    def fail(self, tasks: Sequence[int], fault: m.Fault) -> None:
        """Tasks that are outstanding end with this fault."""
        when = self._wall()
        for number in tasks:
            sink = self.outstanding.pop(number, None)
            self.heavy -= self._weights.pop(number, 0)
            result = m.Result(number, m.Status.LOST, b"", fault=fault)
            if sink is not None and sink.arrived(result, -1, [], when):
                self.settled.append(sink)


def _by_id(engines: dict[int, m.EngineInfo]) -> dict[int, m.EngineInfo]:
    # Ranks of an MPI job join in any order, and so does everybody who comes back to a restarted controller.
    return dict(sorted(engines.items()))
