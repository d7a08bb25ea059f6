"""What a controller must not forget: one entry for each thing it has promised, and the pages of one turn. No I/O.

The scheduler writes when it has been given a logbook; whoever performs its actions takes the page of each turn to a
safe place and holds back what depends on it: tasks are sent to engines, and peers told that their messages have come,
once the page is saved. So a task that may have begun is known to have been given, and what was accepted is there again.

Entries are few words each, for they are written in the way of every task; frames stay raw beside them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import msgspec
from msgspec import Struct

from enginery.wire.messages import EngineInfo, Output, Result, Task

if TYPE_CHECKING:
    from enginery.core.tasks import Rare

#: Version of the entries. Those of an older one are read; of a newer one refused. From 2 on it is told what was recorded.
VERSION: Final = 2


class Began(Struct, tag="began"):
    """A controller began to write."""

    epoch: int
    version: int = 1  #: that of whoever wrote it; the first did not say so


class Joined(Struct, tag="client"):
    """A client joined. What follows ``token`` is there where a logbook was written anew from what was known."""

    number: int
    name: str
    session: str
    token: str
    highest: int = 0
    gaps: list[tuple[int, int]] = []
    endings: bytes = b""
    failed: list[int] = []


class Gone(Struct, tag="gone"):
    """A client has left, and wants nothing any more. Its tasks can still be asked for by name."""

    client: int
    name: str = ""
    session: str = ""


class Bodies(Struct, tag="bodies"):
    """Functions."""

    bodies: dict[bytes, bytes]


class Accepted(Struct, tag="accepted"):
    """Tasks were submitted; ``targets`` are the engines of those that are addressed."""

    tasks: list[Task]
    targets: list[int] | None = None


class Submitted(Struct, tag="submitted"):
    """When tasks came, for the record: those from an id on, until the next one, at so many seconds since the epoch."""

    moments: list[tuple[int, float]]


class Given(Struct, tag="given"):
    """Tasks are about to be sent to an engine."""

    engine: int
    ids: list[int]


class Returned(Struct, tag="returned"):
    """No engine has these any more, and none has begun them."""

    ids: list[int]


class Tried(Struct, tag="tried"):
    """An attempt did not end well, or its client has taken the task back: what is left to it now."""

    task: int
    retries_left: int
    deaths: int
    excluded: list[int]
    unsuited: list[int]
    attempts: list[str]
    stopping: bool
    held: bool  #: an engine still has it


class Ended(Struct, tag="ended"):
    """Tasks have ended."""

    engine: int
    results: list[Result]


class Taken(Struct, tag="taken"):
    """A client has these results."""

    ids: list[int]


class Heard(Struct, tag="heard"):
    """Tasks have said something, for their record."""

    outputs: list[Output]


class Recorded(Struct, tag="recorded"):
    """A store that lasts has the records of these; of all that have ended until here, if there is no list."""

    ids: list[int] | None = None


class Owed(Struct, tag="owed"):
    """Tasks ended on an engine, and the store has no record of them yet. Frames of each come before those of its result."""

    engine: EngineInfo | None
    tasks: list[Task | None]  #: None for what is not known any more
    results: list[Result]
    direct: list[int] = []  #: those that were addressed
    said: list[Output] = []


class Keeps(Struct, tag="keeps"):
    """An engine keeps values, of so many bytes, by the ids of their tasks."""

    engine: int
    values: dict[int, int]


class Forgot(Struct, tag="forgot"):
    """Nobody keeps these values any more."""

    values: list[int]


class Came(Struct, tag="engine"):
    """An engine joined."""

    info: EngineInfo


class Overtaken(Struct, tag="overtaken"):
    """An engine may begin tasks in another order than that in which they were given."""

    engine: int


class Left(Struct, tag="left"):
    """An engine is gone, and what became of its tasks was written before."""

    engine: int


def tried(task: int, rare: Rare, *, held: bool) -> Tried:
    """The entry about what is left to a task."""
    return Tried(
        task,
        rare.retries_left,
        rare.deaths,
        sorted(rare.excluded),
        sorted(rare.unsuited),
        list(rare.attempts),
        rare.stopping,
        held,
    )


Entry = (
    Began
    | Joined
    | Gone
    | Bodies
    | Accepted
    | Submitted
    | Given
    | Returned
    | Tried
    | Ended
    | Taken
    | Heard
    | Recorded
    | Owed
    | Keeps
    | Forgot
    | Came
    | Overtaken
    | Left
)
Page = list[tuple[Entry, list[object]]]

encode = msgspec.msgpack.Encoder().encode
decode = msgspec.msgpack.Decoder(Entry).decode


class Logbook:
    """The page that is being written. Belongs to the scheduler's thread."""

    __slots__ = ("_page",)

    def __init__(self) -> None:
        self._page: Page = []

    def note(self, entry: Entry, frames: list[object] | None = None) -> None:
        """Write an entry, with the frames that its tasks or results own."""
        self._page.append((entry, frames if frames is not None else []))

    def take(self) -> Page:
        """What was written since the last call."""
        page, self._page = self._page, []
        return page
