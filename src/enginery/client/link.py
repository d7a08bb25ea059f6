"""What a client asks of the controller, and how long it has to wait before it may ask for more.

Every thread of the user's process may use a link at the same time.
"""

from __future__ import annotations

import itertools
import threading
from typing import TYPE_CHECKING, Final

from enginery.client.connection import Connection
from enginery.core.requests import OVERHEAD
from enginery.errors import ConnectionLost, KernelError, NoRecord
from enginery.wire import messages as m

if TYPE_CHECKING:
    from collections.abc import Sequence

    from enginery.core.requests import Sink
    from enginery.net.connection_file import ConnectionInfo
    from enginery.wire.callables import PackedFunction

#: Ids taken at once for single tasks.
ID_BLOCK: Final = 4096
#: Bytes outstanding until the controller has said how much it allows.
FIRST_WINDOW: Final = 64 << 20
#: Tasks taken back by one message: to end them takes the controller's time, and others want their turn.
MOST_ABORTS: Final = 5_000
#: What an answer may raise besides ValueError.
_KINDS: Final[dict[str, type[Exception]]] = {"NoRecord": NoRecord, "KernelError": KernelError}


class Link(Connection):
    """One client's connection, and what is asked over it. Thread-safe."""

    def __init__(self, info: ConnectionInfo, session: str = "") -> None:
        """Use ``Link.connect``."""
        self._lock = threading.Lock()
        self._next_id = 0
        self._numbers = itertools.count(1)
        self._most_tasks = FIRST_WINDOW // OVERHEAD
        self._window = FIRST_WINDOW
        self._single_ids = iter(range(0))
        #: The thread that is going to wait for what it submits: waiting sends, so that submitting need not.
        self.about_to_wait = 0
        super().__init__(info, session)

    def _settle_in(self, welcome: m.Welcome) -> None:
        """Take over what a controller says of itself."""
        super()._settle_in(welcome)
        self._window = welcome.window or FIRST_WINDOW
        self._most_tasks = self._window // OVERHEAD
        if not self._next_id:
            self._next_id = welcome.number << m.CLIENT_SHIFT

    # --- asking -------------------------------------------------------------------------------------------------

    def take_ids(self, count: int) -> int:
        """The first of ``count`` consecutive task ids that nobody else will use."""
        with self._lock:
            first = self._next_id
            self._next_id = first + count
        return first

    def take_id(self) -> int:
        """A task id that nobody else will use."""
        # Iterators over ranges are advanced atomically, and without the price of a lock.
        number = next(self._single_ids, None)
        while number is None:
            first = self.take_ids(ID_BLOCK)
            self._single_ids = iter(range(first, first + ID_BLOCK))
            number = next(self._single_ids, None)
        return number

    def submit(
        self, task: m.Task, buffers: list[memoryview], sink: Sink, function: PackedFunction | None = None
    ) -> None:
        """Submit a balanced task. Blocks while as many bytes are outstanding as the controller allows.

        Raises ConnectionLost if there is no connection any more.
        """
        # Hot: once per task. Bench: no-op tasks.
        requests, lost = self._requests, self._lost
        if lost is not None:
            raise ConnectionLost(lost)
        if function is not None and function.digest not in requests.bodies:
            requests.introduce(function.digest, function.body)
        outstanding = len(requests.outstanding)
        if outstanding >= self._most_tasks or requests.heavy >= self._window or (buffers and self._has_lent_much()):
            self._wait_for_room()
        requests.submit(task, buffers, sink)
        # Nothing else under way: sent from here, for a hand-over to the line's thread would cost a quarter of the
        # round trip. Else that thread sends all there is when it gets its turn.
        if outstanding or requests.frames:
            self._wake()
        elif self.about_to_wait != threading.get_ident():
            self._line.flush()
        if self._lost is not None:
            self._fail_late()

    def submit_many(
        self, tasks: list[m.Task], buffers: list[list[memoryview]], sink: Sink, function: PackedFunction | None = None
    ) -> None:
        """Submit balanced tasks of one sink; ``buffers`` is empty or has a list for each. Blocks as ``submit``."""
        requests, lost = self._requests, self._lost
        if lost is not None:
            raise ConnectionLost(lost)
        if function is not None and function.digest not in requests.bodies:
            requests.introduce(function.digest, function.body)
        if len(requests.outstanding) >= self._most_tasks or requests.heavy >= self._window:
            self._wait_for_room()
        if any(buffers):
            for task, mine in zip(tasks, buffers, strict=True):
                if requests.heavy >= self._window or self._has_lent_much():
                    self._wake()  # what makes room is among those before
                    self._wait_for_room()
                requests.submit(task, mine, sink)
        else:
            requests.submit_many(tasks, sink)
        self._wake()
        if self._lost is not None:
            self._fail_late()

    def submit_direct(
        self,
        targets: list[int],
        task: m.Task,
        buffers: list[memoryview],
        sink: Sink,
        function: PackedFunction | None = None,
    ) -> None:
        """Address a task to each of ``targets``; the ids are ``task.id`` and those that follow, in their order."""
        requests, lost = self._requests, self._lost
        if lost is not None:
            raise ConnectionLost(lost)
        if function is not None and function.digest not in requests.bodies:
            requests.introduce(function.digest, function.body)
        if (
            len(requests.outstanding) >= self._most_tasks
            or requests.heavy >= self._window
            or (buffers and self._has_lent_much())
        ):
            self._wait_for_room()
        outstanding = len(requests.outstanding)
        requests.submit_request(m.Request(targets, task), buffers, sink)
        if outstanding or requests.frames:
            self._wake()
        elif self.about_to_wait != threading.get_ident():
            self._line.flush()
        if self._lost is not None:
            self._fail_late()

    def forget(self, values: list[int]) -> None:
        """Kept values that nobody here has a handle of any more. Called by finalizers, in any thread, under any lock."""
        if self._lost is None:
            self._requests.say(m.Forget(values))
            self._wake()

    def abort(self, ids: list[int], *, interrupt: bool = False) -> None:
        """Take tasks back; with ``interrupt`` also those that run."""
        for at in range(0, len(ids), MOST_ABORTS):
            self._requests.say(m.Abort(ids[at : at + MOST_ABORTS], interrupt))
        self._wake()

    def ask(self, name: str, arguments: dict[str, object] | None = None, timeout: float | None = None) -> object:
        """Ask the controller a question.

        Raises TimeoutError, ConnectionLost, or ValueError with the controller's words if the question is wrong.
        """
        return self._answer(m.Query(next(self._numbers), name, arguments or {}), timeout)

    def signal(self, targets: list[int], sig: int | str, timeout: float | None = None) -> None:
        """Have a signal delivered to engines. Raises as ``ask``."""
        self._answer(m.Signal(next(self._numbers), targets, sig), timeout)

    def shutdown(
        self,
        targets: list[int],
        *,
        restart: bool = False,
        controller: bool = False,
        finish: bool = False,
        timeout: float | None = None,
    ) -> None:
        """Stop engines or start them anew, and stop the controller too if ``controller``. Raises as ``ask``.

        With ``finish``, engines end what they have begun first; what they have not begun runs elsewhere.
        """
        self._answer(m.Shutdown(next(self._numbers), targets, restart, controller, finish), timeout)

    def _answer(self, question: m.Query | m.Signal | m.Shutdown, timeout: float | None) -> object:
        if self._lost is not None:
            raise ConnectionLost(self._lost)
        asked, number = self._requests.asked, question.number
        try:
            self._requests.ask(question)
            self._wake()  # another thread may be the one that drives, and has nothing to send
            if not self.wait_for(lambda: asked.answers[number] is not None, timeout):
                msg = f"The controller did not answer {type(question).__name__.lower()} within {timeout:g} s."
                raise TimeoutError(msg)
        finally:
            answer = asked.done(number)
        assert answer is not None
        if answer.error:
            raise _KINDS.get(answer.kind, ValueError)(answer.error)
        return answer.value

    # --- what is outstanding ------------------------------------------------------------------------------------

    @property
    def outstanding(self) -> int:
        """How many results have not arrived."""
        return len(self._requests.outstanding)

    def is_outstanding(self, task: int) -> bool:
        """Whether the result of a task has not arrived."""
        return task in self._requests.outstanding

    def outstanding_ids(self) -> list[int]:
        """Ids of the tasks whose results have not arrived."""
        return list(self._requests.outstanding)

    def unsent(self, tasks: Sequence[int]) -> set[int]:
        """Those of some tasks that cannot leave this process at the moment."""
        self._line.flush()
        return self._requests.unsent(tasks)

    def unaccepted(self, tasks: Sequence[int]) -> set[int]:
        """Those of some tasks that the controller may not have; one that is durable has saved what it has."""
        return self._requests.unaccepted(tasks)

    def divert(self, tasks: Sequence[int], sink: Sink) -> None:
        """Have what still comes for some tasks go to another sink."""
        with self._line.lock:
            outstanding = self._requests.outstanding
            outstanding.update((task, sink) for task in tasks if task in outstanding)

    def expect(self, tasks: Sequence[int], sink: Sink) -> None:
        """Have what comes under some ids go to a sink: they are about to be asked for by a question.

        Raises ConnectionLost if there is no connection any more.
        """
        if self._lost is not None:
            raise ConnectionLost(self._lost)
        self._requests.outstanding.update(dict.fromkeys(tasks, sink))

    def follow(self, texts: dict[int, str]) -> None:
        """Have tasks of others, by the ids under which they are expected, waited for at a restored controller, too."""
        self._requests.asked.follow(texts, self._requests.outstanding)

    def expect_no_more(self, tasks: Sequence[int]) -> None:
        """The question was in vain."""
        for task in tasks:
            self._requests.outstanding.pop(task, None)

    def _wait_for_room(self) -> None:
        """Back-pressure. The line's own thread never waits here: it is the one that makes room."""
        requests = self._requests
        if self._line.is_own_thread:
            return
        tasks, window = self._most_tasks * 9 // 10, self._window * 9 // 10
        self.wait_for(
            lambda: len(requests.outstanding) <= tasks and requests.heavy <= window and not self._has_lent_much()
        )

    def _has_lent_much(self) -> bool:
        return self._sharing.lent >= self._sharing.most_lent
