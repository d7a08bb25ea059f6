"""Engines addressed by id: DirectView.

An int target means one engine and plain results; a list of ids, or 'all', means lists of results, one per engine in the
order of the targets. 'all' is looked up at each call, so engines that join later take part.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from enginery.client import partition
from enginery.client.active import register
from enginery.client.kept import keep
from enginery.client.map_result import AsyncMapResult
from enginery.client.mirror_imports import mirrored_imports
from enginery.client.needs import MENTION, with_needs
from enginery.client.result import AsyncResult, as_execute_reply
from enginery.client.view import View
from enginery.wire.callables import PackedFunction, pack_function
from enginery.wire.library import use_cloudpickle, use_dill, use_pickle
from enginery.wire.messages import Action, Options, Task
from enginery.wire.serialize import pack, pack_call

if TYPE_CHECKING:
    from enginery.client.functions import ParallelFunction


class DirectView(View):
    """A view of one engine, of several, or of all. Thread-safe.

    It is a mapping as well: ``view["a"] = 1`` sets a name on its engines, ``view["a"]`` reads it.
    """

    # --- calling functions ----------------------------------------------------------------------------------------

    def apply_async(self, f: Callable[..., Any], /, *args: Any, **kwargs: Any) -> AsyncResult:
        """Call ``f(*args, **kwargs)`` on every target; return the AsyncResult at once.

        Raises IndexError for a target that is not there, NoEnginesRegistered if no engine is, and SerializationError for
        what cannot be sent.
        """
        function = pack_function(f)
        payload, buffers = pack_call(args, kwargs)
        prepare = _prepare_keep if self.keep else None
        return self._request(Action.APPLY, payload, buffers, function=function, name=function.name, prepare=prepare)

    def map(
        self,
        f: Callable[..., Any],
        /,
        *sequences: Any,
        block: bool | None = None,
        track: bool = False,  # noqa: ARG002 - kept for programs that pass it
        return_exceptions: bool = False,
        label: str | None = None,
    ) -> Any:
        """Call ``f`` item by item, each engine taking one contiguous share. The shortest sequence decides.

        Iterators are read to their end first. Returns the list of results, or an AsyncMapResult unless it blocks.
        An item that raises fails its engine's whole share, unless ``return_exceptions`` keeps errors as items.
        """
        if not sequences:
            raise TypeError("map() needs at least one sequence to take items from.")
        function = pack_function(f)
        items = list(zip(*sequences, strict=False))
        ids, _ = self.client.resolve(self.targets)
        shares = [share for share in partition.partition(items, len(ids)) if share]
        return_exceptions = return_exceptions and not self.keep  # what is kept is not looked at
        packed = [pack({"items": share, "return_exceptions": return_exceptions}) for share in shares]
        result = AsyncMapResult(
            self.client,
            self.client.link.take_ids(len(shares)),
            function.name,
            count=len(shares),
            sizes=None if self.keep else [len(share) for share in shares],
            return_exceptions=return_exceptions,
            targets=ids[: len(shares)],
        )
        if self.keep:
            _prepare_keep(result)
        self._send_each(Action.MAP, result, packed, function, label)
        return self._wanted(result, block)

    def _call_on_parts(
        self, f: Callable[..., Any], sequences: tuple[Any, ...], function: ParallelFunction
    ) -> AsyncMapResult:
        packed_function = pack_function(f)
        ids, _ = self.client.resolve(self.targets)
        count = max(1, min(len(ids), len(sequences[0])))
        cut = [partition.partition(sequence, count, function.dist) for sequence in sequences]
        result = AsyncMapResult(
            self.client,
            self.client.link.take_ids(count),
            packed_function.name,
            count=count,
            sizes=[len(part) for part in cut[0]],
            return_exceptions=function.return_exceptions,
            join=partial(partition.join, dist=function.dist),
            targets=ids[:count],
        )
        packed = [pack_call(parts, {}) for parts in zip(*cut, strict=True)]
        self._send_each(Action.APPLY, result, packed, packed_function, None)
        return result

    # --- running source text --------------------------------------------------------------------------------------

    def execute(
        self,
        code: str,
        silent: bool = True,
        targets: Any = None,
        block: bool | None = None,
        label: str | None = None,
    ) -> AsyncResult:
        """Run source text in the namespace of every target.

        Args:
            code: Python and what IPython adds: magics, ``!`` commands, top-level ``await``.
            silent: Do not keep what the last expression shows.
            targets: In place of the view's.
            block: Wait, and raise what the code raised.
            label: A label for the record.

        Returns:
            The AsyncResult, also when it blocks. Its value is an ``ExecuteReply``, or a list of them.
        """
        content = {"code": code, "silent": silent, "store_history": not silent}
        payload, buffers = pack(content)
        result = self._request(
            Action.EXECUTE,
            payload,
            buffers,
            targets=targets,
            name="execute",
            label=label,
            prepare=_prepare_execute,
        )
        if self._blocks(block):
            result.get()
        return result

    def run(
        self, filename: str | Path, targets: Any = None, block: bool | None = None, label: str | None = None
    ) -> AsyncResult:
        """Run the contents of a file of this computer on every target. Raises OSError if it cannot be read."""
        # A last line without its end would not be run by an interactive shell.
        return self.execute(
            Path(filename).read_text(encoding="utf-8") + "\n", targets=targets, block=block, label=label
        )

    # --- moving data ----------------------------------------------------------------------------------------------

    def push(
        self,
        ns: dict[str, Any],
        targets: Any = None,
        block: bool | None = None,
        track: bool | None = None,  # noqa: ARG002 - kept for programs that pass it
    ) -> Any:
        """Set names on every target. Dotted names (``"a.b"``) set attributes.

        Returns an AsyncResult, or None (per target) if it blocks. Raises TypeError unless ``ns`` maps names to values.
        """
        if not isinstance(ns, dict):
            raise TypeError(f"push() takes a dict of names and values, not {ns!r}.")
        for name in ns:
            _check_name(name)
        payload, buffers = pack(ns)
        size = _size(payload, buffers)
        result = self._request(Action.PUSH, payload, buffers, targets=targets, name="push", names=list(ns))
        result._weights = [size] * len(result)
        return self._wanted(result, block)

    def pull(self, names: str | Sequence[str], targets: Any = None, block: bool | None = None) -> Any:
        """Evaluate a name or expression on every target; a list of them gives a list of values."""
        if not isinstance(names, str):
            names = list(names)
            for name in names:
                _check_name(name)
        payload, buffers = pack(names)
        return self._wanted(self._request(Action.PULL, payload, buffers, targets=targets, name="pull"), block)

    def get(self, key_s: str | Sequence[str]) -> Any:
        """As ``pull``, and always wait."""
        return self.pull(key_s, block=True)

    def update(self, ns: dict[str, Any]) -> Any:
        """As ``push``."""
        return self.push(ns)

    def __getitem__(self, key: str | Sequence[str]) -> Any:
        return self.get(key)

    def __setitem__(self, key: str, value: Any) -> None:
        self.push({key: value}, block=True)

    # A view has __getitem__, so without this `in` and `for` would try keys 0, 1, 2 … on the engines.
    __iter__ = None

    def __contains__(self, key: object) -> bool:
        raise TypeError(f"Whether engines have {key!r} cannot be asked; pull it and catch the RemoteError.")

    def scatter(
        self,
        key: str,
        seq: Any,
        dist: str = "b",
        flatten: bool = False,
        targets: Any = None,
        block: bool | None = None,
        track: bool | None = None,  # noqa: ARG002 - kept for programs that pass it
    ) -> Any:
        """Cut a sequence into one part per target and set it there as ``key``.

        Args:
            key: The name to set.
            seq: A sequence; arrays, frames and series are cut as what they are.
            dist: ``"b"`` for contiguous blocks, ``"r"`` for round robin.
            flatten: Where a part has one item, set the item itself.
            targets: In place of the view's.
            block: Wait until it is done; then nothing is returned but None per target.
            track: Not needed.
        """
        _check_name(key)
        ids, _ = self.client.resolve(self.targets if targets is None else targets)
        parts = partition.partition(seq, len(ids), dist)
        packed = [pack({key: _only_item(part) if flatten and len(part) == 1 else part}) for part in parts]
        result = AsyncResult(self.client, self.client.link.take_ids(len(ids)), "scatter", ids, len(ids))
        result._method = "scatter"
        result._weights = [_size(payload, buffers) for payload, buffers in packed]
        self._send_each(Action.PUSH, result, packed, None, None, names=[key])
        return self._wanted(result, block)

    def gather(self, key: str, dist: str = "b", targets: Any = None, block: bool | None = None) -> Any:
        """Fetch the parts that ``scatter`` set and put them together. Returns an AsyncMapResult unless it blocks."""
        _check_name(key)
        partition.check_kind(dist)
        ids, _ = self.client.resolve(self.targets if targets is None else targets)
        payload, buffers = pack(key)
        result = AsyncMapResult(
            self.client,
            self.client.link.take_ids(len(ids)),
            "gather",
            count=len(ids),
            join=partial(partition.join, dist=dist),
            targets=ids,
        )
        result._method = "gather"
        self._send(ids, Action.PULL, payload, buffers, result, None, None)
        return self._wanted(result, block)

    def clear(self, targets: Any = None, block: bool | None = None) -> Any:
        """Forget everything that was set on every target."""
        payload, buffers = pack(None)
        return self._wanted(self._request(Action.CLEAR, payload, buffers, targets=targets, name="clear"), block)

    # --- settings of engines --------------------------------------------------------------------------------------

    def activate(self, suffix: str = "") -> None:
        """Make this the view that ``%px`` and its family use; with a suffix, ``%px<suffix>``."""
        register(self, suffix)

    def sync_imports(self, local: bool = True, quiet: bool = False) -> AbstractContextManager[None]:
        """Import on engines what a block imports here: ``with view.sync_imports(): import numpy``.

        ``import a as b`` binds ``a`` on the engines, for Python does not tell us the new name.
        """
        if not local:
            raise ValueError("Imports can be mirrored only while they run here too (local=True); else use execute().")
        return mirrored_imports(self, quiet)

    @property
    def importer(self) -> AbstractContextManager[None]:
        """As ``sync_imports()``."""
        return self.sync_imports()

    def use_dill(self) -> Any:
        """Pickle with dill, here and on every target. Raises ImportError if it is not installed here."""
        use_dill()
        return self.apply(use_dill)

    def use_cloudpickle(self) -> Any:
        """Pickle with cloudpickle always, here and on every target."""
        use_cloudpickle()
        return self.apply(use_cloudpickle)

    def use_pickle(self) -> Any:
        """Pickle in the standard way again, here and on every target."""
        use_pickle()
        return self.apply(use_pickle)

    # --- sending --------------------------------------------------------------------------------------------------

    def _request(
        self,
        action: Action,
        payload: bytes,
        buffers: list[memoryview],
        *,
        name: str,
        targets: Any = None,
        function: PackedFunction | None = None,
        label: str | None = None,
        prepare: Callable[[AsyncResult], None] | None = None,
        names: list[str] | None = None,
    ) -> AsyncResult:
        """Send one request to every target; the shape of the result follows the targets."""
        ids, scalar = self.client.resolve(self.targets if targets is None else targets)
        first = self.client.link.take_ids(len(ids))
        result = AsyncResult(self.client, first, name, ids, None if scalar else len(ids))
        if action != Action.APPLY:
            result._method = name
        if prepare is not None:
            prepare(result)
        self._send(ids, action, payload, buffers, result, function, label, names)
        return result

    def _send(
        self,
        ids: list[int],
        action: Action,
        payload: bytes,
        buffers: list[memoryview],
        result: AsyncResult,
        function: PackedFunction | None,
        label: str | None,
        names: list[str] | None = None,
    ) -> None:
        options = self._options_for(action, self._options(label, result), payload, names)
        self.client.remember(result, self._number)
        digest = b"" if function is None else function.digest
        task = Task(result._first, action, digest, payload, len(buffers), options)
        self.client.link.submit_direct(ids, task, buffers, result, function)

    def _send_each(
        self,
        action: Action,
        result: AsyncResult,
        packed: Iterable[tuple[bytes, list[memoryview]]],
        function: PackedFunction | None,
        label: str | None,
        names: list[str] | None = None,
    ) -> None:
        """Send another payload to each target."""
        plain = self._options(label, result)
        self.client.remember(result, self._number)
        digest = b"" if function is None else function.digest
        assert result._targets is not None, "direct results know their targets"
        for index, (payload, buffers) in enumerate(packed):
            options = self._options_for(action, plain, payload, names)
            task = Task(result._first + index, action, digest, payload, len(buffers), options)
            self.client.link.submit_direct([result._targets[index]], task, buffers, result, function)

    def _options_for(
        self, action: Action, options: Options | None, payload: bytes, names: list[str] | None
    ) -> Options | None:
        """The options of one task: with the names that a push sets, and the kept values that it uses."""
        if self.keep and action in {Action.APPLY, Action.MAP}:
            options = msgspec.structs.replace(options or Options(), keep=True)
        if names is not None:
            options = msgspec.structs.replace(options or Options(), names=names)
        return options if MENTION not in payload else with_needs(options, payload)

    def _mark(self, result: AsyncResult) -> None:
        """Tell a result what kind of view it comes from."""

    def _options(self, label: str | None, result: AsyncResult) -> Options | None:
        self._mark(result)
        label = self.label if label is None else self._check_flag("label", label)
        if not label:
            return None
        result._options = Options(label=label)
        return result._options

    def _blocks(self, block: bool | None) -> bool:
        return self.block if block is None else block

    def _wanted(self, result: AsyncResult, block: bool | None) -> Any:
        return result._get_shown() if self._blocks(block) else result


def _size(payload: bytes, buffers: Sequence[memoryview]) -> int:
    """Bytes that travel."""
    return len(payload) + sum(buffer.nbytes for buffer in buffers)


def _prepare_execute(result: AsyncResult) -> None:
    result._convert = as_execute_reply


def _prepare_keep(result: AsyncResult) -> None:
    keep(result, range(result._first, result._first + result._size()))


def _only_item(part: Any) -> Any:
    return part.iloc[0] if hasattr(part, "iloc") else part[0]


def _check_name(name: object) -> None:
    if not isinstance(name, str):
        raise TypeError(f"Names on engines are strings, not {name!r}.")
