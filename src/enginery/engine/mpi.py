"""The MPI job an engine is a rank of: found in the environment, and entered by MPI_Init before the engine joins."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Final, NamedTuple

from enginery.descriptions import describe_exception

if TYPE_CHECKING:
    from collections.abc import Mapping

    from enginery.engine.namespace import Namespace
    from enginery.engine.options import EngineOptions

log = logging.getLogger("enginery.engine")

#: Variables in which starters of MPI jobs tell a process its rank and how many ranks there are: Open MPI, MPICH and
#: Intel MPI (Hydra), MVAPICH, PMIx.
VARIABLES: Final = (
    ("OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE"),
    ("PMI_RANK", "PMI_SIZE"),
    ("MV2_COMM_WORLD_RANK", "MV2_COMM_WORLD_SIZE"),
    ("PMIX_RANK", ""),
)
#: The same of a starter whose tasks need not be ranks of anything.
SLURM: Final = ("SLURM_PROCID", "SLURM_NTASKS")
#: Variables that name the job, where its starter gives it a name.
JOBS: Final = ("PMIX_NAMESPACE", "OMPI_MCA_ess_base_jobid")
#: What is run to call MPI_Init, unless the user says otherwise.
INIT: Final = """\
from mpi4py import MPI
mpi_rank = MPI.COMM_WORLD.Get_rank()
mpi_size = MPI.COMM_WORLD.Get_size()
"""


class Rank(NamedTuple):
    """One process of an MPI job. ``ranks`` is 0 and ``job`` empty where the starter does not say."""

    rank: int
    ranks: int
    job: str


def find_rank(environment: Mapping[str, str], *, told: bool) -> Rank | None:
    """What a process is, by its environment; None if it is no rank.

    ``told``: the user says that it is one, so that what Slurm sets for every task counts as well.
    """
    for variable, total in (*VARIABLES, *([SLURM] if told else [])):
        rank, ranks = environment.get(variable, ""), environment.get(total, "")
        if rank.isdigit():
            job = next((environment[each] for each in JOBS if environment.get(each)), "")
            return Rank(int(rank), int(ranks) if ranks.isdigit() else 0, job)
    return None


def start(options: EngineOptions, namespace: Namespace) -> bool:
    """Run the code that calls MPI_Init in the user's namespace; whether this process is what it is meant to be.

    Without mpi4py an engine is one all the same: programs that do without may be started by mpiexec as well.
    """
    try:
        namespace.execute(compile(options.init_mpi, "<init_mpi>", "exec"), options.init_mpi)
    except ModuleNotFoundError as error:
        if error.name != "mpi4py":
            return _failed(error)
        log.warning(
            "MPI is not initialised: mpi4py is not installed for %s. Install it there, or set IPEngine.init_mpi.",
            namespace.executable(),
        )
    except Exception as error:  # the user's code, or a library that does not find its parts
        return _failed(error)
    namespace.adopt()
    size = namespace.variables.get("mpi_size", 0)
    if options.ranks and size and size != options.ranks:
        library = namespace.variables.get("MPI")
        name = str(library.Get_library_version()).partition("\n")[0].strip("\0 ") if library is not None else "its MPI"
        log.error(
            "mpiexec started %d ranks, but MPI_COMM_WORLD has %s: mpi4py uses %s, which is not the MPI of that mpiexec. "
            "Name the matching mpiexec in MPILauncher.mpi_cmd, or install mpi4py for the MPI that is used.",
            options.ranks,
            size,
            name,
        )
        return False
    return True


def _failed(error: Exception) -> bool:
    log.error("MPI could not be initialised (IPEngine.init_mpi): %s", "".join(describe_exception(error)[2]))
    return False
