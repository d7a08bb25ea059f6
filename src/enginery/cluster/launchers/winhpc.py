"""Launchers for Windows HPC Server: jobs are XML documents made from traits, submitted by the command ``job``."""

from __future__ import annotations

import subprocess
import xml.etree.ElementTree as ET
from typing import TYPE_CHECKING, Any, Final

from traitlets import Bool, Dict, Enum, Integer, List, Unicode
from traitlets.config import Configurable

from enginery.cluster.launchers import batch_systems
from enginery.cluster.launchers.batch import BatchControllerLauncher, BatchEngineSetLauncher, BatchSystemLauncher

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

NAMESPACE: Final = "http://schemas.microsoft.com/HPCS2008/scheduler/"
UNITS: Final = ("Core", "Node", "Socket")


class WinHPCResources(Configurable):
    """How much a job or a task takes."""

    unit_type = Enum(UNITS, default_value="Core", help="What is counted.").tag(config=True)
    min_cores = Integer(1, help="Fewest cores.").tag(config=True)
    max_cores = Integer(1, help="Most cores.").tag(config=True)
    min_sockets = Integer(1, help="Fewest sockets.").tag(config=True)
    max_sockets = Integer(1, help="Most sockets.").tag(config=True)
    min_nodes = Integer(1, help="Fewest nodes.").tag(config=True)
    max_nodes = Integer(1, help="Most nodes.").tag(config=True)

    def resources(self) -> dict[str, Any]:
        """The attributes that say so, of the unit that is counted."""
        unit = f"{self.unit_type}s"
        return {
            "UnitType": self.unit_type,
            **{f"{end.title()}{unit}": getattr(self, f"{end}_{unit.lower()}") for end in ("min", "max")},
        }


class WinHPCTask(WinHPCResources):
    """A task of a job: one process."""

    task_name = Unicode("", help="Name of the task.").tag(config=True)
    is_parametric = Bool(False, help="Whether it stands for many tasks.").tag(config=True)
    is_rerunnaable = Bool(True, help="Whether it may run again after a failure.").tag(config=True)
    std_out_file_path = Unicode("", help="Where output goes (default: the launcher's file).").tag(config=True)
    std_err_file_path = Unicode("", help="Where errors go (default: the same file).").tag(config=True)
    work_directory = Unicode("", help="Folder it runs in.").tag(config=True)
    environment_variables = Dict(help="Further environment variables.").tag(config=True)

    def element(self, command: list[str], output: str, environment: Mapping[str, str]) -> ET.Element:
        """The task as XML."""
        out = self.std_out_file_path or output
        attributes = {
            "Name": self.task_name,
            **self.resources(),
            "IsParametric": self.is_parametric,
            "IsRerunnable": self.is_rerunnaable,
            "CommandLine": subprocess.list2cmdline(command),
            "StdOutFilePath": out,
            "StdErrFilePath": self.std_err_file_path or out,
            "WorkDirectory": self.work_directory,
        }
        task = ET.Element("Task", _text_of(attributes))
        variables = ET.SubElement(task, "EnvironmentVariables")
        for name, value in {**environment, **self.environment_variables}.items():
            variable = ET.SubElement(variables, "Variable")
            ET.SubElement(variable, "Name").text = name
            ET.SubElement(variable, "Value").text = value
        return task


class IPControllerTask(WinHPCTask):
    """The controller's task."""

    controller_cmd = List(Unicode(), help="The command (default: the launcher's).").tag(config=True)
    controller_args = List(Unicode(), help="Further arguments.").tag(config=True)

    def command(self, usual: list[str], arguments: list[str]) -> list[str]:
        """The command line."""
        return [*(self.controller_cmd or usual), *arguments, *self.controller_args]


class IPEngineTask(WinHPCTask):
    """The task of one engine."""

    engine_cmd = List(Unicode(), help="The command (default: the launcher's).").tag(config=True)
    engine_args = List(Unicode(), help="Further arguments.").tag(config=True)

    def command(self, usual: list[str], arguments: list[str]) -> list[str]:
        """The command line."""
        return [*(self.engine_cmd or usual), *arguments, *self.engine_args]


class WinHPCJob(WinHPCResources):
    """A job: a set of tasks."""

    job_name = Unicode("", help="Name of the job.").tag(config=True)
    job_type = Unicode("Batch", help="Type of the job.").tag(config=True)
    priority = Unicode("Highest", help="Priority, from Lowest to Highest.").tag(config=True)
    auto_calculate_min = Bool(True, help="Let the scheduler find the least it takes.").tag(config=True)
    auto_calculate_max = Bool(True, help="Let the scheduler find the most it takes.").tag(config=True)
    run_until_canceled = Bool(False, help="Go on when all tasks have ended.").tag(config=True)
    is_exclusive = Bool(False, help="Share nodes with nobody.").tag(config=True)
    username = Unicode("", help="Whose job it is.").tag(config=True)
    requested_nodes = Unicode("", help="Nodes to run on, by comma.").tag(config=True)
    project = Unicode("IPython", help="Project it belongs to.").tag(config=True)

    def document(self, tasks: list[ET.Element]) -> str:
        """The job with its tasks as XML."""
        attributes = {
            "xmlns": NAMESPACE,
            "Version": "2.000",
            "Name": self.job_name,
            "JobType": self.job_type,
            "Priority": self.priority,
            **self.resources(),
            "AutoCalculateMin": self.auto_calculate_min,
            "AutoCalculateMax": self.auto_calculate_max,
            "RunUntilCanceled": self.run_until_canceled,
            "IsExclusive": self.is_exclusive,
            "UserName": self.username,
            "RequestedNodes": self.requested_nodes,
            "Project": self.project,
        }
        job = ET.Element("Job", _text_of(attributes))
        ET.SubElement(job, "Tasks").extend(tasks)
        ET.indent(job)
        return '<?xml version="1.0" encoding="utf-8"?>\n' + ET.tostring(job, encoding="unicode") + "\n"


class IPControllerJob(WinHPCJob):
    """The controller's job."""

    job_name = Unicode("IPController", help="Name of the job.").tag(config=True)


class IPEngineSetJob(WinHPCJob):
    """The job of a set of engines."""

    job_name = Unicode("IPEngineSet", help="Name of the job.").tag(config=True)


class WindowsHPCLauncher(BatchSystemLauncher):
    """A program in a job of Windows HPC Server."""

    usual_system = batch_systems.WINDOWS_HPC

    job_cmd = Unicode("job", help="The command of the scheduler.").tag(config=True)
    scheduler = Unicode("", help="Host name of the head node.").tag(config=True)
    job_file_name = Unicode("", help="Where the XML is written; another name for batch_file_name.").tag(config=True)

    @property
    def scheduler_arguments(self) -> list[str]:
        """The argument that names the head node."""
        return [f"/scheduler:{self.scheduler}"] if self.scheduler else []

    def script_path(self) -> Path:
        """As of every system; ``job_file_name`` is understood as well."""
        self.batch_file_name = self.batch_file_name or self.job_file_name
        return super().script_path()

    def submit_arguments(self, script: Path) -> list[str]:
        """``job submit /jobfile:F /scheduler:S``."""
        return [self.job_cmd, "submit", f"/jobfile:{script}", *self.scheduler_arguments]

    def delete_arguments(self) -> list[str]:
        """``job cancel 12 /scheduler:S``."""
        return [self.job_cmd, "cancel", self.identifier, *self.scheduler_arguments]

    def ask(self, command: Any, script: Any = None, setting: str = "") -> Any:
        """As of every system; queries name the head node, too."""
        if command[:2] == ["job", "view"]:
            command = [self.job_cmd, *command[1:], *self.scheduler_arguments]
        return super().ask(command, script, "job_cmd" if setting == "submit_command" else setting)


class WindowsHPCControllerLauncher(WindowsHPCLauncher, BatchControllerLauncher):
    """A controller in a job of Windows HPC Server."""

    def make_script(self, n: int) -> str:  # noqa: ARG002 - there is one controller
        """The job as XML."""
        task = IPControllerTask(parent=self)
        arguments = self.args[len(self.program) :]
        return IPControllerJob(parent=self).document(
            [task.element(task.command(self.program, arguments), self.output_file, self.get_env())]
        )


class WindowsHPCEngineSetLauncher(WindowsHPCLauncher, BatchEngineSetLauncher):
    """Engines in a job of Windows HPC Server, a task each."""

    def make_script(self, n: int) -> str:
        """The job as XML."""
        task = IPEngineTask(parent=self)
        command = task.command(self.program, self.args[len(self.program) :])
        return IPEngineSetJob(parent=self).document(
            [task.element(command, f"{self.output_file}.{index}", self.get_env()) for index in range(n)]
        )


#: What can be configured here.
LAUNCHERS: Final = (
    WindowsHPCControllerLauncher,
    WindowsHPCEngineSetLauncher,
    IPControllerJob,
    IPEngineSetJob,
    IPControllerTask,
    IPEngineTask,
)


def _text_of(attributes: Mapping[str, Any]) -> dict[str, str]:
    """Attributes as XML has them; what is empty is left out."""
    return {
        name: str(value).lower() if isinstance(value, bool) else str(value)
        for name, value in attributes.items()
        if value not in {"", None}
    }
