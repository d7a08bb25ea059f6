"""The user's end of a cluster: Client."""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterator
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

from enginery.client import active
from enginery.client.balanced import LoadBalancedView
from enginery.client.broadcast import BroadcastView
from enginery.client.connect import find_connection, reach
from enginery.client.direct import DirectView
from enginery.client.executor import ViewExecutor
from enginery.client.kept import KeptValue
from enginery.client.link import Link
from enginery.client.log import Log
from enginery.client.metadata import message_id
from enginery.client.recorded import AsyncHubResult
from enginery.client.records import Records
from enginery.client.targets import Deadline
from enginery.errors import NoRecord
from enginery.net.addresses import loopback_mismatch
from enginery.wire.messages import CLIENT_SHIFT

#: Settings of the message format of old; programs pass them, and they mean nothing here.
_OF_OLD: Final = frozenset(
    {
        "adapt_version", "auth", "buffer_threshold", "check_pid", "config", "copy_threshold", "digest_history_size",
        "digest_mod", "item_threshold", "key", "keyfile", "log", "packer", "parent", "signature_scheme", "unpacker",
        "username",
    }
)  # fmt: skip
#: What sessions may be called.
_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9.-]{0,63}")


class Client(Records):
    """A connection to a controller, and the way to its engines. Thread-safe.

    Args:
        connection_info: Path of the controller's connection file for clients, or the mapping it contains.
        url_file: The same, by its older name.
        profile: Name of the IPython profile in which to look for the file, where it is not given.
        profile_dir: Folder of that profile.
        ipython_dir: Folder of all profiles.
        context: Not needed.
        debug: Kept as an attribute for programs that look at it.
        sshserver: Reach the controller through this ssh server, ``[user@]server[:port]``. Where the connection file names
            one, and the controller is on another host, that is done without being asked.
        sshkey: File of the private key for it, where ssh does not find it by itself.
        password: Cannot be used, and is refused: ssh asks keys and agents only.
        paramiko: True is refused: tunnels are made by OpenSSH's client.
        timeout: Seconds to wait for the file, and for the controller to answer.
        cluster_id: Which cluster of the profile.
        cluster: The ``Cluster`` it belongs to.
        session: A name for what is done here, of letters, digits and ``.-``: a later client of the same name gets at the
            requests by ``attach()``. What is no text is a setting of old, and means nothing.

    Raises:
        ValueError: ``session`` is no such name.
        FileNotFoundError: There is no connection file (an OSError).
        ConnectionFileError: It is damaged (a ValueError).
        TunnelError: ssh did not get through, with what it said (a ConnectionError).
        TimeoutError: Nothing answers there.
        Refused: The controller does not want us.
    """

    def __init__(
        self,
        connection_info: Any = None,
        *,
        url_file: str | Path | None = None,
        profile: str | None = None,
        profile_dir: str | Path | None = None,
        ipython_dir: str | Path | None = None,
        context: Any = None,  # noqa: ARG002 - see the docstring, likewise below
        debug: bool = False,
        sshserver: str | None = None,
        sshkey: str | Path | None = None,
        password: str | None = None,
        paramiko: bool | None = None,
        timeout: float = 10,
        cluster_id: str | None = None,
        cluster: Any = None,
        session: Any = None,
        **extra: Any,
    ) -> None:
        if "url_or_file" in extra:
            warnings.warn("url_or_file= is called connection_info= now.", DeprecationWarning, stacklevel=2)
            connection_info = extra.pop("url_or_file")
        unknown = sorted(extra.keys() - _OF_OLD)
        if unknown:
            raise TypeError(f"Client() does not know {', '.join(f'{name}=' for name in unknown)}")
        name = session if isinstance(session, str) else ""
        if name and not _NAME.fullmatch(name):
            raise ValueError(f"The name of a session has up to 64 letters, digits and '.-'; {name!r} has others.")
        self.block = False
        self.debug = debug
        self.profile = profile or "default"
        self.cluster = cluster
        self.log = Log()
        deadline = Deadline(timeout)
        info, self.source = find_connection(
            connection_info if connection_info is not None else url_file,
            profile=profile,
            profile_dir=profile_dir,
            ipython_dir=ipython_dir,
            cluster_id=cluster_id,
            timeout=timeout,
        )
        left = max(1.0, deadline.left() or 0.0)
        info, self._tunnel = reach(
            info, sshserver=sshserver, sshkey=sshkey, password=password, paramiko=paramiko, timeout=left
        )
        if warning := loopback_mismatch(info):
            warnings.warn(warning, RuntimeWarning, stacklevel=2)
        trouble = self._tunnel.trouble if self._tunnel is not None else str
        try:
            left = max(1.0, deadline.left() or 0.0)
            self.link = Link.connect(info, timeout=left, trouble=trouble, session=name)
        except BaseException:
            self._let_tunnel_go()
            raise
        self._watch_engines()
        active.greet(self)

    @classmethod
    def on(cls, link: Link, *, cluster: Any = None) -> Self:
        """A client on a link that is connected already: for tests and for other ways to connect."""
        client = cls.__new__(cls)
        client.block = client.debug = False
        client.profile = client.source = ""
        client.cluster = cluster
        client.log = Log()
        client._tunnel = None
        client.link = link
        client._watch_engines()
        return client

    # --- views ----------------------------------------------------------------------------------------------------

    def __iter__(self) -> Iterator[DirectView]:
        return (self.direct_view(number) for number in self.ids)

    def __getitem__(self, key: Any) -> DirectView:
        """A DirectView of one engine (int), or of several (slice, tuple, list, range)."""
        if not isinstance(key, int | slice | tuple | list | range) and not hasattr(type(key), "__index__"):
            raise TypeError(f"A client is indexed by an id, a slice, or a tuple, list or range of ids, not by {key!r}.")
        return self.direct_view(key)

    def direct_view(self, targets: Any = "all", **flags: Any) -> DirectView:
        """A view of engines addressed by id; ``'all'`` is looked up at each call. See ``DirectView``."""
        return DirectView(self, self._frozen(targets), **flags)

    def broadcast_view(self, targets: Any = "all", is_coalescing: bool = False, **flags: Any) -> BroadcastView:
        """A view of many engines at once. See ``BroadcastView``."""
        return BroadcastView(self, self._frozen(targets), is_coalescing=is_coalescing, **flags)

    def load_balanced_view(self, targets: Any = None, **flags: Any) -> LoadBalancedView:
        """A view that leaves the choice of engines to the controller. See ``LoadBalancedView``."""
        return LoadBalancedView(self, targets, **flags)

    def executor(self, targets: Any = None) -> ViewExecutor:
        """A load-balanced view as a ``concurrent.futures.Executor``."""
        return self.load_balanced_view(targets).executor

    def activate(self, targets: Any = "all", suffix: str = "") -> DirectView:
        """A blocking DirectView which ``%px`` (or ``%px<suffix>``) uses."""
        view = self.direct_view(targets, block=True)
        view.activate(suffix)
        return view

    def _frozen(self, targets: Any) -> Any:
        """Targets as a view keeps them: 'all' as it is, everything else as ids that are there now."""
        if targets is None or (isinstance(targets, str) and targets == "all"):
            return "all"
        ids, scalar = self.resolve(targets)
        return ids[0] if scalar else ids

    # --- engines --------------------------------------------------------------------------------------------------

    def clear(self, targets: Any = None, block: bool | None = None) -> Any:
        """Forget everything that was set on engines."""
        return self.direct_view("all" if targets is None else targets).clear(
            block=self.block if block is None else block
        )

    def send_signal(self, sig: int | str, targets: Any = None, block: bool | None = None) -> None:
        """Send a signal (a number, or a name such as ``"SIGINT"``) to engines, even if they are busy.

        Returns when the controller has passed it on; ``block`` is kept for programs that pass it.
        """
        del block
        ids, _ = self.resolve(targets)
        self.link.signal(ids, sig)

    def shutdown(
        self,
        targets: Any = "all",
        restart: bool = False,
        hub: bool = False,
        block: bool | None = None,
        *,
        finish: bool = False,
    ) -> None:
        """Stop engines.

        Args:
            targets: Which; all by default.
            restart: Start them anew.
            hub: Stop all engines and the controller, and close this client.
            block: Wait until they are gone.
            finish: Let them end what they have begun; balanced tasks they have not begun run elsewhere. Without it,
                what still runs after a second is lost.
        """
        if hub:
            self.link.shutdown(self.ids, restart=restart, controller=True)
            self.close()
            return
        ids, _ = self.resolve(targets)
        engines = self.link.engines
        leaving = {(each, engines[each].uuid) for each in ids}
        self.link.shutdown(ids, restart=restart, finish=finish)
        if self.block if block is None else block:
            self.link.wait_for(lambda: leaving.isdisjoint((e.id, e.uuid) for e in self.link.engines.values()))

    def where(self, what: Any) -> Any:
        """Which engines have a name, or a value that was kept.

        Args:
            what: A name, a list of names, or a ``KeptValue``.

        Returns:
            Ids of the engines that have it; of several names, such a list for each, by name. Engines whose C code keeps
            them from answering within a quarter of a second are left out.
        """
        if isinstance(what, KeptValue):
            values = self.link.ask("where", {"values": [what._id]})
            assert isinstance(values, list), "a list for each"
            return values[0]
        names = [what] if isinstance(what, str) else list(what)
        if not all(isinstance(name, str) for name in names):
            raise TypeError(f"Names on engines are strings, not {what!r}.")
        if not names:
            return {}
        found = self.link.ask("where", {"names": names})
        assert isinstance(found, dict), "a list for each name"
        return found[what] if isinstance(what, str) else found

    def statistics(self) -> dict[str, Any]:
        """Counts of the controller: tasks submitted, ended, failed, retried, stolen; how many there are of what now."""
        answer = self.link.ask("statistics", {})
        assert isinstance(answer, dict), "statistics are a mapping"
        return answer

    def story(self, task: Any) -> Any:
        """What happened to a request, the earliest first: where it was tried, how it failed, how it stands or ended.

        ``task`` is a message id, or a result. Of a result of several requests: such a list for each, by message id. Plain
        successes long ago are told in few words; what failed or was tried again is remembered for longer.
        """
        ids = [self.task_id(task)] if isinstance(task, str) else task._all_ids()
        answer = self.link.ask("story", {"tasks": ids})
        assert isinstance(answer, list), "a story for each"
        if isinstance(task, str) or len(ids) == 1:
            return answer[0]
        return {message_id(self.session, each): lines for each, lines in zip(ids, answer, strict=False)}

    def queue_status(self, targets: Any = "all", verbose: bool = False) -> dict[Any, Any]:
        """How much work engines have.

        Returns ``{engine: {"queue": …, "completed": …, "tasks": …}, "unassigned": …}``: counts, or lists of message ids if
        ``verbose`` (``completed``: those that are recorded). For an int target, the entry of that engine alone.
        """
        everything = targets is None or (isinstance(targets, str) and targets == "all")
        ids, scalar = (None, False) if everything else self.resolve(targets)
        answer = self.link.ask("queue_status", {"targets": ids, "verbose": verbose})
        assert isinstance(answer, dict), "queue_status is answered by a mapping"
        sessions = self.link.ask("sessions") if verbose else {}
        assert isinstance(sessions, dict), "sessions by number of the client"
        status = {int(key) if key.isdecimal() else key: self._named(value, sessions) for key, value in answer.items()}
        if verbose:
            self._add_completed(status)
        return status[ids[0]] if scalar and ids else status

    def _named(self, value: Any, sessions: dict[str, str]) -> Any:
        """Task ids as message ids, wherever they stand."""
        if isinstance(value, dict):
            return {key: self._named(each, sessions) for key, each in value.items()}
        if isinstance(value, list):
            return [self._name(each, sessions) for each in value]
        return value

    def _name(self, task: int, sessions: dict[str, str]) -> str:
        owner = task >> CLIENT_SHIFT
        known = self.session if owner == self.link.number else sessions.get(str(owner), f"client{owner}")
        return message_id(known, task)

    def _add_completed(self, status: dict[Any, Any]) -> None:
        """Name what engines have completed, as far as it is recorded."""
        uuids = {self.link.engines[each].uuid: status[each] for each in status if each in self.link.engines}
        for engine in uuids.values():
            engine["completed"] = []
        ended = {"engine_uuid": {"$in": list(uuids)}, "completed": {"$ne": None}}
        with suppress(NoRecord):
            for record in self.db_query(ended, ["engine_uuid"]):
                uuids[record["engine_uuid"]]["completed"].append(record["msg_id"])

    def become_dask(
        self,
        targets: Any = "all",
        port: int = 0,
        nanny: bool = False,
        scheduler_args: dict[str, Any] | None = None,
        **worker_args: Any,
    ) -> Any:
        """Start a Dask worker in each engine, and a scheduler here; returns a ``distributed.Client`` of it.

        Engines stay engines, too. ``stop_dask`` ends it.

        Args:
            targets: Which engines.
            port: The port of the scheduler; 0 for any.
            nanny: Give each worker a process of its own, with Dask's nanny.
            scheduler_args: Keyword arguments of ``distributed.LocalCluster``, which runs the scheduler.
            worker_args: Keyword arguments of ``distributed.Worker``. By default each has one thread.

        Raises ImportError if distributed is not installed.
        """
        # Optional, and on a floor above this one: known by name only.
        integration = import_module("enginery.integrations.dask")
        return integration.become(self, targets, port, nanny, scheduler_args, **worker_args)

    def stop_dask(self, targets: Any = "all") -> None:
        """Stop the Dask workers of engines, and with the last of them the scheduler."""
        import_module("enginery.integrations.dask").stop(self, targets)

    become_distributed = become_dask
    stop_distributed = stop_dask

    # --- the end --------------------------------------------------------------------------------------------------

    def close(self, linger: float | None = None) -> None:
        """Close the connection. Results that have not come will not come. Calls after the first do nothing."""
        del linger
        self.link.close()
        self._let_tunnel_go()

    def _let_tunnel_go(self) -> None:
        tunnel, self._tunnel = self._tunnel, None
        if tunnel is not None:
            tunnel.release()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, tb: TracebackType | None) -> None:
        self.close()

    def __repr__(self) -> str:
        if self.link.closed:
            return "<Client closed>"
        return f"<Client engines={len(self)} outstanding={self.link.outstanding}>"


def attach(session: str, *args: Any, **kwargs: Any) -> list[AsyncHubResult]:
    """What was asked for by clients of a session, in other processes or earlier: ``Client(session=NAME).attach()``.

    Args:
        session: The name.
        *args: Further arguments of ``Client``.
        **kwargs: Likewise.

    Returns:
        A result for each request, ``result.client`` being the new client; none if nothing is recorded.
    """
    return Client(*args, session=session, **kwargs).attach()
