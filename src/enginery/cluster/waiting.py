"""Waiting for engines, but no longer than there is hope."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final

from enginery.client.progress import PATIENCE, Progress, are_wanted
from enginery.cluster.launchers.base import ControllerLauncher, EngineLauncher

if TYPE_CHECKING:
    from collections.abc import Iterable

    from enginery.client.client import Client
    from enginery.cluster.launchers.base import BaseLauncher

#: How often it is asked whether a program has failed meanwhile, in seconds. Engines that join end the wait at once.
GLANCE: Final = 0.25


def wait_for_engines(client: Client, n: int, launchers: Iterable[BaseLauncher], timeout: float) -> None:
    """Wait until ``client`` has ``n`` engines.

    Raises LauncherError with its output once one of ``launchers`` has ended, TimeoutError after ``timeout`` seconds.
    """
    with Progress(
        "engines", lambda: n, lambda: min(len(client), n), PATIENCE if are_wanted() else -1.0, unit="engine"
    ) as progress:
        _wait(client, n, list(launchers), timeout, progress)


def _wait(client: Client, n: int, launchers: list[BaseLauncher], timeout: float, progress: Progress) -> None:
    deadline = time.monotonic() + timeout
    while True:
        progress.update()
        left = deadline - time.monotonic()
        try:
            client.wait_for_engines(n, timeout=max(0.0, min(left, GLANCE)), interactive=False)
        except TimeoutError:
            for launcher in launchers:
                if launcher.state == "after" and isinstance(launcher, ControllerLauncher | EngineLauncher):
                    raise launcher.failure("ended before the engines had connected") from None
            if left > 0:
                continue
            written = "\n".join(filter(None, (each.get_output() for each in launchers)))
            msg = (
                f"{len(client)} of {n} engines connected within {timeout:g} s. Raise engine_timeout if they need "
                f"longer. What was written meanwhile:\n{written or '(nothing)'}"
            )
            raise TimeoutError(msg) from None
        else:
            return
