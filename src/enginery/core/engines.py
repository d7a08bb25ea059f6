"""What the scheduler knows of one engine and of one client. No I/O."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from enginery.core.flow import Flow
from enginery.core.ledger import Ledger
from enginery.wire.messages import CLIENT_SHIFT

if TYPE_CHECKING:
    from enginery.wire.messages import EngineInfo, Task

#: Unused ranges of ids remembered for one client; past that the oldest count as used.
MAX_GAPS: Final = 1000


class EngineRecord:
    """A registered engine and the work it holds, by task id in the order sent."""

    __slots__ = (
        "asked_back",
        "balanced",
        "completed",
        "counts",
        "direct",
        "disordered",
        "functions",
        "info",
        "lanes",
        "leaving",
        "nanny",
        "paused",
        "progressed",
        "retiring",
        "stuck",
    )

    def __init__(self, info: EngineInfo, now: float) -> None:
        self.info = info
        self.balanced: dict[int, Task] = {}  #: tasks any engine might have run
        self.direct: dict[int, Task] = {}  #: tasks addressed to this engine
        self.paused: set[int] = set()  #: of these, those that it has set aside, because their clients do not read
        self.counts: dict[bytes, int] = {}  #: how many of the balanced ones call which function
        self.functions: set[bytes] = set()  #: digests of the bodies it has been sent
        self.lanes: dict[frozenset[int], None] = {}  #: restricted lanes it could serve now
        self.progressed = now  #: when a task last ended, or the first was given
        self.completed = 0  #: results received from it
        self.asked_back = False  #: a Return is under way, or was in vain
        self.disordered = False  #: it may begin balanced tasks in another order than that in which they were sent
        self.leaving = False  #: its connection is closed, and what became of it is not known yet
        self.retiring = False  #: it leaves once it has ended what it holds
        self.stuck = False  #: it was asked to hand back tasks, and no task of its has ended since
        self.nanny = -1  #: number of the nanny that watches it

    @property
    def load(self) -> int:
        """How many tasks it holds and may begin."""
        return len(self.balanced) + len(self.direct) - len(self.paused)

    def __repr__(self) -> str:
        return f"<EngineRecord {self.info.id} balanced={len(self.balanced)} direct={len(self.direct)}>"


class ClientRecord:
    """A client, and which task ids it has used."""

    __slots__ = ("connected", "flow", "gaps", "highest", "joined", "ledger", "name", "number", "session", "token")

    def __init__(self, number: int, name: str, token: str, now: float, session: str = "") -> None:
        self.number = number
        self.session = session  #: with which the message ids of its tasks begin
        self.name = name
        self.token = token
        self.joined = now
        self.connected = True
        self.flow = Flow()  #: output on its way to it
        self.ledger = Ledger()  #: how its tasks ended
        self.highest = number << CLIENT_SHIFT  #: one above the highest task id it has used
        self.gaps: list[tuple[int, int]] = []  #: ranges below that are unused yet: threads of a client overtake

    def claim(self, first: int, count: int) -> bool:
        """Use ``count`` ids from ``first`` on. False if any is outside the client's range or was used before."""
        end = first + count
        if first == self.highest and (end - 1) >> CLIENT_SHIFT == self.number:
            self.highest = end
            return True
        if first > self.highest and (end - 1) >> CLIENT_SHIFT == self.number:
            self.gaps.append((self.highest, first))
            del self.gaps[:-MAX_GAPS]
            self.highest = end
            return True
        for at, (low, high) in enumerate(self.gaps):
            if low <= first and end <= high:
                self.gaps[at : at + 1] = [gap for gap in ((low, first), (end, high)) if gap[0] < gap[1]]
                return True
        return False

    def has_used(self, task: int) -> bool:
        """Whether a task with this id was ever submitted."""
        return task < self.highest and not any(low <= task < high for low, high in self.gaps)

    def __repr__(self) -> str:
        return f"<ClientRecord {self.number} {self.name}>"
