"""The launchers of each batch system by name: ``{system}Launcher`` configures both kinds, as in ``c.PBSLauncher.queue``."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final

from traitlets import Enum, Unicode

from enginery.cluster.launchers import batch_systems
from enginery.cluster.launchers.batch import BatchControllerLauncher, BatchEngineSetLauncher, BatchSystemLauncher
from enginery.cluster.launchers.batch_commands import run
from enginery.errors import LauncherError

if TYPE_CHECKING:
    from enginery.cluster.launchers.batch_script import Directive
    from enginery.cluster.launchers.batch_systems import BatchSystem


class SlurmLauncher(BatchSystemLauncher):
    """A program in a job of Slurm. ``queue`` is its partition."""

    usual_system = batch_systems.SLURM

    account = Unicode("", help="Account the job is charged to.").tag(config=True)
    qos = Unicode("", help="Quality of service.").tag(config=True)
    timelimit = Unicode("", help="Longest time the job may run, as D-HH:MM:SS or minutes.").tag(config=True)
    options = Unicode("", help="Further options of sbatch, as in '--mem=4G --constraint=fast'.").tag(config=True)

    def further_variables(self) -> dict[str, Any]:
        """Slurm's own settings."""
        return {name: getattr(self, name) for name in batch_systems.SLURM_SETTINGS}

    def directives(self, *, is_array: bool) -> list[Directive]:
        """As of every system, and a line for each of Slurm's own settings that is set."""
        settings = [line for name, line in batch_systems.SLURM_SETTINGS.items() if getattr(self, name)]
        return [*super().directives(is_array=is_array), *settings]


class SlurmControllerLauncher(SlurmLauncher, BatchControllerLauncher):
    """A controller in a job of Slurm."""


class SlurmEngineSetLauncher(SlurmLauncher, BatchEngineSetLauncher):
    """Engines in a job of Slurm: one task each."""


class PBSLauncher(BatchSystemLauncher):
    """A program in a job of PBS: OpenPBS, PBS Professional or Torque."""

    usual_system = batch_systems.OPENPBS

    dialect = Enum(
        ("", "openpbs", "torque"), default_value="", help="Which PBS it is (default: ask `qstat --version`)."
    ).tag(config=True)

    @property
    def system(self) -> BatchSystem:
        """OpenPBS or Torque."""
        return batch_systems.TORQUE if self.find_dialect() == "torque" else batch_systems.OPENPBS

    def find_dialect(self) -> str:
        """``openpbs`` or ``torque``: as configured, or by how qstat tells its version."""
        if not self.dialect:
            try:
                answer = run(["qstat", "--version"], environment={}, timeout=self.command_timeout)
            except LauncherError:  # the submit command will be missing as well, and says so
                return "openpbs"
            # OpenPBS says "pbs_version = 23.06.06", Torque "Version: 6.1.2".
            self.dialect = (
                "torque" if re.search(r"^\s*version:", answer.all, re.MULTILINE | re.IGNORECASE) else "openpbs"
            )
        return str(self.dialect)


class PBSControllerLauncher(PBSLauncher, BatchControllerLauncher):
    """A controller in a job of PBS."""


class PBSEngineSetLauncher(PBSLauncher, BatchEngineSetLauncher):
    """Engines in an array of jobs of PBS."""


class SGELauncher(BatchSystemLauncher):
    """A program in a job of Grid Engine."""

    usual_system = batch_systems.SGE


class SGEControllerLauncher(SGELauncher, BatchControllerLauncher):
    """A controller in a job of Grid Engine."""


class SGEEngineSetLauncher(SGELauncher, BatchEngineSetLauncher):
    """Engines in an array of jobs of Grid Engine."""


class LSFLauncher(BatchSystemLauncher):
    """A program in a job of LSF."""

    usual_system = batch_systems.LSF


class LSFControllerLauncher(LSFLauncher, BatchControllerLauncher):
    """A controller in a job of LSF."""


class LSFEngineSetLauncher(LSFLauncher, BatchEngineSetLauncher):
    """Engines in an array of jobs of LSF."""


class HTCondorLauncher(BatchSystemLauncher):
    """A program in a job of HTCondor. ``queue`` is its accounting group."""

    usual_system = batch_systems.HTCONDOR


class HTCondorControllerLauncher(HTCondorLauncher, BatchControllerLauncher):
    """A controller in a job of HTCondor."""


class HTCondorEngineSetLauncher(HTCondorLauncher, BatchEngineSetLauncher):
    """Engines in a cluster of jobs of HTCondor."""


#: What can be configured here.
LAUNCHERS: Final = (
    SlurmControllerLauncher,
    SlurmEngineSetLauncher,
    PBSControllerLauncher,
    PBSEngineSetLauncher,
    SGEControllerLauncher,
    SGEEngineSetLauncher,
    LSFControllerLauncher,
    LSFEngineSetLauncher,
    HTCondorControllerLauncher,
    HTCondorEngineSetLauncher,
)
