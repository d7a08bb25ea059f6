"""The engine program: join the cluster, run what it is given, leave in good order."""

from __future__ import annotations

import faulthandler
import gc
import logging
import sys
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

from enginery.descriptions import describe_exception
from enginery.engine import mpi
from enginery.engine.capture import Capture, can_capture
from enginery.engine.current import become
from enginery.engine.deaf import DeafWatch, explanation
from enginery.engine.link import UNREACHED, Link
from enginery.engine.namespace import Namespace
from enginery.engine.output import Stream
from enginery.engine.runner import Runner
from enginery.net.publish import publish
from enginery.net.reach import explain
from enginery.wire.messages import Bye

if TYPE_CHECKING:
    from enginery.core.membership import Membership
    from enginery.engine.begun import BegunCell
    from enginery.engine.options import EngineOptions

log = logging.getLogger("enginery.engine")


def run_engine(options: EngineOptions, *, uuid: str, begun: BegunCell) -> int:
    """Be an engine in this process until there is a reason to leave. Returns the exit code.

    Must be called in the main thread, which runs user code from then on.
    """
    publish(log, options.log_url, "engine")
    namespace = Namespace(options.rank)
    # Before there are threads, and before anybody counts on this engine.
    if options.init_mpi and not mpi.start(options, namespace):
        return 1
    try:
        link = Link(options, uuid, begun)
    except OSError as error:
        log.error("no controller (%s); %s", error.strerror, explain(options.connection))  # noqa: TRY400 - all is said
        return 1
    member = link.member
    try:
        _wait_for_welcome(link, options)
        if member.leaving is not None:
            return _leave_early(member)
        publish(log, options.log_url, f"engine.{member.id}")
        log.info("Completed registration with id %s", member.id)
        namespace.variables["engine_id"] = member.id
        capture = Capture() if can_capture() else None
        logs = {"stdout": sys.stdout, "stderr": sys.stderr} if capture is None else capture.logs
        runner = Runner(link, namespace, begun, options, logs)
        become(runner)
        namespace.become_main()
        plain = sys.stdout, sys.stderr
        sys.stdout = Stream("stdout", runner.outputs, 1)
        sys.stderr = Stream("stderr", runner.outputs, 2)
        if capture is not None:
            capture.start(runner.outputs)
            _log_to(capture.logs["stderr"])
        runner.cells.prepare()
        _start_up(options, namespace)
        gc.set_threshold(20_000, 20, 50)
        deaf = watch_deafness(runner, options, member) if options.rank >= 0 and can_capture() else None
        try:
            reason = runner.serve()
        except BaseException:
            log.exception("engine=%s ends by a fault of its own", member.id)
            raise
        finally:
            sys.stdout, sys.stderr = plain
            if deaf is not None:
                deaf.close()
            if capture is not None:
                capture.close()
        log.info("engine=%s leaving: %s", member.id, reason)
        member.say(Bye(reason))
        return 0
    except KeyboardInterrupt:
        if member.leaving is None:
            raise
        # The interrupt is for the task that runs, and there was none yet: it was told to leave while it started.
        return _leave_early(member)
    finally:
        link.line.close()
        link.sharing.pool.close()


def _leave_early(member: Membership) -> int:
    """Leave before the first task. Returns the exit code: it is in order once the controller has let it in."""
    if member.welcome is None:
        log.error("could not register: %s", member.leaving)
        return 1
    log.info("engine=%s leaving before it could do anything: %s", member.id, member.leaving)
    member.say(Bye(member.leaving or ""))
    return 0


def watch_deafness(runner: Runner, options: EngineOptions, member: Membership) -> DeafWatch:
    """Have those who interrupt a rank in vain be told so, on the standard error stream of its task."""

    def say() -> None:
        runner.outputs.write("stderr", explanation(member.id, options.rank, options.ranks))

    return DeafWatch(lambda: member.running, lambda: runner.interrupts.handled, say)


def _wait_for_welcome(link: Link, options: EngineOptions) -> None:
    """Wait until the controller has answered, which may come up later than its engines. The waiting is said."""
    patience = options.timeout
    while not link.wait_for_welcome(patience):
        why = explain(options.connection)
        if link.silence() > options.timeout * max(options.max_misses, 1):
            link.member.leaving = f"no controller answered within {link.silence():.0f} s; {why}"
            return
        log.warning(UNREACHED, why)
        patience *= 2


def _log_to(stream: TextIO) -> None:
    """Keep what this program says of itself, and its last words, out of the output of tasks."""
    for handler in log.handlers:
        if type(handler) is logging.StreamHandler:
            handler.setStream(stream)
    faulthandler.enable(stream)


def _start_up(options: EngineOptions, namespace: Namespace) -> None:
    """Run the user's script and command, so that their names are there before the first task."""
    if options.startup_script:
        path = Path(options.startup_script).expanduser()
        _run_source(path.read_text(), str(path), namespace)
    if options.startup_command:
        _run_source(options.startup_command, "<startup command>", namespace)


def _run_source(source: str, name: str, namespace: Namespace) -> None:
    try:
        exec(compile(source, name, "exec"), namespace.variables)
    except Exception as error:
        log.error("start-up code %s failed: %s", name, describe_exception(error)[2])  # noqa: TRY400 - told in full
