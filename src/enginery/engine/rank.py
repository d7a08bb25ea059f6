"""A process that mpiexec started: the one engine of a host of its own, with its nanny as a child."""

from __future__ import annotations

import logging
import os
from dataclasses import replace
from typing import TYPE_CHECKING

from enginery.engine import children, nanny
from enginery.engine.begun import shared_cells
from enginery.engine.deposit import folder_for
from enginery.engine.keepers import ParentKeeper
from enginery.engine.program import run_engine

if TYPE_CHECKING:
    from enginery.engine.children import EngineMain
    from enginery.engine.options import EngineOptions

log = logging.getLogger(__name__)


def run_beside_nanny(options: EngineOptions, *, engine_main: EngineMain = run_engine) -> int:
    """Be the one engine itself, with its nanny as a child: for processes that mpiexec started.

    The nanny is forked before anything else, since MPI does not bear forks once it runs. Returns the engine's exit code,
    and the caller ends the interpreter in the usual way so that MPI_Finalize is called.
    """
    folder = folder_for(options)
    options = replace(options, segments=str(folder.path) if folder is not None else "")
    uuid, pid = children.new_uuid(), os.getpid()
    (cell,) = shared_cells(1)

    def be_nanny() -> int:
        os.setpgid(0, 0)  # mpiexec kills groups, and somebody has to tell of the engine's end and to tidy up
        children.begin_as_nanny()
        keeper = ParentKeeper(uuid, pid, cell, owner=options.owner_pid, stop_timeout=options.stop_timeout)
        nanny.watch_over(keeper, options, [uuid], folder)
        return 0

    if children.can_fork():
        children.fork(be_nanny)
    else:
        log.warning("this process runs threads already, so its engine has no nanny: deaths are found by silence")
    children.settle(options)
    try:
        cell.code = code = engine_main(options, uuid=uuid, begun=cell)
    finally:
        if folder is not None and os.getpid() == pid:  # else user code has forked
            folder.leave()  # its nanny does the same, unless it was killed
    return code
