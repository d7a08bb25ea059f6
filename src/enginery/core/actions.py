"""What the scheduler asks of its shell: messages for peers, gathered so that each peer gets few and large ones.

Order rule: what stands earlier in the outbox is performed earlier, and messages to one peer leave in this order.
No I/O.
"""

from __future__ import annotations

from enum import IntEnum
from typing import TYPE_CHECKING, NamedTuple

from enginery.wire.messages import Assign, Outputs, Results

if TYPE_CHECKING:
    from enginery.wire.messages import Output, Result, ToClient, ToEngine


class To(IntEnum):
    """Who a message is for."""

    CLIENT = 0
    ENGINE = 1
    NANNY = 2


class Action(NamedTuple):
    """Send ``message`` and its ``frames`` to the peer ``number`` of kind ``to``."""

    to: To
    number: int
    message: ToClient | ToEngine
    frames: list[object]


class Outbox:
    """Actions of one turn. Tasks, results and output for one peer are joined while nothing else stands between."""

    __slots__ = ("_actions", "_assigns", "_outputs", "_results")

    def __init__(self) -> None:
        self._actions: list[Action] = []
        self._assigns: dict[int, tuple[Assign, list[object]]] = {}
        self._results: dict[int, tuple[Results, list[object]]] = {}
        self._outputs: dict[int, Outputs] = {}

    def __len__(self) -> int:
        return len(self._actions)

    def send(self, to: To, number: int, message: ToClient | ToEngine, frames: list[object] | None = None) -> None:
        """Add a message; what follows for the same peer starts a message of its own."""
        if to == To.CLIENT:
            self._results.pop(number, None)
            self._outputs.pop(number, None)
        elif to == To.ENGINE:
            self._assigns.pop(number, None)
        self._actions.append(Action(to, number, message, frames if frames is not None else []))

    def assignment(self, engine: int, *, direct: bool) -> tuple[Assign, list[object]]:
        """The open batch of tasks for an engine, to which the caller appends tasks and frames."""
        batch = self._assigns.get(engine)
        if batch is None or batch[0].direct is not direct:
            batch = (Assign([], direct), [])
            self._assigns[engine] = batch
            self._actions.append(Action(To.ENGINE, engine, *batch))
        return batch

    def withdraw(self, engine: int) -> None:
        """No task that an engine was to be sent in this turn goes to it: they are about to be seen to anew.

        Otherwise it would get them all the same, and be written down as who has them.
        """
        self._assigns.pop(engine, None)
        self._actions = [
            each
            for each in self._actions
            if each.to != To.ENGINE or each.number != engine or type(each.message) is not Assign
        ]

    def results(self, client: int, engine: int) -> tuple[list[Result], list[object]]:
        """The open batch of results from one engine for a client, to which the caller appends."""
        batch = self._results.get(client)
        if batch is None or batch[0].engine != engine:
            batch = (Results(engine, []), [])
            self._results[client] = batch
            self._outputs.pop(client, None)
            self._actions.append(Action(To.CLIENT, client, *batch))
        return batch[0].results, batch[1]

    def output(self, client: int, engine: int, output: Output) -> None:
        """Add output for a client, after the results already there and before those to come."""
        batch = self._outputs.get(client)
        if batch is None or batch.engine != engine:
            batch = Outputs(engine, [])
            self._outputs[client] = batch
            self._results.pop(client, None)
            self._actions.append(Action(To.CLIENT, client, batch, []))
        batch.outputs.append(output)

    def take(self) -> list[Action]:
        """Everything asked for since the last call; the outbox is empty afterwards."""
        if not self._actions:
            return []
        actions = self._actions
        self._actions = []
        self._assigns.clear()
        self._results.clear()
        self._outputs.clear()
        return actions
