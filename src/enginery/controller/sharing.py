"""Shared memory as the controller sees it: it tells who may use it, turns segments into frames for those who may not,
and removes what owners leave behind.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final

import msgspec

from enginery.core.sharing import put_together
from enginery.net.segments import read_segment
from enginery.wire.messages import CLIENT_SHIFT, Assign, Fault, Result, Results, Status

if TYPE_CHECKING:
    from collections.abc import Callable, Container, Iterable, Mapping

    from enginery.controller.ports import Peer
    from enginery.wire.messages import Task, ToClient, ToEngine

#: Seconds after which results that an engine left behind are removed: clients take them as soon as they arrive.
GRACE: Final = 60.0


class Sharing:
    """The segments of one cluster. Belongs to the loop's thread."""

    def __init__(self, folder: str, *, clock: Callable[[], float], release: Callable[[int, list[str]], None]) -> None:
        """``folder`` is empty where there is no shared memory. ``release`` tells an engine of segments it has back."""
        self.folder = folder
        self._clock = clock
        self._release = release
        self.read = partial(
            read_segment, folder
        )  #: gives the contents of a segment by name and size, or raises OSError
        self._in_flight: dict[int, dict[str, int]] = {}  #: sizes of segments with results, by client
        self._left_by_engines: dict[int, float] = {}
        self._left_by_clients: dict[int, list[int]] = {}

    def folder_for(self, peer: Peer) -> str:
        """What a peer's welcome says. Only a peer on this host has the folder."""
        return self.folder if peer.is_local else ""

    def results_come(self, results: Iterable[Result], clients: Container[int]) -> None:
        """Results from an engine: their segments are on the way to clients; those for nobody are given back."""
        for result in results:
            if result.shared:
                client = result.id >> CLIENT_SHIFT
                sizes = {segment.name: segment.size for segment in result.shared}
                if client in clients:
                    self._in_flight.setdefault(client, {}).update(sizes)
                elif client:  # else it is for an engine
                    self.released(sizes)

    def in_flight(self, client: int) -> int:
        """Bytes in segments that a client has not taken yet."""
        return sum(self._in_flight[client].values()) if client in self._in_flight else 0

    def released_by(self, client: int, names: Iterable[str]) -> None:
        """A client has taken results."""
        mine = self._in_flight.get(client)
        if mine is not None:
            for name in names:
                mine.pop(name, None)
            if not mine:
                del self._in_flight[client]
        self.released(names)

    def released(self, names: Iterable[str]) -> None:
        """Results have been taken: tell the engines they belong to."""
        owners: dict[int, list[str]] = {}
        for name in names:
            number = name.removeprefix("e").partition("-")[0]
            if name.startswith("e") and number.isdecimal():
                owners.setdefault(int(number), []).append(name)
        for engine, theirs in owners.items():
            self._release(engine, theirs)

    def as_frames(self, message: ToClient | ToEngine, frames: list[object]) -> tuple[ToClient | ToEngine, list[object]]:
        """A message for a peer that does not share memory (it is on another host, say): segments become frames."""
        if not self.folder:
            return message, frames
        if type(message) is Assign and any(task.shared for task in message.tasks):
            return self._assignment(message, frames)
        if type(message) is Results and any(result.shared for result in message.results):
            return self._results(message, frames)
        return message, frames

    def _assignment(self, message: Assign, frames: list[object]) -> tuple[Assign, list[object]]:
        tasks: list[Task] = []
        sent: list[object] = []
        at = 0
        for task in message.tasks:
            mine = frames[at : at + task.frames]
            at += task.frames
            if task.shared:
                try:
                    payload, mine = put_together(task, mine, self.read)
                except OSError:
                    pass  # they are on the engine's own host, or its error becomes the result
                else:
                    # A copy: should this engine die, the next one may be on this host.
                    task = msgspec.structs.replace(  # noqa: PLW2901 - in its place
                        task, payload=payload, frames=len(mine), shared=None
                    )
            tasks.append(task)
            sent += mine
        return Assign(tasks, message.direct), sent

    def _results(self, message: Results, frames: list[object]) -> tuple[Results, list[object]]:
        results: list[Result] = []
        sent: list[object] = []
        at = 0
        for original in message.results:
            result = original
            mine = frames[at : at + result.frames]
            at += result.frames
            if result.shared:
                names = [segment.name for segment in result.shared]
                # A copy: the record of the task has the original.
                result = msgspec.structs.replace(original, shared=None)
                try:
                    result.payload, mine = put_together(original, mine, self.read)
                except OSError as error:
                    result.status, result.fault, mine = Status.LOST, Fault("EngineError", "EngineError", str(error)), []
                result.frames = len(mine)
                self.released_by(original.id >> CLIENT_SHIFT, names)
            results.append(result)
            sent += mine
        return Results(message.engine, results), sent

    # --- owners that are gone -----------------------------------------------------------------------------------

    def engine_gone(self, number: int) -> None:
        """An engine has left. Clients may still be about to take its last results."""
        if self.folder:
            self._left_by_engines[number] = self._clock() + GRACE

    def client_gone(self, number: int, tasks: Mapping[int, Task]) -> None:
        """A client has left. Tasks of its own that run on need their data; results on their way to it nobody needs."""
        self.released(self._in_flight.pop(number, {}))
        if self.folder and self._files("c", number):
            theirs = [task.id for task in tasks.values() if task.shared and task.id >> CLIENT_SHIFT == number]
            self._left_by_clients[number] = theirs

    def tick(self, tasks: Mapping[int, Task]) -> None:
        """Remove what nobody will read any more. Readers keep what they have mapped."""
        for number in [number for number, ids in self._left_by_clients.items() if tasks.keys().isdisjoint(ids)]:
            del self._left_by_clients[number]
            self._remove("c", number)
        if self._left_by_engines:
            now = self._clock()
            for number in [number for number, due in self._left_by_engines.items() if due <= now]:
                del self._left_by_engines[number]
                self._remove("e", number)

    def _remove(self, kind: str, number: int) -> None:
        for path in self._files(kind, number):
            path.unlink(missing_ok=True)

    def _files(self, kind: str, number: int) -> list[Path]:
        prefix = f"{kind}{number}-"
        try:
            return [path for path in Path(self.folder).iterdir() if path.name.startswith(prefix)]
        except OSError:
            return []  # somebody has removed the folder
