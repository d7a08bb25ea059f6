"""What of a cluster died though nobody had stopped it: told once, in words, to the log and to whoever asked for it."""

from __future__ import annotations

import contextlib
import re
import threading
from collections import deque
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Final, Literal

from enginery.cluster.launchers.base import describe_code
from enginery.error_texts import id_ranges

if TYPE_CHECKING:
    import logging
    from collections.abc import Callable, Iterable, Iterator

    from enginery.client.client import Client
    from enginery.cluster.launchers.base import ControllerLauncher, EngineLauncher, StopData
    from enginery.wire.messages import Departure

#: Crashes kept in ``Cluster.crashes``.
KEPT: Final = 100
#: Of engines that died at once, those that are logged one by one if there are more.
SHOWN: Final = 3
#: Lines of output a crash is told with.
LINES: Final = 40
#: Lines by which programs tell that all is well.
ROUTINE: Final = re.compile(r"[-\d]+ [:,\d]+ (INFO|DEBUG) (engine|controller) ")
#: Engines whose end has been told are remembered, since each client hears of it.
REMEMBERED: Final = 10_000


@dataclass(frozen=True, slots=True)
class Crash:
    """The end of a program that nobody had asked for.

    ``what`` is ``"controller"``, ``"engine set"`` or ``"engine"``; ``id`` the engine's number or the set's id. ``code`` is
    the exit code, negative for a signal, and None if nobody knows. ``output`` is what was last written, by all engines
    of a set if they share their output. ``returns`` says that it is started anew.
    """

    what: Literal["controller", "engine set", "engine"]
    id: int | str
    reason: str
    code: int | None = None
    output: str = ""
    returns: bool = False
    whence: str = ""

    def __str__(self) -> str:
        """What died, how, what follows, and its last output."""
        name = "The controller" if self.what == "controller" else f"{self.what.capitalize()} {self.id}"
        if self.what == "engine" and self.id == -1:
            name = "An engine that had not connected yet"
        # A host that ends by itself has outlived its engines, and speaks of the first that did not end well.
        verb = "ended" if self.what == "engine set" and (self.code or 0) > 0 else "died"
        text = f"{name}{f' ({self.whence})' if self.whence else ''} {verb}: {self.reason}."
        if self.what == "controller" and not self.returns:
            text += " Its engines leave, and its clients raise ConnectionLost. Start the cluster anew."
        if self.returns:
            text += " It is started anew."
            text += " Its engines and clients wait for it, and nothing is lost." if self.what == "controller" else ""
        return f"{text} Last output:\n{self.output}" if self.output else text


class Crashes:
    """The newest crashes of one cluster, and who is told of them. Thread-safe."""

    def __init__(self, log: Callable[[], logging.Logger], sets: Callable[[], Iterable[EngineLauncher]]) -> None:
        self.newest: deque[Crash] = deque(maxlen=KEPT)
        self._log = log
        self._sets = sets
        self._callbacks: list[Callable[[Crash], object]] = []
        self._told: dict[str, None] = {}
        self._held: list[Crash] | None = None
        self._lock = threading.Lock()

    def on_crash(self, callback: Callable[[Crash], object]) -> None:
        """Have ``callback(crash)`` called for each crash from now on."""
        self._callbacks.append(callback)

    def watch(self, client: Client) -> None:
        """Hear from a client how engines end."""
        client.link.add_news_callback(lambda _joined, left: self._hear(client, left))

    def controller_ended(self, launcher: ControllerLauncher, data: StopData, *, returns: bool) -> None:
        """The controller died."""
        code = data.get("exit_code")
        whence = f"pid {launcher.identifier}" if launcher.identifier else ""
        self._tell(Crash("controller", "", describe_code(code), code, _tail(_output(launcher, data)), returns, whence))

    def set_ended(self, launcher: EngineLauncher, data: StopData, *, returns: bool) -> None:
        """The program that holds a set of engines died, and they with it."""
        code = data.get("exit_code")
        output = _tail(_output(launcher, data))
        if any(output == each.output for each in self.newest):
            output = ""  # the death of its last engine has shown it
        self._tell(Crash("engine set", launcher.engine_set_id, describe_code(code), code, output, returns))

    def _hear(self, client: Client, left: list[Departure]) -> None:
        crashed = [departure for departure in left if self._is_news(departure) and departure.crashed]
        if crashed:
            # By the thread for calls of the user's: this one reads the connection, and files are to be read.
            client.link.call_back(partial(self._engines_died, client, crashed))

    def _is_news(self, departure: Departure) -> bool:
        with self._lock:
            is_news = departure.uuid not in self._told
            self._told[departure.uuid] = None
            if len(self._told) > REMEMBERED:
                del self._told[next(iter(self._told))]
        return is_news

    def _engines_died(self, client: Client, crashed: list[Departure]) -> None:
        many = len(crashed) > SHOWN + 1
        shown = crashed[:SHOWN] if many else crashed
        for departure in shown:
            self._tell(self._crash_of(client, departure, with_output=True))
        if many:
            rest = crashed[SHOWN:]
            ids = id_ranges(departure.id for departure in rest if departure.id >= 0) or "not known yet"
            self._log().warning("%d more engines died at the same time (ids %s).", len(rest), ids)
            for departure in rest:
                self._tell(self._crash_of(client, departure), log=False)

    def _crash_of(self, client: Client, departure: Departure, *, with_output: bool = False) -> Crash:
        info = client.engine_info(departure.id, "")
        pid = info.get("pid")
        whence = f"pid {pid} on {info['host']}" if pid else ""
        # What the host says of it is no more than the reason.
        lines = self._output_of(pid).splitlines() if with_output else []
        output = "\n".join(each for each in lines if departure.reason not in each)
        return Crash("engine", departure.id, departure.reason, departure.code, output, departure.returns, whence)

    def _output_of(self, pid: object) -> str:
        """What the set wrote that an engine belonged to: the only one, or the one whose output tells of its end."""
        outputs = [each.get_output() for each in self._sets()]
        if len(outputs) > 1:
            outputs = [each for each in outputs if f"pid={pid} " in each]
        return _tail(outputs[0]) if outputs else ""

    @contextlib.contextmanager
    def told_by_errors(self) -> Iterator[None]:
        """What crashes in the block is told at its end, or not at all if an exception leaves it, which says more."""
        held: list[Crash] = []
        self._held = held
        try:
            yield
        finally:
            self._held = None
        for crash in held:
            self._tell(crash)

    def _tell(self, crash: Crash, *, log: bool = True) -> None:
        if (held := self._held) is not None:
            held.append(crash)
            return
        self.newest.append(crash)
        if log:
            self._log().warning("%s", crash)
        for callback in list(self._callbacks):
            try:
                callback(crash)
            except Exception:
                # The user's fault, which must not keep others from being told.
                self._log().exception("a callback for crashes failed")


def _output(launcher: ControllerLauncher | EngineLauncher, data: StopData) -> str:
    return str(data.get("output") or launcher.get_output())


def _tail(text: str) -> str:
    return "\n".join([line for line in text.splitlines() if not ROUTINE.match(line)][-LINES:])
