"""Engines as a farm: LoadBalancedView. The controller picks the engine for each task."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from numbers import Real
from operator import index as as_index
from typing import TYPE_CHECKING, Any, ClassVar, Final
from weakref import ref

from enginery.client import partition
from enginery.client.balanced_map import MapCall
from enginery.client.dependency import Dependency, for_wire
from enginery.client.kept import keep
from enginery.client.lazy_map import LazyMapIterator, lazy_map
from enginery.client.log import Entry
from enginery.client.map_result import AsyncMapResult
from enginery.client.needs import MENTION, with_needs
from enginery.client.result import AsyncResult
from enginery.client.view import View
from enginery.wire import messages
from enginery.wire.callables import pack_function
from enginery.wire.messages import Action, Options, Task
from enginery.wire.reference import Reference
from enginery.wire.serialize import EMPTY_CALL, pack_call

if TYPE_CHECKING:
    from enginery.client.functions import ParallelFunction

_APPLY: Final = int(Action.APPLY)
#: Stands for "to be worked out from the flags".
_STALE: Final = Options(label="stale")
_PLAIN: Final = Options()
#: Dependencies that the user may change after setting them.
_CHANGEABLE: Final = (list, set, dict, Dependency)
#: Flags that a cluster with the scheme "pure" does not see to.
_NOT_PURE: Final = frozenset({"targets", "after", "follow", "timeout", "retries"})
#: Least time limit in seconds: below, the interrupt would come before the task has begun.
_SHORTEST: Final = 0.001
_NO_KEYWORDS: Final[dict[str, Any]] = {}


class LoadBalancedView(View):
    """A view that leaves it to the controller which engine runs a task. Thread-safe.

    Flags besides those of all views:
        targets: Only these engines may run it (None: any).
        after: What must have ended before: message ids, results, a collection of them, or a ``Dependency``.
        follow: It must run where these ran.
        timeout: Seconds to wait for ``after`` and ``follow`` at most; then it fails with TaskTimeout.
        retries: How often it may run again after it failed or its engine died.
        priority: Among the ready tasks of this client, those with higher numbers go first (any int; default 0).
        keep: What tasks return stays on their engines, and results are handles of it; see ``KeptValue``. Of a map with a
            chunksize there is one for the list of each chunk.
        time_limit: Seconds it may run. Then it is interrupted and fails with TaskTimeout; if it does not heed that
            within a second, its engine is killed and started anew. Retries apply in both cases.

    A cluster with ``--scheme=pure`` deals tasks out without looking at them: there ``targets``, ``after``, ``follow``,
    ``timeout`` and ``retries`` raise RuntimeError.
    """

    flag_names: ClassVar[frozenset[str]] = View.flag_names | {
        "after", "follow", "timeout", "retries", "priority", "time_limit"
    }  # fmt: skip
    is_balanced: ClassVar[bool] = True

    after: Any
    follow: Any
    timeout: float | None
    retries: int
    priority: int
    time_limit: float | None
    _prepared: Options | None

    def _set_defaults(self) -> None:
        self.__dict__.update(
            after=None, follow=None, timeout=None, retries=0, priority=0, time_limit=None, _prepared=None
        )

    def _check_flag(self, name: str, value: Any) -> Any:
        if name in _NOT_PURE and self.client.link.scheme == "pure" and not _asks_for_nothing(name, value):
            raise RuntimeError(
                f"This cluster runs with --scheme=pure, which deals tasks out without looking at them and so cannot see "
                f"to {name}={value!r}. Start its controller with another scheme (leastload is the default)."
            )
        if name in {"after", "follow"}:
            self._for_wire(value)
        elif name == "timeout" and value is not None:
            return _as_seconds(name, value, 0.0)
        elif name == "time_limit" and value is not None:
            return _as_seconds(name, value, _SHORTEST)
        elif name in {"retries", "priority"}:
            value = as_index(value or 0)
            if value < 0 and name == "retries":
                raise ValueError(f"retries must be 0 or more, not {value}.")
        elif name == "targets":
            if value is None or (isinstance(value, str) and value == "all"):
                return None
            return self.client.resolve(value)[0]
        return super()._check_flag(name, value)

    def _flags_changed(self) -> None:
        own = self.__dict__
        own["_prepared"] = _STALE
        if own["after"] is None and own["follow"] is None:
            own["_wired"] = None  # it holds results that others may have let go

    def _options(self) -> Options | None:
        """The flags as tasks carry them: made once, not per task. None if all have their defaults."""
        version, after, follow = self._version, self.after, self.follow
        options: Options | None = Options(
            self.targets,
            None if after is None else self._for_wire(after),
            None if follow is None else self._for_wire(follow),
            self.timeout,
            self.retries,
            self.label or "",
            self.priority,
            self.time_limit,
            self.keep,
        )
        if options == _PLAIN:
            options = None
        # Not kept if it may change behind our back, or if another thread set a flag meanwhile.
        if not isinstance(after, _CHANGEABLE) and not isinstance(follow, _CHANGEABLE) and self._version == version:
            self.__dict__["_prepared"] = options
        return options

    _version: int
    #: A list or tuple of dependencies, what was in it when it was last looked at, and what that means.
    _wired: tuple[Any, tuple[Any, ...], messages.Dependency | None] | None = None

    def _for_wire(self, value: Any) -> messages.Dependency | None:
        """What a dependency means, in ids; worked out once for a list that was checked and is then used."""
        if type(value) is not list and type(value) is not tuple:
            return for_wire(value, self.client)
        wired, content = self._wired, tuple(value)
        if wired is not None and wired[0] is value and wired[1] == content:
            return wired[2]
        meaning = for_wire(value, self.client)
        self.__dict__["_wired"] = (value, content, meaning)
        return meaning

    # --- single tasks ---------------------------------------------------------------------------------------------

    def apply_async(self, f: Callable[..., Any], /, *args: Any, **kwargs: Any) -> AsyncResult:
        """Call ``f(*args, **kwargs)`` on some engine; return its AsyncResult at once.

        Blocks only while the connection is backed up. Raises SerializationError for what cannot be sent.
        """
        # Hot: bench/ submits 100,000 of these a second. Everything that flags decide is worked out before.
        function = pack_function(f)
        if args or kwargs:
            payload, buffers = pack_call(args, kwargs)
        else:
            payload, buffers = EMPTY_CALL, []
        options = self._prepared
        client = self.client
        link = client.link
        first = link.take_id()
        result = AsyncResult(client, first, function.name)
        if options is not None:
            if options is _STALE:
                options = self._options()
            result._options = options
            if options is not None and options.keep:
                keep(result, range(first, first + 1))
        client.log.entries.append(Entry(first, 1, ref(result), self._number))
        if (payload is not EMPTY_CALL and MENTION in payload) or isinstance(f, Reference):
            options = with_needs(options, payload, (*args, *kwargs.values()), f)
        link.submit(Task(first, _APPLY, function.digest, payload, len(buffers), options), buffers, result, function)
        return result

    # --- maps -----------------------------------------------------------------------------------------------------

    def map(
        self,
        f: Callable[..., Any],
        /,
        *sequences: Any,
        block: bool | None = None,
        chunksize: int = 1,
        ordered: bool = True,
        return_exceptions: bool = False,
        label: str | None = None,
    ) -> Any:
        """Call ``f`` for the items of one or more sequences; the shortest one decides.

        Input is read as the connection takes it, not copied first; input without an end is for ``imap``.

        Args:
            f: What to call.
            sequences: Where its arguments come from, one sequence for each.
            block: Wait for the results.
            chunksize: Items per task. One is right unless items take microseconds.
            ordered: Whether iterating over the result keeps the order of the input.
            return_exceptions: Keep errors as items. Otherwise an item that raises fails its chunk.
            label: A label for the record.

        Returns:
            The list of results if it blocks, else an AsyncMapResult.
        """
        if not sequences:
            raise TypeError("map() needs at least one sequence to take items from.")
        if chunksize < 1:
            raise ValueError(f"chunksize must be 1 or more, not {chunksize}.")
        view = self if label is None else self.with_flags(label=label)
        call = MapCall(view, pack_function(f), chunksize, ordered=ordered, return_exceptions=return_exceptions)
        call.options = with_needs(call.options, b"", function=f)
        result = call.run(sequences)
        return result._get_shown() if (self.block if block is None else block) else result

    def imap(
        self,
        f: Callable[..., Any],
        /,
        *sequences: Any,
        ordered: bool = True,
        max_outstanding: int | str | None = "auto",
        return_exceptions: bool = False,
    ) -> LazyMapIterator:
        """Iterate over the results of a map whose input is read only as engines become free; it may be endless.

        Args:
            f: What to call.
            sequences: Where its arguments come from. A thread reads them.
            ordered: Yield in the order of the input, or as they come.
            max_outstanding: How many items may be on their way at once; ``"auto"`` keeps engines busy for some
                milliseconds, 0 reads as fast as results are taken.
            return_exceptions: Yield errors in place of values, instead of raising them.
        """
        if not sequences:
            raise TypeError("imap() needs at least one sequence to take items from.")
        options = self._options()
        return lazy_map(
            self.client,
            pack_function(f),
            sequences,
            options=options,
            ordered=ordered,
            max_outstanding=max_outstanding,
            return_exceptions=return_exceptions,
        )

    def _call_on_parts(
        self, f: Callable[..., Any], sequences: tuple[Any, ...], function: ParallelFunction
    ) -> AsyncMapResult:
        length = len(sequences[0])
        count = math.ceil(length / function.chunksize) if function.chunksize else min(length, len(self))
        cut = [partition.partition(sequence, max(1, count), function.dist) for sequence in sequences]
        call = MapCall(
            self, pack_function(f), 1, ordered=function.ordered, return_exceptions=function.return_exceptions
        )
        sizes = [len(part) for part in cut[0]]
        return call.run(tuple(cut), sizes=sizes, join=partial(partition.join, dist=function.dist))


def _asks_for_nothing(flag: str, value: Any) -> bool:
    if flag == "targets":
        return value is None or (isinstance(value, str) and value == "all")
    return value is None or (flag != "timeout" and not value)


def _as_seconds(name: str, value: Any, least: float) -> float:
    if not isinstance(value, Real) or math.isnan(value) or value < least:
        raise ValueError(f"{name} must be a number of seconds, {least:g} or more, or None; not {value!r}.")
    return float(value)
