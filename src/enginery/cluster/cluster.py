"""Cluster: a controller and sets of engines that are started, watched and stopped together.

    with Cluster(n=4) as rc:
        rc[:].apply_sync(os.getpid)

Each blocking method ends in ``_sync`` and has an awaitable twin without the ending. Methods may be called from any
thread; what is noticed about processes is noticed by the threads that wait for them.
"""

from __future__ import annotations

import atexit
import contextlib
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import traitlets
from traitlets import Bool, Float, Integer, List, Unicode

from enginery.cluster import outfit
from enginery.cluster.connected import ConnectedCluster, load_client
from enginery.cluster.launchers.base import BaseLauncher, ControllerLauncher, EngineLauncher
from enginery.cluster.scale import await_known, retire, scale
from enginery.cluster.traces import remove_traces
from enginery.cluster.twins import awaitable, finish
from enginery.cluster.waiting import known_crashes, wait_for_engines
from enginery.errors import LauncherError
from enginery.net import profile_paths

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from types import TracebackType
    from typing import Self

    from enginery.client.client import Client

LauncherName = str | type


class Cluster(ConnectedCluster):
    """A cluster of one controller and any number of engine sets.

    ``engines`` and ``controller`` name launchers (see ``find_launcher_class``). Keyword arguments win over ``config``,
    which wins over the profile's ``ipcluster_config`` files. As a context manager it is a connected Client inside,
    and everything is stopped on the way out.
    """

    controller_launcher_class = traitlets.Any("local", help="Launcher of the controller.").tag(config=True)
    engine_launcher_class = traitlets.Any("local", help="Launcher of engines.").tag(config=True)
    controller_args = List(Unicode(), help="Further arguments of the controller.").tag(config=True)
    engine_args = List(Unicode(), help="Further arguments of engines.").tag(config=True)
    controller_ip = Unicode("", help="Address the controller listens on ('*': every interface).").tag(config=True)
    controller_location = Unicode("", help="Host name or address others reach the controller by.").tag(config=True)
    delay = Float(0.0, help="Of earlier versions; engines start as soon as the controller listens.").tag(config=True)
    n = Integer(None, min=0, allow_none=True, help="How many engines (default: one for each core).").tag(config=True)
    engine_timeout = Float(60.0, help="Seconds the engines may take to connect.").tag(config=True)
    load_profile = Bool(True, help="Load the profile's ipcluster_config files.").tag(config=True)
    send_engines_connection_env = Bool(
        True, help="Hand the connection info to engines, so that they need not find the connection file."
    ).tag(config=True)

    def __init__(
        self, *, engines: LauncherName | None = None, controller: LauncherName | None = None, **kwargs: Any
    ) -> None:
        for name, value in (("engine", engines), ("controller", controller)):
            if value is None:
                continue
            if f"{name}_launcher_class" in kwargs:
                msg = f"{name}_launcher_class is given twice: as {value!r} and {kwargs[f'{name}_launcher_class']!r}."
                raise TypeError(msg)
            kwargs[f"{name}_launcher_class"] = value
        outfit.check_arguments(kwargs, self.trait_names())
        if kwargs.get("parent") is None and kwargs.get("load_profile", True):
            kwargs["config"] = outfit.profile_config(kwargs)
        #: How many engines were started here, ever.
        self.started = 0
        self._given: dict[str, dict[str, Any]] = {}  #: what each set was started with, and the controller ("")
        self._pid = os.getpid()
        self.is_named = "cluster_id" in kwargs  #: so that it can be asked for again when it was stopped
        super().__init__(**kwargs)

    # --- starting ---

    def start_controller_sync(self, /, **kwargs: Any) -> None:
        """Start the controller and wait until it listens. ``kwargs`` set traits of its launcher.

        Raises RuntimeError if it runs already, LauncherError with command and output if it does not come up.
        """
        launcher = self._prepare_controller(kwargs)
        try:
            finish(launcher.start())
            self._wait_for_controller(launcher)
        except BaseException:
            self._give_up()
            raise

    def start_engines_sync(self, /, n: int | None = None, engine_set_id: str | None = None, **kwargs: Any) -> str:
        """Start a set of ``n`` engines (default: as of the cluster) and return the id of the set.

        ``kwargs`` set traits of its launcher. Does not wait for the engines to connect.
        Raises RuntimeError if a set with this id runs already, LauncherError if the set cannot be started.
        """
        launcher = self._prepare_engines(n, engine_set_id, kwargs)
        if self.send_engines_connection_env:
            launcher.connection = self._connection_info().get("engine")
        self._start_engines(launcher)
        return launcher.engine_set_id

    def start_cluster_sync(self, n: int | None = None) -> Self:
        """Start the controller and ``n`` engines (default: as of the cluster). Does not wait for them to connect."""
        with self.crashes_raise():
            self._bring_up(n, lambda: None)
        return self

    def start_and_connect_sync(self, n: int | None = None, activate: bool = False) -> Client:
        """Start what does not run yet, wait for ``n`` engines, and return a Client connected to them.

        With ``activate``, the client's view is made the target of the ``%px`` magics.
        Raises LauncherError with command and output if controller or engines do not come up, TimeoutError if they
        take longer than ``engine_timeout`` seconds; then nothing is left running.
        """
        fresh = self.controller is None or self.controller.state == "after"
        try:
            with self.crashes_raise():
                client = self._start_and_connect(n, fresh=fresh)
            if activate:
                client.activate()
        except BaseException:
            if fresh:
                self._give_up()
            raise
        return client

    def _start_and_connect(self, n: int | None, *, fresh: bool) -> Client:
        if fresh:
            self._bring_up(n, load_client)
        client = self.connect_client_sync()
        earlier = frozenset() if fresh else known_crashes(client)
        if not fresh:
            self.bury_sets()
            if not self.engines:
                self.start_engines_sync(n)
        if wanted := self._count(n):
            wait_for_engines(client, wanted, self.launchers(), self.engine_timeout, earlier=earlier)
        return client

    def _bring_up(self, n: int | None, meanwhile: Callable[[], object]) -> None:
        """Start controller and engines, side by side where the launcher of engines can wait for the controller."""
        controller = self._prepare_controller({})
        try:
            finish(controller.start())
            count = self._count(n)
            early = self._prepare_engines(count, None, {}) if count else None
            if early is not None and early.starts_early and self.send_engines_connection_env:
                self._start_engines(early, early=True)
            meanwhile()
            self._wait_for_controller(controller)
            if early is None:
                return
            if early.running:
                early.connect(self._connection["engine"])
            elif early.state == "before":
                early.connection = self._connection.get("engine") if self.send_engines_connection_env else None
                self._start_engines(early)
        except BaseException:
            self._give_up()
            raise

    def _prepare_controller(self, kwargs: Mapping[str, Any]) -> ControllerLauncher:
        if self.controller is not None:
            if self.controller.state != "after":
                msg = f"The controller of {self!r} runs already. Stop it first with stop_controller()."
                raise RuntimeError(msg)
            self._bury(self.controller)
        self._prepare()
        launcher = outfit.make_controller_launcher(self, kwargs)
        self._given[""] = dict(kwargs)
        self._adopt(launcher)
        self._restarts.began(launcher)
        return launcher

    def _prepare_engines(self, n: int | None, engine_set_id: str | None, kwargs: Mapping[str, Any]) -> EngineLauncher:
        self._prepare()
        engine_set_id = engine_set_id or outfit.new_id()
        if engine_set_id in self.engines and self.engines[engine_set_id].running:
            msg = f"Engine set {engine_set_id!r} runs already. Choose another id, or stop it first."
            raise RuntimeError(msg)
        launcher = outfit.make_engine_launcher(self, self._count(n), engine_set_id, kwargs)
        self._given[engine_set_id] = dict(kwargs)
        self._adopt(launcher)
        return launcher

    def _prepare(self) -> None:
        self._stopping = False
        profile_paths.ensure_profile(Path(self.profile_dir))
        if self.shutdown_atexit:
            atexit.register(self._at_exit)

    def _start_engines(self, launcher: EngineLauncher, **kwargs: Any) -> None:
        self.log.info("Starting %d engine(s) with %s", launcher.n, type(launcher).__name__)
        try:
            finish(launcher.start(launcher.n, **kwargs))
        except BaseException:
            with contextlib.suppress(Exception):  # what went wrong before is what shall be heard of
                self._stop_engines([launcher])
            self.engines.pop(launcher.engine_set_id, None)
            raise
        self.started += launcher.n
        self._restarts.began(launcher)
        self.update_cluster_file()

    def _wait_for_controller(self, launcher: ControllerLauncher) -> None:
        self._connection = finish(launcher.get_connection_info())
        self.update_cluster_file()

    def _count(self, n: int | None) -> int:
        n = self.n if n is None else n
        places = outfit.places(self)
        if n is None:
            return places or os.cpu_count() or 1
        return min(n, places or n)

    # --- stopping ---

    def stop_controller_sync(self) -> None:
        """Stop the controller; nothing happens if it does not run."""
        controller = self.controller
        if controller is None:
            return
        self._stopping = True
        finish(controller.stop())
        self._bury(controller)
        self.update_cluster_file(ended=True)

    def _bury(self, controller: ControllerLauncher) -> None:
        """Clean up after a controller that is gone, and after the sets that went with it."""
        controller.get_output(remove=True)
        remove_traces(controller, self._connection)
        for path in controller.litter:
            path.unlink(missing_ok=True)
        self.controller = None
        self._connection = {}
        self.bury_sets()

    def stop_engines_sync(self, engine_set_id: str | None = None) -> None:
        """Stop an engine set, or all of them. Raises KeyError for an unknown set."""
        self._stop_engines(self._engine_set(engine_set_id))

    def stop_cluster_sync(self) -> None:
        """Stop all engines and the controller, and close the clients that came from here.

        If Ctrl-C cuts it short, it is done at the end of this process after all.
        """
        for client in list(self._clients):
            client.close()
        self._clients.clear()
        with self._lock:  # not in the middle of a restart
            self._stopping = True
            self._restarts.cancel()
        # One farewell to all before the first wait: their ends overlap.
        for launcher in self.launchers():
            launcher.begin_stop()
        try:
            self._stop_engines(list(self.engines.values()))
        finally:  # whatever kept the engines' end from being written down
            self.stop_controller_sync()
        atexit.unregister(self._at_exit)

    def _stop_engines(self, launchers: list[EngineLauncher]) -> None:
        self._leaving.update(launchers)
        for launcher in launchers:
            self._restarts.cancel(launcher.engine_set_id)
            launcher.begin_stop()
        problems: list[LauncherError] = []
        for launcher in launchers:
            launcher.connect(None)
            try:
                finish(launcher.stop())
            except LauncherError as error:
                problems.append(error)  # the others shall go all the same
                continue
            # Only now: what Ctrl-C cuts short can be done again.
            self._forget_set(launcher)
            self._leaving.discard(launcher)
        self.update_cluster_file(ended=True)
        if problems:
            raise problems[0] if len(problems) == 1 else LauncherError("\n".join(map(str, problems)))

    def _give_up(self) -> None:
        """Stop all after a failed start; that failure is what shall be heard of."""
        with contextlib.suppress(Exception):
            self.stop_cluster_sync()

    def _at_exit(self) -> None:
        # A fork of the owner is not the owner.
        if os.getpid() == self._pid:
            self._give_up()

    # --- engines while they run ---

    def restart_engines_sync(self, engine_set_id: str | None = None) -> None:
        """Stop an engine set, or all of them, and start as many anew under the same set ids. Raises KeyError."""
        for launcher in self._engine_set(engine_set_id):
            self._stop_engines([launcher])
            name = launcher.engine_set_id
            self.start_engines_sync(launcher.n, name, **self._given.get(name, {}))

    def scale_sync(self, n: int, *, timeout: float | None = None) -> None:
        """Start or stop engines until there are ``n``, and return once there are.

        Engines with the least work go first, the newest among equals. They end what they have begun; balanced tasks
        they have not begun run elsewhere. The others work on meanwhile.

        Raises TimeoutError if that takes longer than ``timeout`` seconds (``engine_timeout``); engines that were told to
        leave do so later all the same. Raises ValueError for a negative number, LauncherError if engines cannot be
        started.
        """
        if n < 0:
            msg = f"A cluster cannot have {n} engines."
            raise ValueError(msg)
        with self._own_client() as client:
            scale(self, client, n, self.engine_timeout if timeout is None else timeout)
            ids = client.ids
        self.n = n
        await_known(self._clients, ids)

    def _retire(self, client: Client, engines: list[int]) -> None:
        retire(self, client, engines, self.engine_timeout)

    def _start_anew(self, launcher: BaseLauncher) -> None:
        with self._lock:
            if self._stopping:
                return
            if isinstance(launcher, EngineLauncher):
                if self.controller is not None and self.controller.running:
                    name = launcher.engine_set_id
                    self.start_engines_sync(launcher.n, name, **self._given.get(name, {}))
                return
            if self.controller is not launcher:
                return
            controller = outfit.make_controller_launcher(self, self._given.get("", {}))
            launcher.get_output(remove=True)
            self._adopt(controller)
            finish(controller.start())
            self._restarts.began(controller)
        self._wait_for_controller(controller)

    # --- the twins ---

    start_controller = awaitable(start_controller_sync)
    start_engines = awaitable(start_engines_sync)
    start_cluster = awaitable(start_cluster_sync)
    start_and_connect = awaitable(start_and_connect_sync)
    stop_controller = awaitable(stop_controller_sync)
    stop_engines = awaitable(stop_engines_sync)
    stop_cluster = awaitable(stop_cluster_sync)
    restart_engines = awaitable(restart_engines_sync)
    scale = awaitable(scale_sync)

    def __enter__(self) -> Client:
        return self.start_and_connect_sync()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        self.stop_cluster_sync()

    async def __aenter__(self) -> Client:
        return await self.start_and_connect()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        await self.stop_cluster()
