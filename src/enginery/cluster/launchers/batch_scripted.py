"""The part of a batch launcher that makes the script: its template, what fills it in, and where it is written."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from traitlets import Dict, Unicode, default

from enginery.cluster.launchers import batch_files, batch_systems
from enginery.cluster.launchers.base import BaseLauncher
from enginery.cluster.launchers.batch_script import Directive, insert, mentions, render
from enginery.cluster.launchers.batch_variables import script_variables
from enginery.errors import LauncherError
from enginery.net import profile_paths

if TYPE_CHECKING:
    from enginery.cluster.launchers.batch_systems import BatchSystem


class ScriptedLauncher(BaseLauncher):
    """A program that is started by a script of its own."""

    #: What is particular to the system, for launchers of this class.
    usual_system: ClassVar[BatchSystem] = batch_systems.OTHER
    #: Engines on other hosts need a controller that listens for them.
    needs_network = True
    #: ``controller`` or ``engine``.
    part: ClassVar[str] = "engine"

    batch_template = Unicode("", help="Template of the script; wins over batch_template_file.").tag(config=True)
    batch_template_file = Unicode("", help="File with the template of the script.").tag(config=True)
    batch_file_name = Unicode(
        "", help="Where the script is written (default: a name of its own in the profile's log folder)."
    ).tag(config=True)
    queue = Unicode("", help="Queue (partition) the job is submitted to (default: the system's).").tag(config=True)
    namespace = Dict(help="Further variables for the template.").tag(config=True)
    output_file = Unicode("", help="Where the job's output goes (default: in the profile's log folder).").tag(
        config=True
    )
    job_array_regexp = Unicode(help="Finds the line that makes the job an array.").tag(config=True)
    job_array_template = Unicode(help="The line that makes the job an array of {n}.").tag(config=True)
    queue_regexp = Unicode(help="Finds the line that chooses the queue.").tag(config=True)
    queue_template = Unicode(help="The line that chooses the {queue}.").tag(config=True)
    output_regexp = Unicode(help="Finds the line that says where output goes.").tag(config=True)
    output_template = Unicode(help="The line that sends output to {output_file}.").tag(config=True)

    @property
    def system(self) -> BatchSystem:
        """What is particular to the system."""
        return self.usual_system

    @default("job_array_regexp")
    def _default_job_array_regexp(self) -> str:
        return self.system.array.regexp

    @default("job_array_template")
    def _default_job_array_template(self) -> str:
        return self.system.array.template

    @default("queue_regexp")
    def _default_queue_regexp(self) -> str:
        return self.system.queue.regexp

    @default("queue_template")
    def _default_queue_template(self) -> str:
        return self.system.queue.template

    @default("output_regexp")
    def _default_output_regexp(self) -> str:
        return self.system.output.regexp

    @default("output_template")
    def _default_output_template(self) -> str:
        return self.system.output.template

    # --- the script -------------------------------------------------------------------------------------------------

    @property
    def default_template(self) -> str:
        """The template used if the configuration has none."""
        controller, engines = self.system.controller_template, self.system.engine_template
        return controller if self.part == "controller" else engines

    def find_template(self) -> str:
        """The template: the configured text, else the configured file, else the default.

        Raises LauncherError if the file cannot be read.
        """
        if self.batch_template or not self.batch_template_file:
            return self.batch_template or self.default_template
        try:
            return Path(self.batch_template_file).expanduser().read_text(encoding="utf-8")
        except (OSError, ValueError) as error:
            msg = (
                f"Cannot read the template {self.batch_template_file!r}: {error}. It is looked for from {str(Path.cwd())!r}; "
                f"set {type(self).__name__}.batch_template_file to its whole path."
            )
            raise LauncherError(msg) from error

    def make_script(self, n: int) -> str:
        """The text of the script for ``n`` engines. Raises LauncherError for a template that cannot be filled in."""
        template = self.find_template()
        script = self.complete(template, n)
        try:
            return render(script, script_variables(self, n))
        except ValueError as error:
            source = self.batch_template_file if not self.batch_template else f"{type(self).__name__}.batch_template"
            msg = f"Cannot make the script from {source or 'the default template'}: {error}"
            raise LauncherError(msg) from error

    def complete(self, template: str, n: int) -> str:
        """The template with the lines it lacks: where output goes, the queue if one is set, and the array.

        A template that says by ``{n}`` itself how many engines there are gets no array.
        """
        array = Directive(
            self.job_array_regexp, self.job_array_template, self.system.array.amend, self.system.array.at_end
        )
        is_array = bool(array.regexp and re.search(array.regexp, template, re.MULTILINE))
        wants_array = self.part == "engine" and n > 1 and not mentions(template, "n")
        if array.template and not is_array and (wants_array or array.at_end):
            is_array = True
            template = insert(template, array)
        for directive in reversed(self.directives(is_array=is_array)):
            template = insert(template, directive)
        return template

    def directives(self, *, is_array: bool) -> list[Directive]:
        """Lines the script shall have, besides the one for an array."""
        output = Directive(self.output_regexp, self.output_template)
        if is_array and self.system.array_output is not None and output == self.system.output:
            output = self.system.array_output
        found = [Directive(self.queue_regexp, self.queue_template)] if self.queue else []
        return [each for each in (*found, output) if each.template]

    @property
    def own_name(self) -> str:
        """What tells files of this launcher from those of others."""
        return "-".join(filter(None, (self.cluster_id, getattr(self, "engine_set_id", ""))))

    @property
    def program(self) -> list[str]:
        """The command without its arguments."""
        raise NotImplementedError

    def further_variables(self) -> dict[str, Any]:
        """Variables of the template that only this system has."""
        return {}

    def script_path(self) -> Path:
        """Where the script is written."""
        if self.batch_file_name:
            return Path(self.batch_file_name).expanduser().absolute()
        name = Path(self.system.file_names[self.part == "engine"])
        own = "-".join(filter(None, (name.stem, self.own_name)))
        return profile_paths.profile_folder(profile_dir=self.profile_dir) / "log" / f"{own}{name.suffix}"

    def write_script(self, text: str) -> Path:
        """Write the script, for the owner's eyes only. Raises LauncherError if that cannot be."""
        path = self.script_path()
        try:
            batch_files.write_script(path, text, self.system.script_mode)
        except OSError as error:
            msg = (
                f"Cannot write the batch script {str(path)!r}: {error.strerror or error}. Make room there, or choose "
                f"another place with {type(self).__name__}.batch_file_name."
            )
            raise LauncherError(msg) from error
        return path
