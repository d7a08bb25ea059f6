"""What an engine says: results, output and all else, in this order, and how much of it the controller has read. No I/O.

What is said is taken from the thread that runs user code by whoever holds the line's lock: a deque is between them. When
the connection is lost and comes back, the hello goes first and all else waits for the answer to it; then what had been
sent and has not arrived goes once more.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Any, Final

from enginery.core.mail import UNCOUNTED, Mail
from enginery.wire import messages as m

if TYPE_CHECKING:
    from collections import Counter
    from collections.abc import Sequence

#: Results put into one message at most.
MESSAGE_RESULTS: Final = 2000
#: Characters and bytes of output put into one message, more or less.
MESSAGE_OUTPUT: Final = 1 << 20
#: Characters and bytes of output after which the controller is asked whether it has read them.
ASK_EVERY: Final = 1 << 18
#: Bytes of results, but for the last one, that the controller may not have read before no further task is begun here.
MOST_UNREAD: Final = 32 << 20
#: Bytes of results after which the controller is asked whether it has read them.
ASK_RESULTS: Final = 4 << 20
#: Results below this are not counted.
HEAVY: Final = 1024
#: What is not said to another controller than the one it was meant for.
_FLEETING: Final = frozenset({m.Returned, m.Paused, m.Missing, m.Want, m.Received, m.Ping, m.Pong})


class _Same:
    """Some objects: the very same ones, not their likes."""

    __slots__ = ("_objects",)

    def __init__(self, objects: list[object]) -> None:
        self._objects = {id(each): each for each in objects}

    def __contains__(self, one: object) -> bool:
        return id(one) in self._objects


class Sayings:
    """What one engine says, and has said."""

    def __init__(self, hello: m.EngineHello) -> None:
        self._outgoing: deque[m.FromEngine | m.Result | m.Output] = deque()
        #: what is sent next: the above, but for an engine that comes back, which has to be known first
        self._ready: deque[Any] = deque([hello])
        self._stale = _Same([])  #: of what is still to be said, what only concerns a controller that is gone
        self.mail: Mail | None = None  #: of a controller that waits for engines to come back
        #: tasks given by a controller that saves them, until their results are known to be saved
        #: … and how often: one that failed may be given again before it is known that its failure is saved
        self._known: Counter[int] | None = None
        #: of these, the ones whose results are in messages under way, by the number of the message
        self._ended: deque[tuple[int, list[int]]] = deque()
        #: characters and bytes of output said so far, at the last question whether they were heard, and known as heard
        self._said = self._asked = self._heard = 0
        #: bytes of results made so far, the last one left out, at the last question whether they were read, and that may
        #: be made until an answer
        self._made = self._made_before = self._asked_made = 0
        self._room = MOST_UNREAD
        self._frames: dict[int, list[memoryview]] = {}
        self._message: tuple[bytes, list[object]] | None = None

    # --- saying -------------------------------------------------------------------------------------------------

    def say(self, message: m.FromEngine | m.Output) -> None:
        """Say something, after everything said before."""
        self._outgoing.append(message)

    def say_output(self, output: m.Output) -> None:
        """Say something a task has said. One thread at a time."""
        self._outgoing.append(output)
        self._said += len(output.text) + len(output.data)
        if self._said - self._asked >= ASK_EVERY:
            # Answered when everything before it was read; no queue on the way tells how long it is.
            self._asked = self._said
            self._outgoing.append(m.Ping(self._said))

    def has_unsent(self) -> bool:
        """Whether there is something to send."""
        return bool(self._outgoing) or bool(self._ready) or self._message is not None

    # --- whether it was read ------------------------------------------------------------------------------------

    def unheard(self) -> int:
        """How many characters and bytes of output the controller may not have read yet."""
        return self._said - self._heard

    def _weigh(self, size: int) -> None:
        """A large result is on its way. Two threads may say so at once: then a little is not counted."""
        self._made_before = self._made
        self._made += size
        if self._made - self._asked_made >= ASK_RESULTS:
            self._ask_made()

    def _ask_made(self) -> None:
        self._asked_made = self._made
        self._outgoing.append(m.Ping(-self._made))  # negative: it is not about output

    def _was_read(self, number: int) -> None:
        """The controller has answered a question whether something was read: output, or results if it is negative."""
        self._heard = max(self._heard, number)
        self._room = max(self._room, MOST_UNREAD - number)

    def _ask_whether_read(self) -> None:
        """Questions and answers that were under way are lost with the connection, and nobody says them again."""
        if self._said > self._heard:
            self._asked = self._said
            self._outgoing.append(m.Ping(self._said))
        if self._made:
            self._ask_made()

    # --- what has to arrive -------------------------------------------------------------------------------------

    def _keep_results(self, again: list[tuple[bytes, list[object]]]) -> None:
        """Of what was under way only results and what is kept are said to another controller."""
        assert self.mail is not None
        self._stale = _Same([each for each in tuple(self._outgoing) if type(each) in _FLEETING])
        self._heard = self._asked = self._said  # what another controller has not read will not be read
        decoded = [(m.decode_from_engine(header), header, frames) for header, frames in again]
        lasting = [each for each in decoded if type(each[0]) in {m.Done, m.Holds}]
        self.mail.restart([(header, frames) for _, header, frames in lasting])
        self._ended = deque(
            (at, [result.id for result in message.results])
            for at, (message, _, _) in enumerate(lasting, 1)
            if type(message) is m.Done
        )

    def _let_go(self, ids: Sequence[int]) -> None:
        """Tasks of a controller that saves them are not held here any more."""
        known = self._known
        if known is None:
            return
        for number in ids:
            if known[number] > 1:
                known[number] -= 1
            else:
                known.pop(number, None)

    # --- sending ------------------------------------------------------------------------------------------------

    def next_message(self) -> tuple[bytes, list[object]] | None:
        """See ``net.line.Speaker``: runs of results and of output leave as one message each."""
        if self._message is None and self._ready:
            self._message = self._compose()
        return self._message

    def sent(self) -> None:
        """See ``net.line.Speaker``."""
        self._message = None

    def _compose(self) -> tuple[bytes, list[object]] | None:
        ready = self._ready
        if ready is not self._outgoing:
            return self._go_on()
        kind = type(ready[0])
        if kind is not m.Result and kind is not m.Output:
            message = ready.popleft()
            if message in self._stale:
                return self._compose() if ready else None
            header = m.encode(message)
            return (header, []) if kind in UNCOUNTED else self._counted(header, [])
        if kind is m.Output:
            return self._counted(m.encode(m.Said(self._take_outputs())), [])
        if len(ready) == 1:  # when idle, the rule
            result: m.Result = ready.popleft()
            return self._done([result], [*self._frames.pop(result.id, ())])
        items: list[Any] = []
        take, put = ready.popleft, items.append
        while ready and type(ready[0]) is kind and len(items) < MESSAGE_RESULTS:
            put(take())
        frames: list[object] = []
        if self._frames:
            for item in items:
                frames += self._frames.pop(item.id, ())
        return self._done(items, frames)

    def _done(self, results: list[m.Result], frames: list[object]) -> tuple[bytes, list[object]]:
        message = self._counted(m.encode(m.Done(results)), frames)
        if self._known is not None and self.mail is not None:
            self._ended.append((self.mail.sent, [result.id for result in results]))
        return message

    def _counted(self, header: bytes, frames: list[object]) -> tuple[bytes, list[object]]:
        if self.mail is not None:
            self.mail.keep(header, frames)
        return header, frames

    def _go_on(self) -> tuple[bytes, list[object]]:
        """The hello, nothing until it is answered, and then what has to be sent again."""
        item = self._ready.popleft()
        if type(item) is m.EngineHello:
            return m.encode(item), []
        if not self._ready:
            self._ready = self._outgoing
        return item  # type: ignore[no-any-return]  # nothing else is there

    def _take_outputs(self) -> list[m.Output]:
        outgoing, size = self._outgoing, 0
        outputs: list[m.Output] = []
        while outgoing and size < MESSAGE_OUTPUT:
            output = outgoing[0]
            if type(output) is not m.Output:
                break
            size += len(output.text) + len(output.data)
            outputs.append(output)
            outgoing.popleft()
        return outputs
