"""Every message of the protocol, one typed struct each: the protocol on one page. No I/O.

Three kinds of peer dial the controller's two endpoints: clients the first, engines and nannies the second.
Each message is one msgpack header, followed by the raw frames its tasks or results own, in their order.

Rules of the room:

1. A peer's first message is its hello. It carries ``version``; the answer is ``Welcome`` or ``Refused``.
2. Task ids are integers chosen by the client inside the range its welcome granted, so every hop passes the same
   ``Task`` struct on without translating it.
3. ``payload``, ``function`` bodies and frames are opaque to the controller. Nothing here is ever unpickled by it.
4. Lists are the normal case: a sender puts everything that has accumulated for one receiver into one message.
"""

from __future__ import annotations

from enum import IntEnum
from typing import Annotated, Final

import msgspec
from msgspec import Struct

#: Version of the protocol. Peers whose hello names another one are refused with a message that names both.
VERSION: Final = 1
#: Bits of a task id below the client's number: each client may number 2**40 requests.
CLIENT_SHIFT: Final = 40


class Action(IntEnum):
    """What an engine does with a task."""

    APPLY = 0  #: call ``function`` with the packed ``(args, kwargs)``
    MAP = 1  #: call ``function`` on each packed argument tuple, return the list
    EXECUTE = 2  #: run source text in the namespace
    PUSH = 3  #: set names in the namespace
    PULL = 4  #: evaluate names or expressions
    CLEAR = 5  #: forget everything the user put into the namespace
    DEBUG = 6  #: look at the frames of a task that failed here
    FETCH = 7  #: hand out the value that was kept of the task whose id is the payload; comes in a ``Fetch``


class Status(IntEnum):
    """How a task ended."""

    OK = 0
    ERROR = 1  #: user code raised
    ABORTED = 2  #: taken back before it began, or interrupted on request
    LOST = 3  #: its engine died or left
    UNRUNNABLE = 4  #: it could never run: dependency, target, timeout, or a function nobody has


#: Kind of the fault of a task that did not find the names it refers to on its engine, and has not begun.
LACKS: Final = "lacks"
#: How many of something there are; where messages are decoded, all else is rejected.
Count = Annotated[int, msgspec.Meta(ge=0, lt=1 << 31)]
#: How many messages there were: more than that of anything else.
Tally = Annotated[int, msgspec.Meta(ge=0, lt=1 << 62)]
#: A task's id.
TaskId = Annotated[int, msgspec.Meta(ge=0, lt=1 << 62)]
#: A client's number, or -1 for none yet.
ClientNumber = Annotated[int, msgspec.Meta(gt=-2, lt=1 << (62 - CLIENT_SHIFT))]
#: An engine's id, or -1 for none in particular. (A bound of -1 itself is what C functions return for an error, and
#: msgspec takes it for one where an older error was left behind.)
EngineId = Annotated[int, msgspec.Meta(gt=-2, lt=1 << 31)]

#: A word that tells one shared memory from others.
Place = Annotated[str, msgspec.Meta(max_length=64)]


class Segment(Struct, array_like=True, frozen=True, gc=False):
    """A buffer that travels through shared memory: buffer ``index`` is ``size`` bytes of file ``name``.

    Index -1 is the payload.
    """

    index: int
    name: str
    size: int


class Dependency(Struct, array_like=True, frozen=True):
    """Ids of tasks that must have ended: all or any of them, in success, failure, or either."""

    ids: list[int]
    all: bool = True
    success: bool = True
    failure: bool = False


class Options(Struct, array_like=True):
    """What only some tasks carry. Durations are seconds.

    With ``keep`` the value stays on the engine, and the result says only what it is. ``values`` are ids of tasks whose
    kept values it uses. ``names`` are those it refers to on its engine; those it sets if it is a push.
    """

    targets: list[int] | None = None
    after: Dependency | None = None
    follow: Dependency | None = None
    timeout: float | None = None  #: how long unmet dependencies may keep it waiting
    retries: int = 0
    label: str = ""
    priority: int = 0
    time_limit: float | None = None  #: how long it may run
    keep: bool = False
    names: list[str] | None = None
    values: list[TaskId] | None = None


class Task(Struct, array_like=True, gc=False):
    """One unit of work as it travels from client to engine.

    ``function`` is the digest of a function sent by ``Functions`` (empty for actions that need none),
    ``payload`` the packed arguments; ``frames`` raw frames and ``shared`` segments hold its large buffers.
    """

    id: TaskId
    action: int
    function: bytes
    payload: bytes
    frames: Count = 0
    options: Options | None = None
    shared: list[Segment] | None = None


class Fault(Struct, array_like=True, gc=False):
    """An exception in words: its class name, its text, the formatted traceback, and who noticed it.

    ``kind`` is ``"remote"`` for exceptions of user code, else the name of the class in ``enginery.errors``
    that the client shall raise.
    """

    kind: str
    ename: str
    evalue: str
    traceback: str = ""


class Result(Struct, array_like=True, gc=False):
    """How one task ended. Times are seconds since the epoch by the engine's clock."""

    id: TaskId
    status: int
    payload: bytes
    frames: Count = 0
    started: float = 0.0
    finished: float = 0.0
    fault: Fault | None = None
    shared: list[Segment] | None = None


class Output(Struct, array_like=True, gc=False):
    """Something a task said while it ran.

    ``kind`` is stdout, stderr, display, update, result, clear, error or data. Streams use ``text``; the others carry a
    msgpack-encoded mapping in ``data``: for display, update and result ``{"data": mimebundle, "metadata": …}``, with
    ``transient`` (which may name a ``display_id``) or ``execution_count``; for clear ``{"wait": bool}``; for error
    ``{"ename", "evalue", "traceback"}``; for data a packed value, ``[head, buffers]``, for each name.
    """

    task: int
    kind: str
    text: str = ""
    data: bytes = b""


class EngineInfo(Struct, frozen=True):
    """Who an engine is."""

    id: int
    uuid: str
    pid: int
    host: str
    engine_set: str = ""  #: those that one launcher started together


# --- from clients -------------------------------------------------------------------------------------------------


class Hello(Struct):
    """What is common to first words: ``key`` shows, on this host, that the speaker may come in. It is never printed."""

    def __repr__(self) -> str:
        told = [f"{name}={getattr(self, name)!r}" for name in self.__struct_fields__ if name != "key"]
        return f"{type(self).__name__}({', '.join(told)})"


class ClientHello(Hello, tag="client-hello"):
    """First words of a client.

    What follows ``user`` is set when it comes back after a lost connection: who it is, which controller it knew, and
    how many messages that must arrive exactly once it has got from it.
    """

    version: int
    session: str
    pid: int
    host: str
    user: str
    client: ClientNumber = -1
    token: str = ""
    epoch: int = 0
    received: Tally = 0
    key: str = ""


class Functions(Struct, tag="functions"):
    """Bodies of functions by digest: from a client ahead of first use, to an engine ahead of first use."""

    bodies: dict[bytes, bytes]


class Submit(Struct, tag="submit"):
    """Balanced tasks: any engine may run them."""

    tasks: list[Task]


class Request(Struct, array_like=True, gc=False):
    """A task for each of ``targets``. The copy for target number *i* has the id ``task.id + i``."""

    targets: list[int]
    task: Task


class Direct(Struct, tag="direct"):
    """Requests addressed to engines, run by each in the order sent."""

    requests: list[Request]


class Abort(Struct, tag="abort"):
    """Take tasks back; with ``interrupt`` also those that run. To the controller, and on to engines."""

    ids: list[int]
    interrupt: bool = False


class Query(Struct, tag="query"):
    """A question to the controller; the ``Answer`` has the same number. Arguments are plain values."""

    number: int
    name: str
    arguments: dict[str, object] = {}


class Signal(Struct, tag="signal"):
    """Deliver a signal (a number or a name such as SIGINT) to engines, through their nannies."""

    number: int
    targets: list[int]
    signal: int | str


class Shutdown(Struct, tag="shutdown"):
    """Stop engines (or restart them), and the controller too if ``controller``.

    With ``finish``, engines end what they have begun first, and hand back the rest.
    """

    number: int
    targets: list[int]
    restart: bool = False
    controller: bool = False
    finish: bool = False


class Release(Struct, tag="release"):
    """Shared segments the sender has let go of."""

    names: list[str]


class Forget(Struct, tag="forget"):
    """Kept values that nobody will ask for any more, by the ids of their tasks."""

    values: list[TaskId]


class Shares(Struct, tag="shares"):
    """The sender has found the folder of shared segments that its welcome names. Until it says so, it gets frames.

    From another host it means the folder of that host, where engines find what is relayed to nannies. ``place`` is a word
    that stands in it: to an engine, every nanny that says the same may relay; without one, only that which watches it.
    """

    place: Place = ""


class Ping(Struct, tag="ping"):
    """Are you there? Answered by ``Pong`` with the same number. Either side may ask."""

    number: int


class Pong(Struct, tag="pong"):
    """I am here."""

    number: int


class Received(Struct, tag="received"):
    """So many messages that must arrive exactly once have come (and are saved, where the controller saves them)."""

    count: Tally


class Bye(Struct, tag="bye"):
    """The sender leaves, and why."""

    reason: str = ""


# --- from engines and nannies -------------------------------------------------------------------------------------


class EngineHello(Hello, tag="engine-hello"):
    """First words of an engine. ``uuid`` names this incarnation.

    ``id`` is wanted by returners. A ``rank`` wants its place among the ranks of ``engine_set``. What follows is set when
    it comes back after a lost connection: which controller it knew, the number of this connection (the first is 0), how
    many messages that must arrive exactly once it has got, and the tasks it holds: queued, running, and ended with
    results that the controller may not have.
    """

    version: int
    uuid: str
    pid: int
    host: str
    id: EngineId = -1
    holding: list[int] = []
    engine_set: str = ""
    rank: EngineId = -1
    epoch: int = 0
    connection: Count = 0
    received: Tally = 0
    key: str = ""


class Done(Struct, tag="done"):
    """Results, in the order the tasks ended."""

    results: list[Result]


class Said(Struct, tag="said"):
    """Output, in program order; sent before the results of the tasks that made it."""

    outputs: list[Output]


class Returned(Struct, tag="returned"):
    """Tasks handed back unbegun, in answer to ``Return`` or because of ``Hold``."""

    ids: list[int]


class Paused(Struct, tag="paused"):
    """Tasks addressed to the engine that it does not begin for now, because of ``Hold``."""

    ids: list[int]


class Holds(Struct, tag="holds"):
    """What the engine has now: kept values, with their sizes in bytes; watched names; and watched names it has not."""

    values: dict[TaskId, int] = {}
    names: list[str] = []
    lacks: list[str] = []


class Want(Struct, tag="want"):
    """Kept values of other engines that tasks here use. Each comes in ``Results``, under the id of its task."""

    values: list[TaskId]


class Missing(Struct, tag="missing"):
    """Functions the sender has been asked to run or forward but does not have."""

    digests: list[bytes]


class Relayed(Struct, tag="relayed"):
    """From a nanny: so many bytes of what is relayed to it have come. Once all have, ``name`` is that of the segment.

    -1 if there is no room for it.
    """

    number: int
    arrived: int
    name: str = ""


class NannyHello(Hello, tag="nanny-hello"):
    """First words of the process that watches engines."""

    version: int
    pid: int
    host: str
    engines: list[str]
    key: str = ""


class EngineExited(Struct, tag="engine-exited"):
    """An engine process is gone. ``code`` is negative for a signal, as in ``subprocess``.

    ``balanced`` and ``direct`` are the ids of the last task of each kind it had begun (-1: none), so that what it
    had only queued can run elsewhere without counting as an attempt. ``expected`` says that somebody asked for its
    end, or that it goes with its host; ``restarting`` that it is started anew.
    """

    uuid: str
    pid: int
    code: int
    balanced: int = -1
    direct: int = -1
    note: str = ""
    restarting: bool = False
    expected: bool = False


# --- from the controller ------------------------------------------------------------------------------------------


class Welcome(Struct, tag="welcome"):
    """Accepted. ``number`` is the client's number or the engine's id; ``period`` the heartbeat in seconds.

    ``resumed`` tells one who comes back that it is known, and that ``received`` of its messages have come: it sends
    the others again. To somebody who is not, everything it had asked for or held before is lost.
    """

    number: int
    token: str
    epoch: int
    period: float
    window: int = 0  #: bytes a client may have outstanding
    runtime: str = ""  #: folder of shared segments, empty where there is none
    engines: list[EngineInfo] = []
    scheme: str = ""  #: how balanced tasks find their engines
    patience: float = 0.0  #: seconds in which one whose connection is lost may come back; 0: not at all
    returns: bool = False  #: another controller may take the place of this one, under the same addresses and keys
    durable: bool = False  #: what the controller says it has received is saved
    resumed: bool = False
    received: Tally = 0


class Refused(Struct, tag="refused"):
    """Not accepted; the connection is of no further use. ``kind`` names a class in ``enginery.errors``."""

    kind: str
    reason: str


class Assign(Struct, tag="assign"):
    """Tasks for an engine; ``direct`` ones go before balanced ones it has not begun."""

    tasks: list[Task]
    direct: bool = False


class Fetch(Struct, tag="fetch"):
    """Hand out kept values, even while a task runs."""

    tasks: list[Task]


class Watch(Struct, tag="watch"):
    """Say which of these names you have, now and whenever that changes; ``stop`` to do so for some."""

    names: list[str]
    stop: list[str] = []


class Return(Struct, tag="return"):
    """Hand back up to ``count`` balanced tasks you have not begun: another engine is idle."""

    count: int


class Hold(Struct, tag="hold"):
    """Begin nothing for these clients, which do not read their results. The next one takes the place of this one.

    Balanced tasks of theirs are handed back, those addressed to you wait (``Paused``).
    """

    clients: list[ClientNumber]


class Results(Struct, tag="results"):
    """Results for a client, all from ``engine`` (-1: from the controller itself); to an engine: the values it wants."""

    engine: int
    results: list[Result]


class Outputs(Struct, tag="outputs"):
    """Output for a client, all from ``engine``."""

    engine: int
    outputs: list[Output]


class Departure(Struct, array_like=True):
    """An engine that left, in words. Its ``id`` is -1 if it died before it had got one.

    ``crashed`` says that nobody had asked for it, ``returns`` that it is started anew. ``code`` is its exit code,
    negative for a signal; None if nobody knows.
    """

    id: EngineId
    uuid: str
    reason: str
    crashed: bool = False
    returns: bool = False
    code: int | None = None


class News(Struct, tag="news"):
    """Engines that joined or left."""

    joined: list[EngineInfo] = []
    left: list[Departure] = []


class Answer(Struct, tag="answer"):
    """The answer to a ``Query``, ``Signal`` or ``Shutdown``: a plain value, or what was wrong.

    ``kind`` names the class in ``enginery.errors`` to raise; without one it is a ValueError.
    """

    number: int
    value: object = None
    error: str = ""
    kind: str = ""


class Deliver(Struct, tag="deliver"):
    """To a nanny: send this signal to the engine with this uuid."""

    uuid: str
    signal: int | str


class Restart(Struct, tag="restart"):
    """To a nanny: stop the engine with this uuid and start it anew. ``reason`` goes into the words about its end."""

    uuid: str
    reason: str = ""


class Relay(Struct, tag="relay"):
    """To a nanny: a buffer that several engines of its host are to find in shared memory.

    The one frame is a portion of its ``size`` bytes and begins at ``at``.
    """

    number: int
    size: Tally
    at: Tally


FromClient = (
    ClientHello
    | Functions
    | Submit
    | Direct
    | Abort
    | Query
    | Signal
    | Shutdown
    | Release
    | Forget
    | Shares
    | Ping
    | Pong
    | Received
    | Bye
)
FromEngine = (
    EngineHello
    | Done
    | Said
    | Returned
    | Paused
    | Missing
    | Holds
    | Want
    | Relayed
    | NannyHello
    | EngineExited
    | Release
    | Shares
    | Ping
    | Pong
    | Received
    | Bye
)
ToClient = Welcome | Refused | Results | Outputs | News | Missing | Answer | Release | Ping | Pong | Received | Bye
ToEngine = (
    Welcome
    | Refused
    | Functions
    | Assign
    | Fetch
    | Results
    | Watch
    | Forget
    | Return
    | Hold
    | Abort
    | Release
    | Relay
    | Deliver
    | Restart
    | Shutdown
    | Ping
    | Pong
    | Received
    | Bye
)

#: What decoding garbage may raise.
UNDECODABLE: Final = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)

encode = msgspec.msgpack.Encoder().encode
decode_from_client = msgspec.msgpack.Decoder(FromClient).decode
decode_from_engine = msgspec.msgpack.Decoder(FromEngine).decode
decode_to_client = msgspec.msgpack.Decoder(ToClient).decode
decode_to_engine = msgspec.msgpack.Decoder(ToEngine).decode
