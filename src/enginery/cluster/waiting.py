"""Waiting for engines, but no longer than there is hope."""

from __future__ import annotations

import weakref
from typing import TYPE_CHECKING, Any, Final

from enginery.client.progress import PATIENCE, Progress, are_wanted, wait_shown
from enginery.cluster.launchers.base import ControllerLauncher, EngineLauncher
from enginery.errors import ConnectionLost

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from enginery.client.client import Client
    from enginery.cluster.launchers.base import BaseLauncher

#: How long the end of a program may take to be told once its connection is closed, in seconds.
LAST_WORDS: Final = 2.0


def known_crashes(client: Client) -> frozenset[str]:
    """Engines that have crashed so far, by their uuids: nobody waits for those."""
    return frozenset(each["uuid"] for each in _crashes(client))


def wait_for_engines(
    client: Client, n: int, launchers: Iterable[BaseLauncher], timeout: float, *, earlier: frozenset[str] = frozenset()
) -> None:
    """Wait until ``client`` has ``n`` engines; on a terminal and in notebooks say what for, and show how far it is.

    Raises LauncherError with its output once one of ``launchers`` has ended, or an engine that is not started anew has
    crashed (``earlier`` ones do not count). Raises TimeoutError after ``timeout`` seconds, which says what launchers are
    waiting for.
    """
    if len(client) < n:
        _Wait(client, n, list(launchers), earlier).run(timeout)


def statuses(launchers: Iterable[BaseLauncher]) -> str:
    """What launchers are waiting for, in one phrase; empty if nothing is known."""
    return "; ".join(dict.fromkeys(filter(None, (each.status() for each in launchers if each.running))))


class _Wait:
    """One wait for engines."""

    def __init__(self, client: Client, n: int, launchers: list[BaseLauncher], earlier: frozenset[str]) -> None:
        self._client = client
        self._n = n
        self._launchers = [each for each in launchers if isinstance(each, ControllerLauncher | EngineLauncher)]
        self._earlier = earlier
        self._before: list[Mapping[str, Any]] = []  #: crashes before we could hear of them

    def run(self, timeout: float) -> None:
        client, n = self._client, self._n
        # The end of a program is an event like a message of the controller's, and ends the wait at once.
        link = weakref.ref(client.link)
        for launcher in self._launchers:
            launcher.on_stop(lambda _data: None if (found := link()) is None else found.wake())
        try:
            self._before = _crashes(client)
            after = PATIENCE if are_wanted() else -1.0
            progress = Progress("engines", lambda: n, lambda: min(len(client), n), after, unit="engine")
            wait_shown(progress, client.link.wait_for, self._is_over, timeout=timeout, tell=self.tell)
        except ConnectionLost:
            self._check_launchers(patience=LAST_WORDS)
            raise
        if len(client) >= n:
            return
        self._check_launchers()
        self._check_engines()
        raise TimeoutError(self._timed_out(timeout))

    def _is_over(self) -> bool:
        return len(self._client) >= self._n or any(each.state == "after" for each in self._launchers) or self._crashed()

    def tell(self) -> str:
        """What is waited for."""
        said = statuses(self._launchers)
        return f"{self._n} engines; {len(self._client)} are there{f'; {said}' if said else ''}"

    def _crashed(self) -> bool:
        return bool(self._crash())

    def _crash(self) -> tuple[int, str] | None:
        """An engine that will not come (again), and why."""
        for crash in self._before:
            if not crash["returns"] and crash["uuid"] not in self._earlier:
                return int(crash["id"]), str(crash["reason"])
        for departure in self._client.departures:
            if departure.crashed and not departure.returns and departure.uuid not in self._earlier:
                return departure.id, departure.reason
        return None

    def _check_launchers(self, patience: float = 0.0) -> None:
        for launcher in self._launchers:
            # The controller's end is what takes the engines with it.
            if patience and isinstance(launcher, ControllerLauncher):
                launcher.join(patience)
        for launcher in sorted(self._launchers, key=lambda each: isinstance(each, EngineLauncher)):
            if launcher.state == "after":
                raise launcher.failure("ended before the engines had connected")

    def _check_engines(self) -> None:
        crash = self._crash()
        if crash is None:
            return
        engine, reason = crash
        sets = [each for each in self._launchers if isinstance(each, EngineLauncher)]
        what = f"engine {engine}" if engine >= 0 else "an engine"
        if sets:
            raise _blamed(sets).failure(f"lost {what} before {self._n} had connected: {reason}")

    def _timed_out(self, timeout: float) -> str:
        said = statuses(self._launchers)
        written = "\n".join(filter(None, (each.get_output() for each in self._launchers)))
        return (
            f"{len(self._client)} of {self._n} engines connected within {timeout:g} s{f': {said}' if said else ''}. Raise "
            f"engine_timeout if they need longer. What was written meanwhile:\n{written or '(nothing)'}"
        )


def _blamed(sets: list[EngineLauncher]) -> EngineLauncher:
    """The set whose output tells of a death, else the newest."""
    return next((each for each in sets if "pid=" in each.get_output()), sets[-1])


def _crashes(client: Client) -> list[Mapping[str, Any]]:
    answer = client.link.ask("crashes")
    assert isinstance(answer, list), "a list of crashes"
    return answer
