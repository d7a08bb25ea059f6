"""The engine's mind: its place in the cluster, and the tasks it holds. No I/O.

Two threads use it, the one that runs user code and the one that reads the line. What they share are deques, whose
ends are taken and given atomically. What was set aside for want of a function or a value belongs to the first of the two,
everything else to whoever holds the line's lock.

When the connection is lost and the controller can be waited for (``Welcome.patience``), the engine works on with what
it has. ``come_back`` makes the hello of the next connection. A controller that knows this engine gets again what it has
not got: the one it had before exactly that, one that was restored results only, since what they belong to is told by
the list of what is held here. One that does not know it is not told of what another one had asked for.
"""

from __future__ import annotations

from collections import Counter, deque
from typing import TYPE_CHECKING, Final

import msgspec

from enginery.core.kept import Kept
from enginery.core.mail import UNCOUNTED, Mail
from enginery.core.pauses import Pauses
from enginery.core.sayings import HEAVY, Sayings
from enginery.wire import messages as m

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

#: Tasks taken back that were not found here and are remembered for a while: they may be between two places.
KEPT_ABORTS: Final = 1000
#: Begins what stands for a kept value, where else digests of functions stand. Those are shorter.
_VALUE: Final = b"the value that was kept of task "
_OF_DATA: Final = frozenset({m.Watch, m.Forget, m.Results})


class Held(msgspec.Struct, gc=False):
    """A task an engine holds, with its raw frames. Nothing the garbage collector has to look at: it is in no circle."""

    task: m.Task
    frames: list[object]
    direct: bool


class Membership(Sayings):
    """What one engine holds."""

    def __init__(self, hello: m.EngineHello) -> None:
        super().__init__(hello)
        self._hello = hello
        self.id = -1
        self.welcome: m.Welcome | None = None
        self.refused: m.Refused | None = None
        self.leaving: str | None = None  #: why the engine has to leave
        self.direct: deque[Held] = deque()
        self.balanced: deque[Held] = deque()
        self.pauses = Pauses()
        self.bodies = Kept()
        self.aborted: set[int] = set()  #: tasks taken back while they stood here or were run
        self.running = -1
        self.interrupt = 0  #: the task to be interrupted, which ran when that was asked for; taken by the link
        #: told of shared segments of results that have been taken
        self.released: Callable[[list[str]], None] = lambda _names: None
        self._early: list[tuple[m.ToEngine, list[object]]] = []  #: what was said of data before anybody listened
        self._data: Callable[[m.ToEngine, list[object]], None] = lambda *said: self._early.append(said)
        self._come: set[bytes] = set()  #: what tasks were set aside for that is no function, and has come
        self._parked: dict[bytes, list[Held]] = {}  #: balanced tasks set aside until their function comes
        self._stalled: Held | None = None  #: a direct task that waits for something; those behind it wait, too
        self._stalled_for = b""
        self._changed: deque[bytes] = deque()  #: functions of which a task set aside has to be looked at again
        self._not_found: deque[int] = deque()

    # --- work ---------------------------------------------------------------------------------------------------

    def has_work(self) -> bool:
        """Whether there is a task to run, or a reason to leave."""
        return self.leaving is not None or (
            self._made_before <= self._room
            and bool(
                self.balanced
                or (self.direct and self._stalled is None)
                or (self._changed and (self._parked or self._stalled is not None))
            )
        )

    def take(self) -> Held | None:
        """The next task to run: direct ones first. Skips those that were taken back.

        None if there is none, or while the controller has too much to read as it is.
        """
        # Hot: once per task. Bench: no-op tasks.
        if self._made_before > self._room:
            return None
        if self._changed:
            self._look_again()
        while True:
            queue = self.direct if self.direct and self._stalled is None else self.balanced
            try:
                held = queue.popleft()
            except IndexError:  # empty, or handed back by the other thread meanwhile
                if queue is self.balanced:
                    return None
                continue
            # In this order: whoever takes it back at this moment finds it here or is found here.
            self.running = number = held.task.id
            if not self.aborted or number not in self.aborted:
                return held
            self.running = -1
            self._give_up(number)

    def park(self, held: Held) -> None:
        """The function of a task is missing: set the task aside until it comes."""
        self.running = -1
        digest = held.task.function
        is_asked_for = digest in self._parked
        if held.direct:
            self._stalled = held
            self._stalled_for = digest
        else:
            self._parked.setdefault(digest, []).append(held)
        if not is_asked_for:
            self.say(m.Missing([digest]))

    def listen(self, hear: Callable[[m.ToEngine, list[object]], None]) -> None:
        """Have ``hear`` told what the controller says of kept values and watched names, and has said so far.

        Belongs to who holds the line's lock.
        """
        self._data = hear
        for said in self._early:
            hear(*said)
        self._early.clear()

    def await_value(self, held: Held, value: int) -> None:
        """A task uses a value that was asked for: set the task aside until ``resume`` is called."""
        self.running = -1
        key = _VALUE + b"%d" % value
        if held.direct:
            self._stalled = held
            self._stalled_for = key
        else:
            self._parked.setdefault(key, []).append(held)

    def resume(self, value: int) -> None:
        """A value has come, or never will."""
        key = _VALUE + b"%d" % value
        self._come.add(key)
        self._changed.append(key)

    def _look_again(self) -> None:
        """Something has changed for tasks that were set aside: they go to the front of their queue, or are given up."""
        while self._changed:
            digest = self._changed.popleft()
            waiting: list[Held] = []
            for held in reversed(self._parked.pop(digest, [])):
                if held.task.id in self.aborted:
                    self._give_up(held.task.id)
                elif self._is_here(digest):
                    self.balanced.appendleft(held)
                else:
                    waiting.append(held)
            if waiting:
                self._parked[digest] = waiting[::-1]
            stalled = self._stalled
            if stalled is not None and (self._is_here(self._stalled_for) or stalled.task.id in self.aborted):
                self.direct.appendleft(stalled)  # if it was taken back, ``take`` sees to it
                self._stalled = stalled = None
            self._come.discard(digest)
            if digest.startswith(_VALUE):
                continue
            if waiting or (stalled is not None and self._stalled_for == digest):
                self.say(m.Missing([digest]))  # it came, and has gone again before this thread could use it

    def _is_here(self, key: bytes) -> bool:
        return key in self.bodies or key in self._come

    def finished(self, result: m.Result, buffers: list[memoryview]) -> None:
        """A task has ended."""
        if self.aborted:
            self.aborted.discard(result.id)
        if not buffers and len(result.payload) <= HEAVY:
            self._outgoing.append(result)
            return
        if buffers:
            self._frames[result.id] = buffers
        self._outgoing.append(result)
        self._weigh(len(result.payload) + sum([buffer.nbytes for buffer in buffers]))

    def _give_up(self, task: int) -> None:
        self.aborted.discard(task)
        fault = m.Fault("TaskAborted", "TaskAborted", "The task was aborted before it began.")
        self._outgoing.append(m.Result(task, m.Status.ABORTED, b"", fault=fault))

    # --- hearing ------------------------------------------------------------------------------------------------

    def heard(self, message: m.ToEngine, frames: list[object]) -> None:
        """Take in a message of the controller."""
        mail = self.mail
        if mail is not None and type(message) not in UNCOUNTED and mail.came(frames):
            self.say(mail.receipt())
        if type(message) is m.Assign:
            self._assigned(message, frames)
        elif type(message) is m.Functions:
            self._supplied(message.bodies)
        elif type(message) is m.Return:
            self._hand_back(message.count)
        elif type(message) is m.Hold:
            self._hold(message.clients)
        elif type(message) is m.Abort:
            self._abort(message.ids, interrupt=message.interrupt)
        elif type(message) is m.Fetch:
            self._fetch(message.tasks)
        elif type(message) in _OF_DATA:
            self._data(message, frames)
        elif type(message) is m.Release:
            self.released(message.names)
        elif type(message) is m.Ping:
            self.say(m.Pong(message.number))
        elif type(message) is m.Pong:
            self._was_read(message.number)
        elif type(message) is m.Welcome:
            self._welcomed(message)
        elif type(message) is m.Received:
            if mail is not None:
                mail.heard_received(message.count)
                while self._ended and self._ended[0][0] <= message.count:
                    self._let_go(self._ended.popleft()[1])
        elif type(message) is m.Refused:
            self.refused = message
            self.leaving = f"the controller refused it: {message.reason}"
        elif type(message) is m.Shutdown:
            self.leaving = "it was asked to shut down"
        elif type(message) is m.Bye:
            self.leaving = message.reason or "the controller has left"

    def _assigned(self, assign: m.Assign, frames: list[object]) -> None:
        direct = assign.direct
        if self._known is not None:
            self._known.update([task.id for task in assign.tasks])
        queue = self.direct if direct else self.balanced
        if not frames:
            none: list[object] = []
            tasks = [Held(task, none, direct) for task in assign.tasks]
        else:
            tasks, at = [], 0
            for task in assign.tasks:
                tasks.append(Held(task, frames[at : at + task.frames], direct))
                at += task.frames
        if direct and self.pauses.clients:
            self._pause([held for held in tasks if held in self.pauses])
            tasks = [held for held in tasks if held not in self.pauses]
        queue.extend(tasks)

    def _fetch(self, tasks: list[m.Task]) -> None:
        none: list[object] = []
        later = [held for task in tasks if (held := Held(task, none, True)) in self.pauses]
        self._pause(later)
        now = [task for task in tasks if all(task is not held.task for held in later)] if later else tasks
        if now:
            self._data(m.Fetch(now), [])

    def _hold(self, clients: Sequence[int]) -> None:
        """Begin nothing for these clients for now, and for others what was not begun for their sake."""
        for held in self.pauses.change(clients):
            if held.task.action == m.Action.FETCH:
                self._data(m.Fetch([held.task]), [])
            else:
                self.direct.append(held)
        if clients:
            self._pause(self._take_out(self.direct, self.pauses.__contains__))
            ids = [held.task.id for held in self._take_out(self.balanced, self.pauses.__contains__)]
            if ids:
                self._let_go(ids)
                self.say(m.Returned(ids))

    def _pause(self, tasks: Sequence[Held]) -> None:
        if tasks:
            self.say(m.Paused(self.pauses.put(tasks)))

    def _supplied(self, bodies: dict[bytes, bytes]) -> None:
        for digest, body in bodies.items():
            self.bodies.keep(digest, body)
        if self._parked or self._stalled is not None:
            self._changed.extend(bodies)

    def _hand_back(self, count: int) -> None:
        ids: list[int] = []
        while len(ids) < count:
            try:
                ids.append(self.balanced.pop().task.id)
            except IndexError:  # the other thread has begun the last of them
                break
        ids.reverse()
        if self._known is not None:
            self._let_go(ids)
        self.say(m.Returned(ids))

    def _abort(self, ids: Sequence[int], *, interrupt: bool) -> None:
        """Give up what is queued at once, even if another task runs; the others are left to the other thread."""
        self.aborted.update(ids)  # first, see ``take``
        taken = [*self._take_out(self.direct, self._is_aborted), *self._take_out(self.balanced, self._is_aborted)]
        queued = {*[held.task.id for held in taken], *self.pauses.remove(set(ids))}
        aside = {one.task.id: digest for digest, parked in tuple(self._parked.items()) for one in tuple(parked)}
        stalled = self._stalled
        if stalled is not None:
            aside[stalled.task.id] = self._stalled_for
        for task in ids:
            if task in queued:
                self._give_up(task)
            elif task in aside:
                self._changed.append(aside[task])
            elif task == self.running:
                if interrupt:
                    self.interrupt = task
                else:
                    self.aborted.discard(task)
            else:  # ended, handed back, or just being moved
                self._not_found.append(task)
        while len(self._not_found) > KEPT_ABORTS:
            self.aborted.discard(self._not_found.popleft())

    def _is_aborted(self, held: Held) -> bool:
        return held.task.id in self.aborted

    def _take_out(self, queue: deque[Held], condition: Callable[[Held], bool]) -> list[Held]:
        """Take tasks out of a queue of which the other thread may take the first at any time."""
        kept: list[Held] = []
        taken: list[Held] = []
        while queue:
            try:
                held = queue.pop()
            except IndexError:
                break
            (taken if condition(held) else kept).append(held)
        kept.reverse()
        queue.extend(kept)
        taken.reverse()
        return taken

    # --- coming back --------------------------------------------------------------------------------------------

    def come_back(self) -> None:
        """There is a new connection: its first message says who this was. All else waits for the answer."""
        welcome, mail, hello = self.welcome, self.mail, self._hello
        if welcome is not None and mail is not None:
            self._hello = hello = msgspec.structs.replace(
                hello,
                id=self.id,
                holding=list(self._known or ()),
                epoch=welcome.epoch,
                connection=hello.connection + 1,
                received=mail.received,
            )
        self._message = None  # if it was a counted one, it is kept
        self._ready = deque([hello])

    def _welcomed(self, welcome: m.Welcome) -> None:
        before = self.welcome
        if before is not None and self._ready is self._outgoing:
            return  # nobody waits for it
        self.welcome, self.id = welcome, welcome.number
        if before is None:
            self.mail = Mail() if welcome.patience else None
            self._known = Counter() if welcome.durable else None
            self._ready = self._outgoing
            self._heard = self._asked = self._said
            return
        assert self.mail is not None
        again: list[tuple[bytes, list[object]]] = []
        if welcome.resumed:
            again = self.mail.again(welcome.received)
        if not welcome.resumed or welcome.epoch != before.epoch:
            self._keep_results(again)
            again = self.mail.kept()
        if not welcome.resumed:
            self._forget_work()
        if not welcome.resumed or welcome.epoch != before.epoch:
            self._hold([])  # nobody has told that controller of clients that do not read
        self._ready = deque(again) if again else self._outgoing
        self._ask_whether_read()
        if welcome.epoch != before.epoch and (self._parked or self._stalled is not None):
            self._ask_anew()

    def _ask_anew(self) -> None:
        """Nobody remembers what was asked for."""
        for key in {*self._parked, *([self._stalled_for] if self._stalled is not None else [])}:
            self.say(m.Want([int(key.removeprefix(_VALUE))]) if key.startswith(_VALUE) else m.Missing([key]))

    def _forget_work(self) -> None:
        """What another controller gave is not begun any more. What runs, runs on, and its result has nobody to go to."""
        held = [*self.direct, *self.balanced, *(one for parked in self._parked.values() for one in parked)]
        if self._stalled is not None:
            held.append(self._stalled)
        self._abort([*[one.task.id for one in held], *self.pauses.ids()], interrupt=False)
        self._known = Counter() if self.welcome is not None and self.welcome.durable else None
        self._ended.clear()
