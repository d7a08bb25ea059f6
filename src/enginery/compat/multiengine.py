"""MultiEngineClient: engines by name, as the first generation drove them."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from enginery.client.client import Client
from enginery.client.result import AsyncResult
from enginery.compat.connecting import connected
from enginery.compat.pending import PendingResult, ResultList, executed

#: How many calls of ``execute`` are kept for ``get_result``.
KEPT = 1000
_SHELL = {"In", "Out", "engine_id", "exit", "get_ipython", "open", "quit"}


class MultiEngineClient:
    """Does on all engines, or on ``targets``, what it is told, and waits for it unless ``block`` is False.

    Every call gives a list, with one value for each engine; without waiting, a PendingResult. As safe for threads as
    Client is. ``block`` and ``targets`` are what holds where a call does not say.
    """

    def __init__(self, furl_path: str | Path | Mapping[str, Any] | Client | None = None, **options: Any) -> None:
        """Connect as ``Client(furl_path, **options)`` does. A ``.furl`` path means the JSON file in the same folder."""
        self.client = connected(furl_path, options)
        self.block = True
        self.targets: Any = "all"
        self._view = self.client.direct_view("all")
        self._executed: deque[PendingResult] = deque(maxlen=KEPT)

    def get_ids(self) -> list[int]:
        """The ids of the engines."""
        return list(self.client.ids)

    def execute(self, lines: str, targets: Any = None, block: bool | None = None) -> Any:
        """Run source text. Gives a ResultList, which shows what each engine printed."""
        result = self._view.execute(lines, silent=False, targets=self._at(targets), block=False)
        pending = PendingResult(result, executed(lines, result))
        self._executed.append(pending)
        return self._wanted(pending, block)

    def get_result(self, i: int | None = None, targets: Any = None, block: bool | None = None) -> Any:
        """What the last ``execute`` of this client did; with ``i``, the one that has this number on an engine.

        Raises IndexError if there is none.
        """
        if i is None and targets is None:
            if not self._executed:
                raise IndexError("This client has executed nothing yet.")
            return self._wanted(self._executed[-1], block)
        engines, _ = self.client.resolve(self._at(targets))
        every = [row for pending in self._executed for row in pending.r if row["id"] in engines]
        newest = {row["id"]: row for row in every if i in {None, row["number"]}}
        if not newest:
            raise IndexError(f"Nothing that this client executed has number {i} on engines {list(engines)}.")
        return ResultList(newest[each] for each in sorted(newest))

    def push(self, namespace: Mapping[str, Any], targets: Any = None, block: bool | None = None) -> Any:
        """Set names on engines."""
        return self._pending(self._view.push(dict(namespace), targets=self._at(targets), block=False), block)

    def pull(self, keys: str | Iterable[str], targets: Any = None, block: bool | None = None) -> Any:
        """The values of a name, or lists of them for several names."""
        names = keys if isinstance(keys, str) else list(keys)
        return self._pending(self._view.pull(names, targets=self._at(targets), block=False), block)

    def push_function(self, namespace: Mapping[str, Any], targets: Any = None, block: bool | None = None) -> Any:
        """Set functions on engines. Values and functions travel alike today."""
        return self.push(namespace, targets, block)

    def pull_function(self, keys: str | Iterable[str], targets: Any = None, block: bool | None = None) -> Any:
        """Functions of engines."""
        return self.pull(keys, targets, block)

    def scatter(
        self, key: str, seq: Any, dist: str = "b", flatten: bool = False, targets: Any = None, block: Any = None
    ) -> Any:
        """Give each engine a part of ``seq`` as ``key``; with ``flatten``, a part of one item is that item."""
        result = self._view.scatter(key, seq, dist, flatten, targets=self._at(targets), block=False)
        return self._pending(result, block)

    def gather(self, key: str, dist: str = "b", targets: Any = None, block: bool | None = None) -> Any:
        """The parts of ``key`` as one sequence."""
        return self._pending(self._view.gather(key, dist, targets=self._at(targets), block=False), block)

    def map(self, func: Callable[..., Any], *sequences: Any) -> Any:
        """``list(map(func, *sequences))``, each engine doing its part. Waits."""
        targets = self._at(None)
        view = self._view if targets == "all" else self.client.direct_view(targets)
        return view.map_sync(func, *sequences)

    def keys(self, targets: Any = None, block: bool | None = None) -> Any:
        """The names that are set on each engine."""
        expression = f"sorted(name for name in globals() if name[0] != '_' and name not in {_SHELL!r})"
        return self.pull(expression, targets, block)

    def reset(self, targets: Any = None, block: bool | None = None) -> Any:
        """Forget all names on engines."""
        return self._pending(self._view.clear(targets=self._at(targets), block=False), block)

    def kill(self, controller: bool = False, targets: Any = None, block: bool | None = None) -> None:
        """Stop engines; with ``controller`` all of them and the controller."""
        self.client.shutdown(self._at(targets), hub=controller, block=self.block if block is None else block)

    def queue_status(self, targets: Any = None) -> list[tuple[int, dict[str, int]]]:
        """How much each engine has to do and has done: pairs of its id and counts."""
        engines, _ = self.client.resolve(self._at(targets))
        status = self.client.queue_status(list(engines))
        return [(each, status[each]) for each in engines]

    def barrier(self, pending: Iterable[PendingResult] | None = None) -> None:
        """Wait for these results, or for all that this client has asked for."""
        self.client.wait(None if pending is None else [each.result for each in pending])

    def flush(self) -> None:
        """Forget what ``get_result`` would find."""
        self._executed.clear()

    def activate(self) -> None:
        """Let ``%px`` and its family use these engines."""
        self._view.activate()

    def __getitem__(self, key: str) -> Any:
        """The values of a name, waited for."""
        return self.pull(_name(key), block=True)

    def __setitem__(self, key: str, value: Any) -> None:
        """Set a name on engines, and wait until that is done."""
        self.push({_name(key): value}, block=True)

    def __len__(self) -> int:
        return len(self.client.ids)

    def _at(self, targets: Any) -> Any:
        """Targets as a list: the first generation gave lists for single engines too."""
        chosen = self.targets if targets is None else targets
        return [chosen] if isinstance(chosen, int) else chosen

    def _pending(self, result: AsyncResult, block: bool | None) -> Any:
        return self._wanted(PendingResult(result), block)

    def _wanted(self, pending: PendingResult, block: bool | None) -> Any:
        return pending.r if (self.block if block is None else block) else pending


def _name(key: object) -> str:
    if not isinstance(key, str):
        raise TypeError(f"Names are text; {key!r} is not. Give engines as targets=, or use enginery.Client().")
    return key
