"""The batch systems, one entry each: commands, ids, templates, directives, and how their answers are read. No I/O."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Final

from enginery.cluster.launchers import batch_states as states
from enginery.cluster.launchers.batch_script import Directive

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from enginery.cluster.launchers.batch_states import Part

Command = tuple[str, ...]
#: What stands for the job's id in a command.
JOB: Final = "<job>"


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchSystem:
    """What is particular to one batch system."""

    name: str  #: as people call it
    submit: Command
    delete: Command
    signal: Command = ()  #: followed by the signal's number and the id; empty: it cannot
    #: commands that tell the state of a job, the next where one fails, and who reads their answer (text, id)
    query: tuple[Command, ...]
    read: Callable[[str, str], list[Part]]
    reason: Command = ()  #: asked for pending jobs, if the query does not say why
    read_reason: Callable[[str], str] = str
    end: Command = ()  #: asked once the job is not in the queue any more, or its end came without an exit code
    read_end: Callable[[str], list[Part]] = field(default=lambda _text: [])
    end_patience: float = 0.0  #: seconds until accounts are written
    gone: str = ""  #: what a query says of a job that is not there, as a regular expression
    job_id: str = r"\d+"
    job_id_group: int = 0
    script_through_stdin: bool = False
    script_mode: int = 0o700
    file_names: tuple[str, str]  #: of the controller's and the engines' scripts
    controller_template: str
    engine_template: str
    #: lines inserted where a script has none
    array: Directive
    queue: Directive
    output: Directive
    array_output: Directive | None = None  #: where each task of an array needs a file of its own
    environment: Mapping[str, str] = field(default_factory=dict)


def _shell(*lines: str) -> str:
    return "\n".join(["#!/bin/sh", *lines, ""])


# --- Slurm --------------------------------------------------------------------------------------------------------

SLURM: Final = BatchSystem(
    name="Slurm",
    submit=("sbatch",),
    delete=("scancel",),
    signal=("scancel", "-s"),
    job_id=r"(?:Submitted batch job |^)(\d+)",
    job_id_group=1,
    query=(
        (
            "squeue",
            "--noheader",
            "--array",
            "--states=all",
            f"--jobs={JOB}",
            "--Format",
            ",".join(f"{name}:|" for name in states.SLURM_FIELDS),
        ),
    ),
    read=lambda text, _job: states.read_slurm(text),
    gone="Invalid job id",
    file_names=("slurm_controller.sbatch", "slurm_engine.sbatch"),
    controller_template=_shell(
        "#SBATCH --export=ALL",
        "#SBATCH --job-name=ipcontroller-{cluster_id}",
        "#SBATCH --ntasks=1",
        "exec {program_and_args}",
    ),
    # One engine that fails shall not take the others with it.
    engine_template=_shell(
        "#SBATCH --export=ALL",
        "#SBATCH --job-name=ipengine-{cluster_id}",
        "#SBATCH --ntasks={n}",
        "exec srun --kill-on-bad-exit=0 {program_and_args}",
    ),
    array=Directive(r"^#SBATCH\s+(.*\s)?(--ntasks|--array|-n|-a)\b", "#SBATCH --array=1-{n}"),
    queue=Directive(r"^#SBATCH\s+(.*\s)?(--partition|-p)\b", "#SBATCH --partition={queue}"),
    output=Directive(r"^#SBATCH\s+(.*\s)?(--output|-o)\b", "#SBATCH --output={output_file}"),
)
#: Further settings of Slurm: trait and its directive.
SLURM_SETTINGS: Final = {
    "account": Directive(r"^#SBATCH\s+(.*\s)?(--account|-A)\b", "#SBATCH --account={account}"),
    "qos": Directive(r"^#SBATCH\s+(.*\s)?(--qos|-q)\b", "#SBATCH --qos={qos}"),
    "timelimit": Directive(r"^#SBATCH\s+(.*\s)?(--time|-t)\b", "#SBATCH --time={timelimit}"),
    "options": Directive(r"\{options\}", "#SBATCH {options}"),
}

# --- PBS ----------------------------------------------------------------------------------------------------------

_PBS_HEAD: Final = ("#PBS -V", "#PBS -j oe")
_PBS_BODY: Final = ('cd "$PBS_O_WORKDIR"', "{program_and_args}")
_PBS_OUTPUT: Final = r"^#PBS\s+(.*\s)?-o\b"

OPENPBS: Final = BatchSystem(
    name="PBS",
    submit=("qsub",),
    delete=("qdel",),
    signal=("qsig", "-s"),
    job_id=r"\d+(\[\])?(\.[\w.-]+)?",
    # Servers that keep no history refuse -x.
    query=(("qstat", "-t", "-x", "-f", "-F", "json", JOB), ("qstat", "-t", "-f", "-F", "json", JOB)),
    read=lambda text, _job: states.read_openpbs(text),
    gone="Unknown Job Id|has finished",
    file_names=("pbs_controller", "pbs_engines"),
    controller_template=_shell(*_PBS_HEAD, "#PBS -N ipcontroller", *_PBS_BODY),
    engine_template=_shell(*_PBS_HEAD, "#PBS -N ipengine", *_PBS_BODY),
    array=Directive(r"^#PBS\s+(.*\s)?-[Jt]\s", "#PBS -J 1-{n}"),
    queue=Directive(r"^#PBS\s+(.*\s)?-q\b", "#PBS -q {queue}"),
    output=Directive(_PBS_OUTPUT, "#PBS -o {output_file}"),
    # The slash makes it a folder, in which each task gets a file named after its id.
    array_output=Directive(_PBS_OUTPUT, "#PBS -o {output_folder}/"),
)
TORQUE: Final = replace(
    OPENPBS,
    name="Torque",
    query=(("qstat", "-t", "-f", JOB),),
    read=lambda text, _job: states.read_torque(text),
    array=Directive(OPENPBS.array.regexp, "#PBS -t 1-{n}"),
)

# --- Grid Engine --------------------------------------------------------------------------------------------------

_SGE_HEAD: Final = ("#$ -V", "#$ -S /bin/sh", "#$ -cwd", "#$ -j y")

SGE: Final = BatchSystem(
    name="Grid Engine",
    submit=("qsub",),
    delete=("qdel",),
    job_id=r"(?:job |job-array |^)(\d+)",
    job_id_group=1,
    query=(("qstat", "-xml"),),
    read=states.read_sge,
    reason=("qstat", "-j", JOB),
    read_reason=states.read_sge_reason,
    end=("qacct", "-j", JOB),
    read_end=states.read_sge_end,
    # It writes accounts every 15 s unless told otherwise; longer is too long for somebody who waits for engines.
    end_patience=5.0,
    file_names=("sge_controller", "sge_engines"),
    controller_template=_shell(*_SGE_HEAD, "#$ -N ipcontroller", "exec {program_and_args}"),
    engine_template=_shell(*_SGE_HEAD, "#$ -N ipengine", "exec {program_and_args}"),
    array=Directive(r"^#\$\s+(.*\s)?-t\s", "#$ -t 1-{n}"),
    queue=Directive(r"^#\$\s+(.*\s)?-q\b", "#$ -q {queue}"),
    output=Directive(r"^#\$\s+(.*\s)?-o\b", "#$ -o {output_file}"),
)

# --- LSF ----------------------------------------------------------------------------------------------------------

LSF: Final = BatchSystem(
    name="LSF",
    submit=("bsub",),
    delete=("bkill",),
    signal=("bkill", "-s"),
    job_id=r"Job <(\d+)>",
    job_id_group=1,
    query=(("bjobs", "-a", "-w", JOB),),
    read=lambda text, _job: states.read_lsf(text),
    reason=("bjobs", "-l", JOB),
    read_reason=states.read_lsf_reason,
    end=("bjobs", "-l", JOB),
    read_end=states.read_lsf_end,
    gone="is not found|No matching job",
    script_through_stdin=True,
    file_names=("lsf_controller", "lsf_engines"),
    controller_template=_shell("#BSUB -J ipcontroller", "exec {program_and_args}"),
    engine_template=_shell("exec {program_and_args}"),
    # Of two -J lines the second wins: a name that is there gets the array.
    array=Directive(
        r"^#BSUB\s+(.*\s)?-J\s+\S*\[",
        '#BSUB -J "ipengine[1-{n}]"',
        amend=(r'^(#BSUB\s+(?:.*\s)?-J\s+)"?([\w.{}-]+)"?', r'\1"\2[1-{n}]"'),
    ),
    queue=Directive(r"^#BSUB\s+(.*\s)?-q\b", "#BSUB -q {queue}"),
    # Errors go there as well, since there is no -e.
    output=Directive(r"^#BSUB\s+(.*\s)?-oo?\b", "#BSUB -o {output_file}"),
    environment={"LSB_STDOUT_DIRECT": "Y"},
)

# --- HTCondor -----------------------------------------------------------------------------------------------------

_CONDOR_FIELDS: Final = ("-autoformat", "ClusterId", "ProcId", "JobStatus", "ExitCode")
_CONDOR_TEMPLATE: Final = """\
universe = vanilla
executable = {executable}
arguments = "{arguments}"
environment = "{environment}"
transfer_executable = False
should_transfer_files = NO
"""

HTCONDOR: Final = BatchSystem(
    name="HTCondor",
    submit=("condor_submit",),
    delete=("condor_rm",),
    job_id=r"(\d+)\.$",
    job_id_group=1,
    query=(("condor_q", JOB, *_CONDOR_FIELDS, "HoldReason"),),
    read=lambda text, _job: states.read_condor(text),
    end=("condor_history", JOB, *_CONDOR_FIELDS, "RemoveReason"),
    read_end=states.read_condor,
    # The schedd writes history as soon as a job leaves; its reader may come first.
    end_patience=2.0,
    script_mode=0o600,
    file_names=("htcondor_controller", "htcondor_engines"),
    controller_template=_CONDOR_TEMPLATE,
    engine_template=_CONDOR_TEMPLATE,
    array=Directive(r"^\s*queue\b", "queue {n}", at_end=True),
    queue=Directive(r"(?i)^\s*\+?(accounting_group|queue_name)\s*=", "accounting_group = {queue}"),
    output=Directive(
        r"(?i)^\s*output\s*=",
        "output = {output_file}.$(Process)\nerror = {output_file}.$(Process).err",
    ),
)

# --- Windows HPC Server -------------------------------------------------------------------------------------------

WINDOWS_HPC: Final = BatchSystem(
    name="Windows HPC Server",
    submit=("job", "submit"),
    delete=("job", "cancel"),
    query=(("job", "view", JOB),),
    read=lambda text, _job: states.read_winhpc(text),
    gone="(?i)not found|does not exist|invalid job",
    job_id=r"ID:?\s*(\d+)",
    job_id_group=1,
    script_mode=0o600,
    file_names=("ipcontroller_job.xml", "ipengineset_job.xml"),
    # Its jobs are XML documents, made from traits; see winhpc.py.
    controller_template="",
    engine_template="",
    array=Directive("", ""),
    queue=Directive("", ""),
    output=Directive("", ""),
)

# --- any other ----------------------------------------------------------------------------------------------------

#: A system that is all configured: commands, template and how to find the id. Its jobs are not watched.
OTHER: Final = BatchSystem(
    name="the batch system",
    submit=(),
    delete=(),
    query=(),
    read=lambda _text, _job: [],
    file_names=("batch_controller", "batch_engines"),
    controller_template=_shell("exec {program_and_args}"),
    engine_template=_shell("exec {program_and_args}"),
    array=Directive("", ""),
    queue=Directive("", ""),
    output=Directive("", ""),
)
