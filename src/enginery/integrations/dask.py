"""Dask on engines: its own scheduler in this process, its own workers in the engines' processes.

    dask_client = client.become_dask()
    …
    client.stop_dask()

A worker lives in a thread of its engine, which goes on to serve its clients: what views have pushed is there for tasks of
Dask as well. Needs ``distributed`` (the extra ``dask``), here and on the engines.
"""

from __future__ import annotations

import asyncio
import platform
import threading
import weakref
from typing import TYPE_CHECKING, Any, Final

import distributed

from enginery.errors import EngineError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from enginery.client.client import Client

#: Seconds that a worker may take to come up or to leave.
PATIENCE: Final = 60.0


class DaskCluster:
    """The scheduler, the engines that work for it, and the client that was handed out."""

    def __init__(self, client: Client, port: int, scheduler_args: Mapping[str, Any] | None) -> None:
        hosts = {engine.host for engine in client.link.engines.values()}
        args = dict(scheduler_args or {})
        # Reached from this host only, unless some engines are elsewhere.
        args.setdefault("host", "127.0.0.1" if hosts <= {platform.node()} else "0.0.0.0")  # noqa: S104 - see above
        args.setdefault("dashboard_address", ":0")
        self.scheduler = distributed.LocalCluster(
            n_workers=0, processes=False, protocol="tcp://", scheduler_port=port, **args
        )
        self.engines: set[int] = set()
        self.client = distributed.Client(self.scheduler)

    def address(self) -> str:
        """Where engines find the scheduler."""
        return str(self.scheduler.scheduler_address).replace("0.0.0.0", platform.node())  # noqa: S104 - see above

    def close(self) -> None:
        """Close the client and the scheduler."""
        self.client.close()
        self.scheduler.close()


_clusters: weakref.WeakKeyDictionary[Client, DaskCluster] = weakref.WeakKeyDictionary()


def become(
    client: Client,
    targets: Any = "all",
    port: int = 0,
    nanny: bool = False,
    scheduler_args: Mapping[str, Any] | None = None,
    **worker_args: Any,
) -> distributed.Client:
    """Start a Dask worker in each engine; return a ``distributed.Client``, which is Dask's default from now on.

    Called again, more engines join the same scheduler.

    Args:
        client: Whose engines.
        targets: Which of them.
        port: The port of the scheduler; 0 for any.
        nanny: Start a ``distributed.Nanny`` in each engine, whose worker is a process of its own.
        scheduler_args: Keyword arguments of ``distributed.LocalCluster``, which runs the scheduler.
        worker_args: Keyword arguments of ``distributed.Worker`` (or ``Nanny``). One thread each by default.
    """
    ids, _ = client.resolve(targets)
    cluster = _clusters.get(client)
    if cluster is None:
        cluster = _clusters[client] = DaskCluster(client, port, scheduler_args)
    new = [each for each in ids if each not in cluster.engines]
    args = {"nthreads": 1, **worker_args}
    try:
        results = [
            client.direct_view(each).apply_async(start_worker, cluster.address(), each, nanny, args) for each in new
        ]
        for result in results:
            result.get(PATIENCE)
    except BaseException:
        stop(client)
        raise
    cluster.engines.update(new)
    cluster.client.wait_for_workers(len(cluster.engines), timeout=PATIENCE)
    return cluster.client


def stop(client: Client, targets: Any = "all") -> None:
    """Stop the Dask workers of engines; with the last of them the scheduler. Nothing is done where there is none."""
    cluster = _clusters.get(client)
    if cluster is None:
        return
    everything = targets is None or (isinstance(targets, str) and targets == "all")
    if everything:
        cluster.client.close()  # first: then nobody wants the results that workers hold
    leaving = set(client.ids) if everything else set(client.resolve(targets)[0])
    results = [client.direct_view(each).apply_async(stop_worker) for each in sorted(leaving & set(client.ids))]
    try:
        for result in results:
            try:
                result.get(PATIENCE)
            except EngineError:
                continue  # it died, and its worker with it
    finally:
        cluster.engines -= leaving
        if everything or not cluster.engines:
            del _clusters[client]
            cluster.close()


# --- on engines -------------------------------------------------------------------------------------------------------


class _Worker:
    """A worker in a thread with an event loop of its own."""

    def __init__(self, address: str, name: str, *, nanny: bool, args: Mapping[str, Any]) -> None:
        self._make = distributed.Nanny if nanny else distributed.Worker
        self._address = address
        self._args = {"name": name, **args}
        self._loop: asyncio.AbstractEventLoop | None = None
        self._worker: Any = None
        self._is_up = threading.Event()
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="enginery-engine-dask", daemon=True)

    def start(self) -> None:
        """Start it. Raises what kept it from starting."""
        self._thread.start()
        if not self._is_up.wait(PATIENCE):
            msg = f"The Dask worker did not reach the scheduler at {self._address} within {PATIENCE:g} s."
            raise TimeoutError(msg)
        if self._error is not None:
            raise self._error

    def stop(self) -> None:
        """Close it, and wait until it is gone."""
        if self._loop is not None and self._thread.is_alive():
            asyncio.run_coroutine_threadsafe(self._worker.close(), self._loop)
        self._thread.join(PATIENCE)

    def _run(self) -> None:
        try:
            asyncio.run(self._live())
        except Exception as error:  # told to whoever started it
            self._error = error
        finally:
            self._is_up.set()

    async def _live(self) -> None:
        self._loop = asyncio.get_running_loop()
        async with self._make(self._address, **self._args) as self._worker:
            self._is_up.set()
            await self._worker.finished()


_worker: _Worker | None = None


def start_worker(address: str, engine: int, nanny: bool, args: Mapping[str, Any]) -> None:
    """On an engine: have a Dask worker in this process. One that is there already is stopped first."""
    global _worker  # noqa: PLW0603 - an engine is one worker or none
    stop_worker()
    _worker = _Worker(address, f"engine-{engine}", nanny=nanny, args=args)
    _worker.start()


def stop_worker() -> None:
    """On an engine: stop the Dask worker of this process, if there is one."""
    global _worker
    worker, _worker = _worker, None
    if worker is not None:
        worker.stop()
