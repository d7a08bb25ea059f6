"""How far the engines of a cluster have come, as ipcluster tells it."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final

from enginery.cluster.launchers.base import EngineLauncher
from enginery.cluster.waiting import statuses, wait_for_engines
from enginery.errors import LauncherError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from enginery.client.client import Client
    from enginery.cluster.cluster import Cluster
    from enginery.cluster.launchers.base import BaseLauncher

#: Seconds until it is said that engines are still missing, and between two looks.
FIRST: Final = 5.0
LATER: Final = 10.0
#: Seconds for which engines of other hosts are waited for: a batch system may take its time.
QUEUED: Final = 5.0


class Arrival:
    """The arrival of the engines of some launchers. Without a controller of which anything is known, it says nothing."""

    def __init__(
        self, cluster: Cluster, launchers: Sequence[BaseLauncher], wake: Callable[[], None] = lambda: None
    ) -> None:
        """``wake()`` is called when engines come or go."""
        self._launchers = launchers
        self._expected = sum(each.n for each in launchers if isinstance(each, EngineLauncher))
        self._client = _connect(cluster) if self._expected else None
        self._before = 0
        self._began = time.monotonic()
        self._said = ""
        self._complete = False
        if self._client is not None:
            self._client.link.add_news_callback(lambda _joined, _left: wake())
            # Those of other sets were there before, and so were some of these perhaps: they started meanwhile.
            others = [each for each in cluster.engines.values() if each not in launchers]
            self._before = min(len(self._client), sum(each.n for each in others))

    @property
    def is_complete(self) -> bool:
        """Whether all have come, as far as ``look`` has seen."""
        return self._complete

    @property
    def is_blind(self) -> bool:
        """Whether there is no controller that could tell."""
        return self._client is None and not self._complete

    def look(self) -> float | None:
        """Say what is new, and return in how many seconds to look again (None: when something happens)."""
        client = self._client
        if client is None or client.link.closed:
            return None
        here, waited = len(client) - self._before, time.monotonic() - self._began
        if here >= self._expected:
            print(f"{self._expected} engine{'s are' if self._expected != 1 else ' is'} connected.", flush=True)
            self._complete = True
            self._client = None  # it stays open with the cluster, and tells of crashes
            return None
        if waited >= FIRST:
            status = statuses(self._launchers)
            line = f"{here} of {self._expected} engines are connected{f': {status}' if status else ''}."
            if line != self._said:
                self._said = line
                print(line, flush=True)
            return LATER
        return FIRST - waited

    def wait(self, timeout: float) -> None:
        """Wait for them. Raises as ``wait_for_engines``; those on other hosts are not waited for for long."""
        client = self._client
        if client is None:
            return
        patience = min(timeout, QUEUED) if any(each.needs_network for each in self._launchers) else timeout
        wait_for_engines(client, self._before + self._expected, self._launchers, patience)


def _connect(cluster: Cluster) -> Client | None:
    try:
        return cluster.connect_client_sync()
    except (LauncherError, OSError):
        # No controller, or one whose end will be told by its launcher.
        return None
