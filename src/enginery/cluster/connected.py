"""What is done with a cluster through its controller: clients, and engines one by one."""

from __future__ import annotations

import signal
import weakref
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from enginery.client.silence import wait_for
from enginery.cluster.ctrl_c import held_back
from enginery.cluster.known import KnownCluster
from enginery.cluster.twins import awaitable, finish
from enginery.errors import LauncherError
from enginery.net import connection_file, profile_paths

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from enginery.client.client import Client
    from enginery.net.connection_file import ConnectionInfo

KINDS: Final[tuple[profile_paths.Kind, ...]] = ("client", "engine")
#: How long an engine may take to leave by itself, in seconds; then it is killed.
LEAVING: Final = 3.0
#: How long the end of a controller may take to be noticed that does not answer any more, in seconds.
LAST_WORDS: Final = 1.0
#: How long what was killed may take to be gone, in seconds.
DYING: Final = 10.0


class ConnectedCluster(KnownCluster):
    """The part of ``Cluster`` that speaks with its controller."""

    def __init__(self, **kwargs: Any) -> None:
        self._connection: dict[str, ConnectionInfo] = {}
        self._clients: weakref.WeakSet[Client] = weakref.WeakSet()
        super().__init__(**kwargs)

    def connect_client_sync(self, /, **kwargs: Any) -> Client:
        """A Client connected to this cluster; ``kwargs`` go to it. Its ``cluster`` is this one."""
        client_class = load_client()
        info, controller = self._client_info(), self.controller
        try:
            # Not wherever self.profile points: to this very controller.
            client = client_class(info.to_dict(), cluster=self, **kwargs)
        except (ConnectionError, TimeoutError):
            if controller is not None and controller.join(LAST_WORDS):
                raise controller.failure("ended before it was connected to") from None
            raise
        self._clients.add(client)
        self._crashes.watch(client)
        return client

    def _own_client(self) -> Client:
        # Its hello is answered after the controller has read what clients connected here were asked before.
        for client in list(self._clients):
            client.link.flush()
        return load_client()(self._client_info().to_dict())

    def _client_info(self) -> ConnectionInfo:
        info = self._connection_info().get("client")
        if info is None:
            if self.controller is not None and self.controller.state == "after":
                raise self.controller.failure("ended before it was connected to")
            msg = f"The controller of {self!r} does not run. Start it with start_cluster() or start_controller()."
            raise LauncherError(msg)
        return info

    def _connection_info(self) -> dict[str, ConnectionInfo]:
        """How to reach the controller, from its files if another process started it; empty if there is none."""
        if self.controller is not None and not self.controller.running:
            return {}
        if not self._connection:
            folder = Path(self.profile_dir)
            paths = {kind: profile_paths.connection_path(folder, kind, self.cluster_id) for kind in KINDS}
            if all(path.exists() for path in paths.values()):
                self._connection = {kind: connection_file.load(path) for kind, path in paths.items()}
        return self._connection

    # --- engines one by one ---

    def signal_engines_sync(self, signum: int | str, engine_set_id: str | None = None) -> None:
        """Send a signal to each engine of a set, or of all sets. Raises KeyError."""
        number = signal.Signals[signum] if isinstance(signum, str) else signum
        for launcher in self._engine_set(engine_set_id):
            pids = launcher.engine_pids()
            if pids is None:
                finish(launcher.signal(number))
                continue
            with self._own_client() as client:
                engines = client.link.engines.values()
                ids = [each.id for each in engines if each.engine_set == launcher.engine_set_id or each.pid in pids]
                if ids:
                    client.send_signal(number, targets=ids, block=True)

    def signal_engine_sync(self, engine_id: int, signum: int | str) -> None:
        """Send a signal to one engine. Raises IndexError if there is none with this id."""
        with self._own_client() as client:
            client.send_signal(signum, targets=[engine_id], block=True)

    def stop_engine_sync(self, engine_id: int, *, finish: bool = False) -> None:
        """Stop one engine; the others of its set go on. Raises IndexError if there is none with this id.

        What it runs is cut short after a second, and it is killed if it does not leave then. With ``finish`` it ends what
        it has begun first, which may take as long as ``engine_timeout``.
        """
        with self._own_client() as client:
            (engine,), _ = client.resolve([engine_id])
            members = self.members(client, [engine])
            if finish:
                self._retire(client, [engine])
                return
            client.shutdown([engine])
            if not _gone(client, engine, LEAVING):
                client.send_signal("SIGKILL", [engine])
                self._must_go(client, engine)
            self.forget_engines(members)

    def restart_engine_sync(self, engine_id: int) -> None:
        """Stop one engine and start it anew, by the nanny that watches it. Raises IndexError as above.

        Raises LauncherError if that is not possible, as with ranks of an MPI job.
        """
        with self._own_client() as client:
            (engine,), _ = client.resolve([engine_id])
            client.shutdown([engine], restart=True)
            self._must_go(client, engine)

    def _must_go(self, client: Client, engine: int) -> None:
        if not _gone(client, engine, DYING):
            msg = (
                f"Engine {engine} did not leave within {DYING:g} s. If it is a rank of an MPI job, restart its whole set "
                "(restart_engines()); else its log has more."
            )
            raise LauncherError(msg)

    def _retire(self, client: Client, engines: list[int]) -> None:
        raise NotImplementedError

    # --- which engine belongs to which set ---

    def members(self, client: Client, engines: Iterable[int]) -> dict[int, str]:
        """The ids of the sets that some engines belong to, as far as that can be told."""
        pids = {name: launcher.engine_pids() for name, launcher in self.engines.items() if launcher.running}
        known, found = client.link.engines, {}
        others = [name for name, of_set in pids.items() if of_set is None]
        for engine in engines:
            told, pid = known[engine].engine_set, known[engine].pid
            mine = [name for name, of_set in pids.items() if name == told or (of_set is not None and pid in of_set)]
            if mine or len(others) == 1:
                found[engine] = [*mine, *others][0]
        return found

    def forget_engines(self, sets: Mapping[int, str]) -> None:
        """Engines have left for good; ``sets`` says which set each belonged to."""
        for name in sets.values():
            if (launcher := self.engines.get(name)) is not None:
                launcher.n = max(0, launcher.n - 1)
        self.update_cluster_file(ended=True)

    connect_client = awaitable(connect_client_sync)
    signal_engines = awaitable(signal_engines_sync)
    signal_engine = awaitable(signal_engine_sync)
    stop_engine = awaitable(stop_engine_sync)
    restart_engine = awaitable(restart_engine_sync)


def load_client() -> type[Client]:
    """The class Client, imported when it is needed first."""
    # Not to be cut short: an exception at the wrong moment of its imports makes msgspec crash.
    with held_back():
        # Loaded while the programs start, instead of before: that is a fifth of the time that takes.
        from enginery.client.client import Client

    return Client


def _gone(client: Client, engine: int, timeout: float) -> bool:
    """Wait for the end of an engine, which never has this id again; whether it has come."""
    return wait_for(
        client.link, lambda: engine not in client.link.engines, timeout, lambda: f"the end of engine {engine}"
    )
