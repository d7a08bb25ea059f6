"""Launchers for MPI: one mpiexec whose ranks are the engines, and one that runs the controller."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Any, Final

from traitlets import List, Unicode

from enginery.cluster.launchers.base import EngineLauncher
from enginery.cluster.launchers.local import LocalControllerLauncher, LocalProcessLauncher

if TYPE_CHECKING:
    from collections.abc import Sequence

#: How mpiexec and its kin are told how many ranks to start.
COUNTS: Final = frozenset({"-n", "-np", "--n", "--np", "-c", "--ntasks"})
#: Open MPI passes on to other hosts only the variables it is told to. Other mpiexecs pass on all, and ignore this.
PASSED_ON: Final = "OMPI_MCA_mca_base_env_list"
#: A rank leaves with the daemon of MPI that started it: an mpiexec that is killed, or told twice to end, leaves ranks behind.
BOUND: Final = ("--owner-pid=-1",)
LEASH: Final = (sys.executable, "-m", "enginery.cluster.launchers.leash")


class MPILauncher(LocalProcessLauncher):
    """A program started by mpiexec."""

    needs_network = True

    mpi_cmd = List(Unicode(), ["mpiexec"], help="The command that starts MPI jobs, such as mpirun.").tag(config=True)
    mpi_args = List(Unicode(), help="Its arguments, such as ['--hostfile', 'hosts'].").tag(config=True)
    ranks = 1

    @property
    def program_args(self) -> list[str]:
        """What each rank runs."""
        return [*super().find_args(), *BOUND]

    def find_args(self) -> list[str]:
        """The mpiexec command with the number of ranks, unless it is told otherwise, then the program."""
        told = [*self.mpi_cmd[1:], *self.mpi_args]
        count = [] if COUNTS.intersection(told) else ["-n", str(self.ranks)]
        return [*self.mpi_cmd, *count, *self.mpi_args, *self.program_args]

    def leashed(self, args: Sequence[str]) -> list[str]:
        """The command line under a program that ends mpiexec when this process is gone."""
        return [*LEASH, *self.owner_args, "--", *args] if self.owned and hasattr(os, "pidfd_open") else list(args)

    def get_env(self) -> dict[str, str]:
        """As of every launcher, and which variables are for ranks on other hosts as well."""
        environment = super().get_env()
        names = [os.environ.get(PASSED_ON, ""), *(name for name in environment if name != PASSED_ON)]
        return {PASSED_ON: ";".join(filter(None, names)), **environment}


class MPIControllerLauncher(MPILauncher, LocalControllerLauncher):
    """A controller started by mpiexec. It reports through its standard output when it is ready."""

    def start(self, n: int | None = None) -> None:  # noqa: ARG002 - for engines
        """Start the controller; ``get_connection_info`` waits until it is ready."""
        self.output_file = self.log_file("ipcontroller", os.getpid())
        # mpiexec hands on standard streams and no other descriptors.
        self.start_and_listen(self.leashed(self.args), stdout=True)


class MPIEngineSetLauncher(MPILauncher, EngineLauncher):
    """Engines that are the ranks of one MPI job, in the order of ranks."""

    @property
    def ranks(self) -> int:  # type: ignore[override]  # a constant for those who start one
        """How many engines there are to be."""
        return self.n

    @property
    def program_args(self) -> list[str]:
        """The command of a rank, with the user's arguments."""
        return [*self.engine_cmd, *self.cluster_args, "--mpi", *BOUND, *self.engine_args]

    def start(self, n: int | None = None) -> None:
        """Start the ranks."""
        self.n = self.n if n is None else n
        self.output_file = self.log_file("ipengine", self.engine_set_id or os.getpid())
        self.launch(self.leashed(self.args), self.output_file)

    def engine_pids(self) -> frozenset[int]:
        """None that are known here: they may be on any host, and mpiexec passes on few signals."""
        return frozenset()

    def to_dict(self) -> dict[str, Any]:
        """What another process needs to take over."""
        return {**super().to_dict(), "n": self.n, "engine_set_id": self.engine_set_id}


#: Their names of the first generations.
MPIExecLauncher = MPILauncher
MPIExecControllerLauncher = MPIControllerLauncher
MPIExecEngineSetLauncher = MPIEngineSetLauncher
