"""Engines of a client as people name them: ids, slices, 'all', and waiting for engines to come."""

from __future__ import annotations

import operator
import time
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, Final

from enginery.client.handle import seconds
from enginery.client.progress import Progress, are_wanted, wait_shown
from enginery.client.promise import Promise, kept, promised
from enginery.client.silence import wait_for
from enginery.errors import EngineError, NoEnginesRegistered

if TYPE_CHECKING:
    from enginery.client.link import Link
    from enginery.wire.messages import Departure, EngineInfo

#: How many engines that left are remembered, for results that still name them.
_REMEMBERED: Final = 10_000


class Deadline:
    """A point in time, or never."""

    def __init__(self, timeout: float | None) -> None:
        limit = seconds(timeout)
        self.at = None if limit is None else time.monotonic() + limit

    def left(self) -> float | None:
        """Seconds left, negative when it has passed; None for never."""
        return None if self.at is None else self.at - time.monotonic()

    def cut(self, interval: float) -> float:
        """``interval``, or what is left if that is less."""
        left = self.left()
        return interval if left is None else min(interval, left)


class EngineTargets:
    """What a client knows of engines. Thread-safe: the link replaces its table of engines, and never changes one."""

    link: Link
    block: bool
    cluster: Any
    _known: dict[int, EngineInfo]
    _departures: list[Departure]
    _departed: int

    def _watch_engines(self) -> None:
        """Begin to remember who comes and goes."""
        self._known = dict(self.link.engines)
        self._departures = []
        self._departed = 0
        self.link.add_news_callback(self._note_news)

    def _note_news(self, joined: list[EngineInfo], left: list[Departure]) -> None:
        known = dict(self._known)
        known.update((engine.id, engine) for engine in joined)
        if len(known) > _REMEMBERED:
            living = self.link.engines
            known = {number: engine for number, engine in known.items() if number in living}
        self._known = known
        self._departures = (self._departures + left)[-100:]
        self._departed += len(left)

    @property
    def departures(self) -> list[Departure]:
        """How the last hundred engines left, the newest last."""
        return self._departures

    def engine_info(self, engine: int, method: str) -> dict[str, object]:
        """What errors and metadata tell about an engine: ``engine_id``, ``engine_uuid``, ``method``, ``pid``, ``host``."""
        known = self.link.engines.get(engine) or self._known.get(engine)
        info: dict[str, object] = {
            "engine_id": engine if engine >= 0 else None,
            "engine_uuid": known.uuid if known else "",
            "method": method,
        }
        if known:
            info["pid"] = known.pid
            info["host"] = known.host
        return info

    @property
    def ids(self) -> list[int]:
        """Ids of the engines that are there now, ascending."""
        return list(self.link.engines)

    def __len__(self) -> int:
        return len(self.link.engines)

    def resolve(self, targets: Any) -> tuple[list[int], bool]:
        """The ids that ``targets`` means now, and whether it means one engine alone (an int).

        Targets are an id (negative ones count from the end), 'all' or None, a slice of ids, or a collection of ids.
        Raises IndexError for ids that are not there, NoEnginesRegistered if no engine is, TypeError for what is no target.
        """
        engines = self.link.engines
        if type(targets) is int and targets in engines:
            return [targets], True
        if not engines:
            raise NoEnginesRegistered(
                "No engines are registered. Start some (`ipcluster engines`, Cluster.start_engines()) or wait for them: "
                "client.wait_for_engines(n)."
            )
        if targets is None or (isinstance(targets, str) and targets == "all"):
            return list(engines), False
        if isinstance(targets, slice):
            return list(engines)[targets], False
        if isinstance(targets, Iterable) and not isinstance(targets, str | bytes):
            return [self._engine_id(each) for each in targets], False
        return [self._engine_id(targets)], True

    def _engine_id(self, target: Any) -> int:
        if isinstance(target, str | bytes | bool):
            raise TypeError(
                f"{target!r} is no target. Targets are ids of engines, collections of them, slices, or 'all'."
            )
        try:
            number = operator.index(target)
        except TypeError:
            raise TypeError(
                f"{target!r} (a {type(target).__name__}) is no target. Targets are ids of engines, collections of them, "
                f"slices, or 'all'."
            ) from None
        engines = self.link.engines
        if number in engines:
            return number
        if -len(engines) <= number < 0:
            return list(engines)[number]
        raise IndexError(f"There is no engine {number}. Registered engines: {list(engines)}.")

    # --- waiting for engines --------------------------------------------------------------------------------------

    def wait_for_engines(
        self,
        n: int | None = None,
        *,
        timeout: float | None = -1,
        block: bool = True,
        interactive: bool | None = None,
        widget: bool | None = None,
    ) -> Promise[None] | None:
        """Wait until ``n`` engines are there.

        It can be awaited: ``await client.wait_for_engines(4, block=False)``. Without ``block=False`` the event loop stands
        still meanwhile.

        Args:
            n: How many; by default as many as the client's cluster was asked to start.
            timeout: Seconds to wait at most; negative or None: as long as it takes.
            block: With False, return a Future at once, which can be awaited and cancelled.
            interactive: Show a progress bar; by default where IPython runs.
            widget: Show it as a notebook widget.

        Raises:
            TimeoutError: Says how many are there.
            EngineError: An engine left meanwhile.
            TypeError: No ``n``, and no cluster to know it from.
        """
        wanted = self._wanted_engines() if n is None else n
        if not block:
            return promised(
                lambda is_unwanted: self._wait_for_engines(wanted, timeout, is_unwanted),
                self.link.wake,
                "enginery-wait-for-engines",
            )
        if interactive is None:
            interactive = widget or are_wanted()
        if interactive and len(self) < wanted:
            self._wait_with_bar(wanted, timeout, widget)
        else:
            self._wait_for_engines(wanted, timeout)
        return kept()

    def _wanted_engines(self) -> int:
        cluster = self.cluster
        if cluster is None:
            raise TypeError("wait_for_engines() needs a number: this client was not made by a Cluster that knows it.")
        return int(cluster.n or sum(each.n for each in cluster.engines.values()))

    def _wait_for_engines(
        self, wanted: int, timeout: float | None, is_unwanted: Callable[[], bool] = lambda: False
    ) -> None:
        before = self._departed
        wait_for(
            self.link,
            lambda: len(self.link.engines) >= wanted or self._departed > before or is_unwanted(),
            seconds(timeout),
            lambda: self._tell_engines(wanted),
        )
        if not is_unwanted():
            self._check_engines(wanted, before, timeout)

    def _tell_engines(self, wanted: int) -> str:
        """What is waited for, in words."""
        there = f"{len(self)} are there ({', '.join(map(str, self.ids[:10]))})" if self.ids else "none is there"
        return f"{wanted} engines; {there}. Their logs say why others do not come."

    def _check_engines(self, wanted: int, before: int, timeout: float | None) -> None:
        if len(self.link.engines) >= wanted:
            return
        if self._departed > before:
            left = self._departures[-1]
            known = left.id >= 0
            raise EngineError(
                f"{f'Engine {left.id} left' if known else 'An engine died before it had connected,'} while {wanted} "
                f"engines were waited for ({len(self)} are there): {left.reason}",
                engine_id=left.id if known else None,
            )
        raise TimeoutError(
            f"{len(self)} of {wanted} engines are there after {seconds(timeout) or 0:g} s. Wait longer (timeout=…), or see "
            f"the engines' logs for why they do not come."
        )

    def _wait_with_bar(self, wanted: int, timeout: float | None, widget: bool | None) -> None:
        before = self._departed
        wait_shown(
            Progress("engines", lambda: wanted, lambda: min(len(self), wanted), 0.0, widget=widget, unit="engine"),
            self.link.wait_for,
            lambda: len(self) >= wanted or self._departed > before,
            timeout=seconds(timeout),
            tell=lambda: self._tell_engines(wanted),
        )
        self._check_engines(wanted, before, timeout)
