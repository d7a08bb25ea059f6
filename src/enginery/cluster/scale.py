"""Bringing the number of a cluster's engines to what is wanted, while they work."""

from __future__ import annotations

import contextlib
import time
from typing import TYPE_CHECKING, Any, Final

from enginery.client.silence import wait_for
from enginery.cluster.waiting import known_crashes, wait_for_engines
from enginery.errors import ConnectionLost

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from enginery.client.client import Client
    from enginery.cluster.cluster import Cluster

#: Seconds other clients may take to hear what one client knows; more only if engines come and go meanwhile.
HEARSAY: Final = 1.0


def scale(cluster: Cluster, client: Client, n: int, timeout: float) -> None:
    """Start or stop engines until there are ``n``; see ``Cluster.scale``."""
    deadline = time.monotonic() + timeout
    cluster.bury_sets()
    await_started(cluster, client, timeout)
    # More than once if others start and stop engines meanwhile.
    while (there := len(client)) != n:
        left = max(0.0, deadline - time.monotonic())
        if there < n:
            earlier = known_crashes(client)
            fresh = cluster.engines.get(cluster.start_engines_sync(n - there))
            # Older sets may end meanwhile, when their last engine has left.
            involved = [each for each in (cluster.controller, fresh) if each is not None]
            wait_for_engines(client, n, involved, left, earlier=earlier)
        else:
            retire(cluster, client, choose(client.queue_status(), there - n), left)


def await_started(cluster: Cluster, client: Client, timeout: float) -> None:
    """Wait for engines that were started and have not connected yet, or they would be started twice."""
    pending = cluster.started - int(client.statistics()["joined"])
    if pending > 0:
        wait_for_engines(client, len(client) + pending, cluster.launchers(), timeout)


def await_known(clients: Iterable[Client], ids: list[int]) -> None:
    """Wait until other clients, too, know of exactly these engines: the controller is telling them in this moment."""
    for client in list(clients):
        with contextlib.suppress(ConnectionLost):  # whoever uses it will hear of that
            client.link.wait_for(lambda client=client: client.ids == ids, HEARSAY)  # type: ignore[misc]  # bound now


def choose(status: Mapping[Any, Any], count: int) -> list[int]:
    """The engines that may go, by ``queue_status``: those with the least work, and among these the newest."""
    load = {each: has["queue"] + has["tasks"] for each, has in status.items() if isinstance(each, int)}
    return sorted(load, key=lambda each: (load[each], -each))[:count]


def retire(cluster: Cluster, client: Client, engines: list[int], timeout: float) -> None:
    """Let engines end what they have begun, hand back the rest, and leave. Raises TimeoutError for those that stay."""
    members = cluster.members(client, engines)
    client.link.shutdown(engines, finish=True)

    def staying() -> list[int]:
        return [each for each in engines if each in client.link.engines]

    def tell() -> str:
        return f"engines {', '.join(map(str, staying()))} to end what they run, so that they can leave"

    gone = wait_for(client.link, lambda: not staying(), timeout, tell)
    cluster.forget_engines({each: members[each] for each in engines if each in members and each not in staying()})
    if not gone:
        left = staying()
        msg = (
            f"After {timeout:.1f} s engine{'s' * (len(left) != 1)} {', '.join(map(str, left))} still had to end what was "
            f"begun; they leave when that is done. stop_engine({left[0]}) ends it now."
        )
        raise TimeoutError(msg)
