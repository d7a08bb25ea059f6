"""The engine program: join the cluster, run what it is given, leave in good order."""

from __future__ import annotations

import gc
import logging
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from enginery.engine.link import Link
from enginery.engine.namespace import Namespace
from enginery.engine.output import Stream
from enginery.engine.runner import Runner
from enginery.errors import describe_exception
from enginery.wire.messages import Bye

if TYPE_CHECKING:
    from enginery.engine.begun import BegunCell
    from enginery.engine.options import EngineOptions

log = logging.getLogger("enginery.engine")


def run_engine(options: EngineOptions, *, uuid: str, begun: BegunCell) -> int:
    """Be an engine in this process until there is a reason to leave. Returns the exit code.

    Must be called in the main thread, which runs user code from then on.
    """
    try:
        link = Link(options, uuid)
    except OSError as error:
        log.error("no controller listens at %s: %s", options.connection.url, error.strerror)  # noqa: TRY400 - all is said
        return 1
    member = link.member
    try:
        # The controller may come up later than its engines; it is dialled until then, and the waiting is said.
        while not link.wait_for_welcome(options.timeout):
            log.warning("no answer from the controller at %s yet, still trying", options.connection.url)
            if link.silence() > options.timeout * max(options.max_misses, 1):
                member.leaving = "no controller answered"
        if member.leaving is not None:
            log.error("could not register: %s", member.leaving)
            return 1
        log.info("Completed registration with id %s", member.id)
        namespace = Namespace(member.id)
        runner = Runner(link, namespace, begun)
        namespace.become_main()
        _start_up(options, namespace)
        plain = sys.stdout, sys.stderr
        sys.stdout = Stream("stdout", runner.outputs, plain[0])
        sys.stderr = Stream("stderr", runner.outputs, plain[1])
        gc.set_threshold(20_000, 20, 50)
        try:
            reason = runner.serve()
        finally:
            sys.stdout, sys.stderr = plain
        log.info("engine=%s leaving: %s", member.id, reason)
        member.say(Bye(reason))
        return 0
    finally:
        link.line.close()
        link.sharing.pool.close()


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
