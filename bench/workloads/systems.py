"""One way to drive each system under test, all of one shape; runs in that system's own interpreter."""

from __future__ import annotations

import contextlib
import functools
import importlib
from collections.abc import Callable, Iterable, Iterator
from typing import Any, ClassVar

import numpy as np

from payload import nothing

Call = Callable[..., Any]


class System:
    """What workloads ask of a system."""

    #: Ways of addressing engines: any one, a certain one, all at once.
    addresses: ClassVar = ("balanced", "one", "all")
    #: Whether arrays can be shared out over all engines.
    scatters = False

    def running(self, n: int) -> contextlib.AbstractContextManager[None]:
        """Start ``n`` engines and wait until all are there; stop them at the end."""
        raise NotImplementedError

    def submit(self, function: Call, *args: object) -> Any:
        """Submit one task to any engine; return its handle."""
        raise NotImplementedError

    def submit_to_one(self, function: Call, *args: object) -> Any:
        """Submit one task to a certain engine; return its handle."""
        raise NotImplementedError

    def finish(self, handles: Iterable[Any]) -> list[Any]:
        """Wait for tasks and return their results."""
        raise NotImplementedError

    def map(self, function: Call, items: Iterable[Any]) -> list[Any]:
        """Run one task for each item."""
        raise NotImplementedError

    def call(self, address: str, function: Call) -> Any:
        """Run one task at one of ``addresses`` and wait for it."""
        raise NotImplementedError

    def send(self, arrays: list[Any], function: Call) -> None:
        """Bring arrays to one engine and call ``function`` there on each."""
        self.finish([self.submit_to_one(function, array) for array in arrays])

    def fetch(self, function: Call, size: int, count: int) -> list[Any]:
        """Bring ``count`` results of ``function(size)`` back from one engine."""
        return self.finish([self.submit_to_one(function, size) for _ in range(count)])

    def broadcast(self, array: Any) -> None:
        """Bring one array to all engines."""
        raise NotImplementedError

    def scatter(self, array: Any) -> None:
        """Share one array out over all engines."""
        raise NotImplementedError

    def gather(self) -> Any:
        """Bring what was scattered back together."""
        raise NotImplementedError


class Ipp(System):
    """enginery or ipyparallel: the same script, another import."""

    scatters = True

    def __init__(self, module: str) -> None:
        self.module = importlib.import_module(module)

    @contextlib.contextmanager
    def running(self, n: int, **settings: object) -> Iterator[None]:
        with self.module.Cluster(n=n, **settings) as client:
            self.client = client
            self.views = {"balanced": client.load_balanced_view(), "one": client[0], "all": client[:]}
            yield

    def submit(self, function: Call, *args: object) -> Any:
        return self.views["balanced"].apply_async(function, *args)

    def submit_to_one(self, function: Call, *args: object) -> Any:
        return self.views["one"].apply_async(function, *args)

    def finish(self, handles: Iterable[Any]) -> list[Any]:
        return [handle.get() for handle in handles]

    def map(self, function: Call, items: Iterable[Any]) -> list[Any]:
        return self.views["balanced"].map_async(function, items, chunksize=1).get()

    def call(self, address: str, function: Call) -> Any:
        return self.views[address].apply_sync(function)

    def broadcast(self, array: Any) -> None:
        self.views["all"].push({"whole": array}, block=True)

    def scatter(self, array: Any) -> None:
        self.views["all"].scatter("part", array, block=True)

    def gather(self) -> Any:
        return self.views["all"].gather("part", block=True)


class Executor(System):
    """The standard library's ProcessPoolExecutor."""

    addresses: ClassVar = ("balanced",)

    def __init__(self) -> None:
        self.module = importlib.import_module("concurrent.futures")

    @contextlib.contextmanager
    def running(self, n: int) -> Iterator[None]:
        with self.module.ProcessPoolExecutor(n) as self.pool:
            self.finish([self.pool.submit(nothing) for _ in range(n)])
            yield

    def submit(self, function: Call, *args: object) -> Any:
        return self.pool.submit(function, *args)

    submit_to_one = submit

    def finish(self, handles: Iterable[Any]) -> list[Any]:
        return [handle.result() for handle in handles]

    def map(self, function: Call, items: Iterable[Any]) -> list[Any]:
        return list(self.pool.map(function, items, chunksize=1))

    def call(self, address: str, function: Call) -> Any:
        assert address == "balanced"
        return self.pool.submit(function).result()


class Dask(System):
    """dask.distributed with a LocalCluster of processes, one thread each."""

    def __init__(self) -> None:
        self.module = importlib.import_module("distributed")
        # A task whose worker was killed fails at once, as it does elsewhere without retries.
        importlib.import_module("dask").config.set({"distributed.scheduler.allowed-failures": 0})

    @contextlib.contextmanager
    def running(self, n: int) -> Iterator[None]:
        settings = {"processes": True, "dashboard_address": None, "silence_logs": 50}
        with (
            self.module.LocalCluster(n_workers=n, threads_per_worker=1, **settings) as cluster,
            self.module.Client(cluster) as self.client,
        ):
            self.client.wait_for_workers(n)
            self.worker = next(iter(self.client.scheduler_info()["workers"]))
            yield

    def submit(self, function: Call, *args: object) -> Any:
        return self.client.submit(function, *args, pure=False)

    def submit_to_one(self, function: Call, *args: object) -> Any:
        return self.client.submit(function, *args, pure=False, workers=[self.worker])

    def finish(self, handles: Iterable[Any]) -> list[Any]:
        return self.client.gather(list(handles))

    def map(self, function: Call, items: Iterable[Any]) -> list[Any]:
        return self.client.gather(self.client.map(function, list(items), pure=False))

    def call(self, address: str, function: Call) -> Any:
        if address == "all":
            return self.client.run(function)
        submit = self.submit if address == "balanced" else self.submit_to_one
        return submit(function).result()

    def send(self, arrays: list[Any], function: Call) -> None:
        # Its own way for large arguments: inside a task they would pass through the scheduler.
        futures = self.client.scatter(arrays, workers=[self.worker], hash=False)
        self.finish([self.submit_to_one(function, future) for future in futures])

    def broadcast(self, array: Any) -> None:
        self.client.scatter([array], broadcast=True, hash=False)


class Ray(System):
    """Ray on one host, with an actor in each of its processes where one of them is meant."""

    addresses: ClassVar = ("balanced", "one", "all")
    scatters = True

    def __init__(self) -> None:
        self.ray = importlib.import_module("ray")
        self.remote = functools.cache(self.ray.remote)

    @contextlib.contextmanager
    def running(self, n: int) -> Iterator[None]:
        self.ray.init(num_cpus=2 * n, include_dashboard=False, logging_level="error", log_to_driver=False)
        try:
            self.actors = [self.remote(Actor).remote() for _ in range(n)]
            self.finish([actor.call.remote(nothing) for actor in self.actors])
            yield
        finally:
            self.ray.shutdown()

    def submit(self, function: Call, *args: object) -> Any:
        return self.remote(function).remote(*args)

    def submit_to_one(self, function: Call, *args: object) -> Any:
        return self.actors[0].call.remote(function, *args)

    def finish(self, handles: Iterable[Any]) -> list[Any]:
        return self.ray.get(list(handles))

    def map(self, function: Call, items: Iterable[Any]) -> list[Any]:
        return self.finish([self.submit(function, item) for item in items])

    def call(self, address: str, function: Call) -> Any:
        if address == "all":
            return self.finish([actor.call.remote(function) for actor in self.actors])
        return self.ray.get((self.submit if address == "balanced" else self.submit_to_one)(function))

    def broadcast(self, array: Any) -> None:
        reference = self.ray.put(array)
        self.finish([actor.take.remote(reference) for actor in self.actors])

    def scatter(self, array: Any) -> None:
        size = -(-len(array) // len(self.actors))
        parts = [array[at * size : (at + 1) * size] for at in range(len(self.actors))]
        self.finish([actor.take.remote(part) for actor, part in zip(self.actors, parts, strict=True)])

    def gather(self) -> Any:
        return np.concatenate(self.finish([actor.give.remote() for actor in self.actors]))


class Actor:
    """What runs in a process of Ray that is meant, and keeps what it got."""

    def call(self, function: Call, *args: object) -> Any:
        return function(*args)

    def take(self, array: Any) -> None:
        self.part = array

    def give(self) -> Any:
        return self.part


class Mpi(System):
    """mpi4py.futures: workers that mpiexec starts with the master, which must be told how many."""

    addresses: ClassVar = ("balanced",)

    def __init__(self) -> None:
        self.module = importlib.import_module("mpi4py.futures")

    @contextlib.contextmanager
    def running(self, n: int) -> Iterator[None]:
        with self.module.MPIPoolExecutor(max_workers=n) as self.pool:
            self.finish([self.pool.submit(nothing) for _ in range(n)])
            yield

    def submit(self, function: Call, *args: object) -> Any:
        return self.pool.submit(function, *args)

    submit_to_one = submit

    def finish(self, handles: Iterable[Any]) -> list[Any]:
        return [handle.result() for handle in handles]

    def map(self, function: Call, items: Iterable[Any]) -> list[Any]:
        return list(self.pool.map(function, items, chunksize=1))

    def call(self, address: str, function: Call) -> Any:
        assert address == "balanced"
        return self.pool.submit(function).result()


def system(name: str) -> System:
    """Import and return the system called ``name``."""
    if name == "ray":
        return Ray()
    if name == "mpi4py":
        return Mpi()
    if name == "executor":
        return Executor()
    if name == "dask":
        return Dask()
    return Ipp(name)
